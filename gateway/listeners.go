package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/gateway/accept"
	"github.com/isthmus-mesh/isthmus/gateway/account"
)

const (
	// adminConnections and controlConnections are apart from the ways': metrics
	// and the federation must get through when callers have taken everything.
	adminConnections   = 64
	controlConnections = 64
)

// dnsTries is how many free ports of one protocol are tried for one that is free for the
// other, too.
const dnsTries = 8

// listeners are the bound sockets of a gateway.
type listeners struct {
	link                 net.PacketConn
	lane                 net.Listener // TCP of the same port; nil without TLS lane
	http, admin, control net.Listener // http may be nil
	tcp, mtls, sni       []net.Listener
	proxy                []net.Listener
	udp                  []*net.UDPConn
	dns                  net.Listener   // may be nil
	queries              net.PacketConn // with dns
	addrs                Addrs
}

// bind opens every socket, or none.
func bind(c Config, o Options) (l *listeners, err error) {
	l = &listeners{link: o.PacketConn}
	defer func() {
		if err != nil {
			l.close()
			l = nil
		}
	}()
	listen := o.listenWith(net.Listen)
	if l.link == nil {
		if err := l.bindLink(c, o, listen); err != nil {
			return l, fmt.Errorf("listen.link: %w", err)
		}
	}
	if a, ok := l.link.LocalAddr().(*net.UDPAddr); ok {
		l.addrs.Link = unmapped(a.AddrPort())
	}
	open := func(field, address string, to *net.Listener, at *netip.AddrPort) {
		if err != nil || address == "" {
			return
		}
		if *to, err = listen("tcp", address); err != nil {
			*to, err = nil, fmt.Errorf("%s: %w", field, err)
			return
		}
		if a, ok := (*to).Addr().(*net.TCPAddr); ok {
			*at = unmapped(a.AddrPort())
		}
	}
	l.tcp, l.addrs.TCP = make([]net.Listener, len(c.TCP)), make([]netip.AddrPort, len(c.TCP))
	for i := range c.TCP {
		open(fmt.Sprintf("listen.tcp[%d]", i), c.TCP[i].Address, &l.tcp[i], &l.addrs.TCP[i])
	}
	l.mtls, l.addrs.MTLS = make([]net.Listener, len(c.MTLS)), make([]netip.AddrPort, len(c.MTLS))
	for i := range c.MTLS {
		open(fmt.Sprintf("listen.mtls[%d]", i), c.MTLS[i].Address, &l.mtls[i], &l.addrs.MTLS[i])
	}
	l.sni, l.addrs.SNI = make([]net.Listener, len(c.SNI)), make([]netip.AddrPort, len(c.SNI))
	for i := range c.SNI {
		open(fmt.Sprintf("listen.sni[%d]", i), c.SNI[i].Address, &l.sni[i], &l.addrs.SNI[i])
	}
	l.proxy, l.addrs.Proxy = make([]net.Listener, len(c.Proxy)), make([]netip.AddrPort, len(c.Proxy))
	for i := range c.Proxy {
		open(fmt.Sprintf("listen.proxy[%d]", i), c.Proxy[i].Address, &l.proxy[i], &l.addrs.Proxy[i])
	}
	open("listen.http", c.HTTP, &l.http, &l.addrs.HTTP)
	open("listen.control", c.Control, &l.control, &l.addrs.Control)
	open("listen.admin", c.Admin, &l.admin, &l.addrs.Admin)
	if err == nil {
		err = l.bindUDP(c)
	}
	if c.DNS != nil {
		for i := range dnsTries {
			open("listen.dns", c.DNS.Address, &l.dns, &l.addrs.DNS)
			if err != nil {
				break
			}
			if l.queries, err = o.listenQueries(l.addrs.DNS); err == nil || !ephemeral(c.DNS.Address) {
				break
			}
			_ = l.dns.Close() // nobody knows its port yet
			if i < dnsTries-1 {
				err = nil
			}
		}
	}
	return l, err
}

