package tunnel

import (
	"context"
	"math/rand/v2"
	"net"
)

// resolver is the default of Options.Resolve.
type resolver struct {
	network string // "ip", "ip4" or "ip6"
}

// family is the network of the addresses that a socket bound to local can send
// to. An unspecified IPv6 address is that of both families.
func family(local net.Addr) string {
	u, ok := local.(*net.UDPAddr)
	switch {
	case !ok:
		return "ip"
	case u.IP.To4() != nil:
		return "ip4"
	case u.IP.IsUnspecified():
		return "ip"
	default:
		return "ip6"
	}
}

// resolve returns one of the host's addresses at random: the next attempt then
// tries another when this one does not answer.
func (r resolver) resolve(ctx context.Context, hostport string) (net.Addr, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, r.network, host)
	if err != nil {
		return nil, err
	}
	addr := addrs[rand.IntN(len(addrs))].Unmap()
	return &net.UDPAddr{IP: addr.AsSlice(), Zone: addr.Zone(), Port: number}, nil
}
