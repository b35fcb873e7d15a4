package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/datagram"
	"github.com/isthmus-mesh/isthmus/gateway/udpway"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

// UDPListener is the way in of one UDP service: every address that sends to it has a flow.
type UDPListener struct {
	Address string `yaml:"address"`
	// Service is "name.namespace", or "name" in the default namespace.
	Service string `yaml:"service"`
	// Port is a port name; empty is the only or default port.
	Port string `yaml:"port,omitempty"`
	// Caller is the SPIFFE ID given to whoever sends.
	Caller string `yaml:"caller"`
	// Sources are the source ranges that may send, needed where Address is not on loopback.
	Sources []netip.Prefix `yaml:"sources,omitempty"`
	// IdleTimeout ends a flow on which nothing moved, 1s to 1h; default 1m.
	IdleTimeout time.Duration `yaml:"idle_timeout,omitempty"`
	// FlowsPerSource bounds the flows of one source address; default 1000.
	FlowsPerSource int `yaml:"flows_per_source,omitempty"`
}

// minUDPIdle keeps flows from being opened for each datagram.
const minUDPIdle = time.Second

func (c Config) validateUDP(p *problems) {
	seen := make(map[string]int, len(c.UDP))
	for i, l := range c.UDP {
		at := fmt.Sprintf("listen.udp[%d].", i)
		p.way(at, "address", l.Address, "caller", l.Caller, "sources", l.Sources)
		p.service(at, l.Service, l.Port)
		if l.IdleTimeout != 0 && (l.IdleTimeout < minUDPIdle || l.IdleTimeout > udpway.MaxIdleTimeout) {
			p.add(at+"idle_timeout", l.IdleTimeout.String(), fmt.Sprintf("must be between %v and %v", minUDPIdle, udpway.MaxIdleTimeout))
		}
		if l.FlowsPerSource < 0 {
			p.add(at+"flows_per_source", strconv.Itoa(l.FlowsPerSource), "must be at least 1, or left out")
		}
		if j, dup := seen[l.Address]; dup && !ephemeral(l.Address) {
			p.add(at+"address", l.Address, fmt.Sprintf("is already taken by listen.udp[%d]", j))
		}
		seen[l.Address] = i
		if !ephemeral(l.Address) && (l.Address == c.Link || c.DNS != nil && l.Address == c.DNS.Address) {
			p.add(at+"address", l.Address, "is already taken by listen.link or listen.dns")
		}
	}
}

// bindUDP opens the sockets of UDP services.
func (l *listeners) bindUDP(c Config) error {
	l.udp, l.addrs.UDP = make([]*net.UDPConn, len(c.UDP)), make([]netip.AddrPort, len(c.UDP))
	for i := range c.UDP {
		a, err := netip.ParseAddrPort(c.UDP[i].Address)
		if err != nil {
			return err
		}
		if l.udp[i], err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(a)); err != nil {
			return fmt.Errorf("listen.udp[%d]: %w", i, err)
		}
		if at, ok := l.udp[i].LocalAddr().(*net.UDPAddr); ok {
			l.addrs.UDP[i] = unmapped(at.AddrPort())
		}
	}
	return nil
}

// buildUDP makes the ways in of UDP services.
func (g *Gateway) buildUDP() error {
	for i, l := range g.config.UDP {
		name, err := catalog.ParseServiceName(l.Service)
		if err != nil {
			return err
		}
		way, err := g.enterUDP(fmt.Sprintf("listen.udp[%d]", i), udpway.Options{
			Caller: l.Caller, Sources: l.Sources, Idle: l.IdleTimeout, FlowsPerSource: l.FlowsPerSource,
		})
		if err != nil {
			return err
		}
		way.Listen(g.listeners.udp[i], udpway.Target{Service: name, Port: l.Port})
	}
	return nil
}

// enterUDP adds a way in with what all of its kind share.
func (g *Gateway) enterUDP(field string, o udpway.Options) (*udpway.Way, error) {
	o.Slots = g.slots.Child(g.config.Limits.ConnectionsPerListener)
	o.Router, o.Account, o.Sample, o.Log = g.router, g.account, g.trails.Sample, g.log
	o.Carrier = &datagram.Carrier{Links: g.node, Endpoints: g.endpoints, Metrics: g.datagrams}
	way, err := udpway.New(o)
	if err != nil {
		return nil, err
	}
	g.entrances = append(g.entrances, entrance{field, way})
	return way, nil
}

// virtualFlows are the flows to virtual addresses.
type virtualFlows struct{ *udpway.Socket }

func (f virtualFlows) Retarget(t virtual.Target) { f.Socket.Retarget(udpTarget(t)) }

func udpTarget(t virtual.Target) udpway.Target {
	return udpway.Target{Service: t.Service, Port: t.Port, Pin: t.Cluster}
}
