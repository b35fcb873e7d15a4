package virtual

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Listen opens a socket on an address that the host may not have yet (IP_FREEBIND),
// so that a route which is added later is enough.
func Listen(network, address string) (net.Listener, error) {
	return freebind().Listen(context.Background(), network, address)
}

// ListenPacket is Listen for UDP.
func ListenPacket(at netip.AddrPort) (*net.UDPConn, error) {
	c, err := freebind().ListenPacket(context.Background(), "udp", at.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func freebind() *net.ListenConfig {
	return &net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			// On IPv6 sockets, too: there it is a level of its own with the same effect.
			failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_FREEBIND, 1)
		})
		return errors.Join(err, failed)
	}}
}

// Own makes the range's addresses the host's own, if they are not, by a local route to
// the loopback device (AnyIP). The route stays when the process ends: it says nothing
// but that connections to the range end here. Without the right to add it (the
// capability NET_ADMIN) the error says what is to be done.
func Own(p netip.Prefix) error {
	probe := spanOf(p).first
	l, err := net.Listen("tcp", netip.AddrPortFrom(probe, 0).String())
	if err == nil {
		return l.Close()
	}
	if !errors.Is(err, syscall.EADDRNOTAVAIL) {
		return fmt.Errorf("range %s: %w", p, err)
	}
	if err := addLocalRoute(p); err != nil {
		return fmt.Errorf("range %s is not this host's, and a route for it cannot be added: %w; as root: ip route add local %s dev lo", p, err, p)
	}
	return nil
}

// addLocalRoute is "ip route replace local PREFIX dev lo".
func addLocalRoute(p netip.Prefix) error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }() // nothing is left to be said
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 2}); err != nil {
		return err
	}
	if err := syscall.Sendto(fd, routeMessage(p, uint32(lo.Index)), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, buffer, 0)
	if err != nil {
		return err
	}
	messages, err := syscall.ParseNetlinkMessage(buffer[:n])
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Header.Type == syscall.NLMSG_ERROR && len(m.Data) >= 4 {
			if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
				return syscall.Errno(-code)
			}
			return nil
		}
	}
	return errors.New("the kernel did not answer")
}

// routeMessage is RTM_NEWROUTE of a local route (rtnetlink(7)).
func routeMessage(p netip.Prefix, device uint32) []byte {
	family, address := byte(syscall.AF_INET6), p.Addr().AsSlice()
	if p.Addr().Is4() {
		family = syscall.AF_INET
	}
	e := binary.NativeEndian
	b := make([]byte, syscall.SizeofNlMsghdr, 64)
	b = append(b, family, byte(p.Bits()), 0, 0, syscall.RT_TABLE_LOCAL, syscall.RTPROT_STATIC, syscall.RT_SCOPE_HOST, syscall.RTN_LOCAL)
	b = e.AppendUint32(b, 0) // flags
	attribute := func(kind uint16, value []byte) {
		b = e.AppendUint16(b, uint16(syscall.SizeofRtAttr+len(value)))
		b = e.AppendUint16(b, kind)
		b = append(b, value...) // 4 or 16 bytes: aligned
	}
	attribute(syscall.RTA_DST, address)
	attribute(syscall.RTA_OIF, e.AppendUint32(nil, device))
	e.PutUint32(b[0:], uint32(len(b)))
	e.PutUint16(b[4:], syscall.RTM_NEWROUTE)
	e.PutUint16(b[6:], syscall.NLM_F_REQUEST|syscall.NLM_F_ACK|syscall.NLM_F_CREATE|syscall.NLM_F_REPLACE)
	e.PutUint32(b[8:], 1)
	return b
}
