package gateway_test

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// simNetwork is the network between gateways, simulated; with memory, the TCP of
// the hosts beside them too, so that everything runs on the fake clock.
type simNetwork struct {
	*tunneltest.Network
	memory *tunneltest.TCP

	mu   sync.Mutex
	next byte
}

func newSim(path tunneltest.Path) *simNetwork {
	return &simNetwork{Network: tunneltest.NewNetwork(path, 1)}
}

// listenUDP gives each gateway a host of its own, as paths are between hosts.
func (s *simNetwork) listenUDP(at netip.AddrPort) net.PacketConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !at.IsValid() {
		s.next++
		at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, s.next}), 7443)
	}
	return s.Listen(at)
}

func (s *simNetwork) resolve(_ context.Context, hostport string) (net.Addr, error) {
	a, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return nil, err
	}
	return net.UDPAddrFromAddrPort(a), nil
}
