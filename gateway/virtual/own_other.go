//go:build !linux

package virtual

import (
	"fmt"
	"net"
	"net/netip"
)

// Listen opens a socket.
func Listen(network, address string) (net.Listener, error) { return net.Listen(network, address) }

// ListenPacket is Listen for UDP.
func ListenPacket(at netip.AddrPort) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
}

// Own checks that the range's addresses are the host's: only Linux makes them so by a
// route.
func Own(p netip.Prefix) error {
	l, err := net.Listen("tcp", netip.AddrPortFrom(spanOf(p).first, 0).String())
	if err != nil {
		return fmt.Errorf("range %s: %w; each address must be an alias of a network device", p, err)
	}
	return l.Close()
}