// bindLink opens the link port: UDP, and TCP of the same number for the TLS lane. A
// number that the system chose for one may be taken for the other: another is tried.
func (l *listeners) bindLink(c Config, o Options, listen func(network, address string) (net.Listener, error)) error {
	at, err := netip.ParseAddrPort(c.Link)
	if err != nil {
		return err
	}
	for range dnsTries {
		if l.link, err = o.listenLink(at); err != nil || c.TLSLane == TLSLaneOff {
			return err
		}
		bound := netip.AddrPortFrom(at.Addr(), l.link.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		l.lane, err = listen("tcp", bound.String())
		if err == nil {
			return nil
		}
		l.lane = nil
		if !ephemeral(c.Link) || o.Estate != nil {
			return fmt.Errorf("%w (links need it where UDP is blocked; tls_lane: off does without)", err)
		}
		_ = l.link.Close() // nobody knows its port yet
		l.link = nil
	}
	return fmt.Errorf("no port is free for UDP and TCP, in %d tries", dnsTries)
}

// listenLink opens the UDP socket of the links.
func (o Options) listenLink(at netip.AddrPort) (net.PacketConn, error) {
	if o.Estate != nil {
		conn, err := o.Estate.Link()
		if err != nil {
			return nil, err // not a conn that is nil
		}
		return conn, nil
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// listenWith is how TCP listeners are opened: on a network that the options have, else by
// the given function, and handed on to a successor.
func (o Options) listenWith(open func(network, address string) (net.Listener, error)) func(network, address string) (net.Listener, error) {
	switch {
	case o.Listen != nil:
		return o.Listen
	case o.Estate != nil:
		return o.Estate.Listen(open)
	default:
		return open
	}
}

// listenQueries opens the UDP socket of a DNS listener, on the port of its TCP one.
func (o Options) listenQueries(at netip.AddrPort) (net.PacketConn, error) {
	address := net.UDPAddrFromAddrPort(at)
	var conn net.PacketConn
	var err error
	if o.Estate != nil {
		conn, err = o.Estate.ListenUDP(address)
	} else {
		conn, err = net.ListenUDP("udp", address)
	}
	if err != nil {
		return nil, fmt.Errorf("listen.dns: %w", err)
	}
	return conn, nil
}

// unmapped writes an IPv4 address as one.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// close closes what is open.
func (l *listeners) close() {
	for _, t := range slices.Concat(l.tcp, l.mtls, l.sni, l.proxy, []net.Listener{l.http, l.control, l.admin, l.dns, l.lane}) {
		if t != nil {
			_ = t.Close() // nothing was accepted that could be lost
		}
	}
	for _, c := range []net.PacketConn{l.link, l.queries} {
		if c != nil {
			_ = c.Close() // nothing more is to be sent
		}
	}
	for _, c := range l.udp {
		if c != nil {
			_ = c.Close() // as above
		}
	}
}

// own are the addresses that no endpoint may have.
func (l *listeners) own() []netip.AddrPort {
	own := slices.Concat([]netip.AddrPort{l.addrs.HTTP, l.addrs.Control, l.addrs.Admin, l.addrs.DNS}, l.addrs.TCP, l.addrs.UDP, l.addrs.MTLS, l.addrs.SNI, l.addrs.Proxy)
	valid := own[:0]
	for _, a := range own {
		if a.IsValid() {
			valid = append(valid, a)
		}
	}
	return valid
}

// limited puts a way's bounds around a listener.
func (g *Gateway) limited(l net.Listener, way string, slots *accept.Slots, sources []netip.Prefix) (net.Listener, error) {
	address := l.Addr().String()
	return accept.NewListener(accept.Options{
		Listener: l, Slots: slots, Sources: sources, Log: g.log,
		Refused: func(reason string, from net.Addr) { g.account.Refuse(way, address, reason, from.String()) },
	})
}

func (l *listeners) tcpListener(g *Gateway, i int) (net.Listener, error) {
	return g.limited(l.tcp[i], account.WayTCP, g.slots.Child(g.config.Limits.ConnectionsPerListener), g.config.TCP[i].peers())
}

func (l *listeners) mtlsListener(g *Gateway, i int) (net.Listener, error) {
	return g.limited(l.mtls[i], account.WayMTLS, g.slots.Child(g.config.Limits.ConnectionsPerListener), g.config.MTLS[i].Sources)
}

func (l *listeners) sniListener(g *Gateway, i int) (net.Listener, error) {
	return g.limited(l.sni[i], account.WaySNI, g.slots.Child(g.config.Limits.ConnectionsPerListener), g.config.SNI[i].Sources)
}

func (l *listeners) httpListener(g *Gateway) (net.Listener, error) {
	return g.limited(l.http, account.WayHTTP, g.slots.Child(g.config.Limits.ConnectionsPerListener), g.config.HTTPSources)
}

func (l *listeners) controlListener(g *Gateway) (net.Listener, error) {
	return g.limited(l.control, account.WayControl, accept.NewSlots(controlConnections), nil)
}

func (l *listeners) adminListener(g *Gateway) (net.Listener, error) {
	return g.limited(l.admin, account.WayAdmin, accept.NewSlots(adminConnections), nil)
}
