package udpway

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// replier is of sockets that listen on all addresses of a host: a caller drops an answer that
// comes from another address than it has sent to.
type replier struct{ space int }

// newReplier returns nil where it is not needed, or the system cannot say.
func newReplier(c Conn) *replier {
	u, ok := c.(*net.UDPConn)
	if !ok {
		return nil
	}
	if a, ok := u.LocalAddr().(*net.UDPAddr); !ok || !a.IP.IsUnspecified() {
		return nil
	}
	// One of them is for the socket's family, or both where it takes both.
	four := ipv4.NewPacketConn(u).SetControlMessage(ipv4.FlagDst, true)
	six := ipv6.NewPacketConn(u).SetControlMessage(ipv6.FlagDst, true)
	if four != nil && six != nil {
		return nil
	}
	return &replier{space: len(ipv4.NewControlMessage(ipv4.FlagDst)) + len(ipv6.NewControlMessage(ipv6.FlagDst))}
}

// local is the address that a datagram came in on.
func (r *replier) local(oob []byte) netip.Addr {
	var six ipv6.ControlMessage
	if six.Parse(oob) == nil && six.Dst != nil {
		return unmapped(six.Dst)
	}
	var four ipv4.ControlMessage
	if four.Parse(oob) == nil && four.Dst != nil {
		return unmapped(four.Dst)
	}
	return netip.Addr{}
}

func unmapped(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// from has an answer leave by an address.
func (r *replier) from(a netip.Addr) []byte {
	switch {
	case !a.IsValid() || a.IsMulticast():
		return nil
	case a.Is4():
		return (&ipv4.ControlMessage{Src: a.AsSlice()}).Marshal()
	default:
		return (&ipv6.ControlMessage{Src: a.AsSlice()}).Marshal()
	}
}
