package gateway

import (
	"net"
	"net/netip"
	"path/filepath"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/carry"
	"github.com/isthmus-mesh/isthmus/gateway/dnsway"
	"github.com/isthmus-mesh/isthmus/gateway/tcpway"
	"github.com/isthmus-mesh/isthmus/gateway/udpway"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

// virtualRange is what virtual addresses are of; the zero value without a DNS way.
func (c Config) virtualRange() netip.Prefix {
	if c.DNS == nil {
		return netip.Prefix{}
	}
	r, _ := netip.ParsePrefix(c.DNS.Virtual.Range) // validated
	return r
}

// buildDNS makes the way in by name, and the one at the addresses that it answers with.
func (g *Gateway) buildDNS(carrier *carry.Carrier) error {
	d := g.config.DNS
	if d == nil {
		return nil
	}
	addresses := g.config.virtualRange()
	if g.o.Listen == nil { // else the network is not the host's
		if err := virtual.Own(addresses); err != nil {
			return err
		}
	}
	book, err := virtual.Open(virtual.BookOptions{
		Range: addresses, Path: filepath.Join(g.config.DataDir, "addresses"), Retain: d.Virtual.Retain, Log: g.log,
	})
	if err != nil {
		return err
	}
	g.addresses = book
	flows, err := g.enterUDP("listen.dns.virtual", udpway.Options{Caller: d.Caller, Sources: d.Sources})
	if err != nil {
		return err
	}
	hub := virtual.NewHub(virtual.HubOptions{
		Range: addresses, Listen: g.o.listenWith(virtual.Listen), Log: g.log,
		Packets: func(conn *net.UDPConn, t virtual.Target) virtual.Flows {
			return virtualFlows{flows.Listen(conn, udpTarget(t))}
		},
	})
	slots := g.slots.Child(g.config.Limits.ConnectionsPerListener)
	queries, err := g.limited(g.listeners.dns, account.WayDNS, g.slots.Child(g.config.Limits.ConnectionsPerListener), d.Sources)
	if err != nil {
		return err
	}
	o := dnsway.Options{
		PacketConn: g.listeners.queries, Listener: queries, Sources: d.Sources, Plan: g.board.Plan, Caller: d.Caller,
		Book: book, Hub: hub, Rules: g.config.portRules(), TTL: d.TTL, Rate: d.Rate, Log: g.log, Registerer: g.o.Registry,
	}
	for _, u := range d.Upstreams {
		a, err := upstream(u)
		if err != nil {
			return err
		}
		o.Upstreams = append(o.Upstreams, a)
	}
	if g.dns, err = dnsway.New(o); err != nil {
		return err
	}
	g.entrances = append(g.entrances, entrance{"listen.dns", g.dns})
	accepted, err := g.limited(hub, account.WayTCP, slots, d.Sources)
	if err != nil {
		return err
	}
	return g.enterTCP("listen.dns.virtual", tcpway.Options{
		Listener: accepted, Caller: d.Caller, Carrier: carrier,
		Find: func(local net.Addr) (tcpway.Target, bool) {
			t, ok := hub.Find(local)
			return tcpway.Target{Service: t.Service, Port: t.Port, Pin: t.Cluster}, ok
		},
	})
}
