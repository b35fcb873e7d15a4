package exchange

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// parseRoster reads a peer's roster. Each gateway's ID must be that of the peer
// with /gateway/NAME: a roster cannot bring another cluster's gateways in.
func parseRoster(value json.RawMessage, peer spiffeid.ID, allowLoopback bool, l Limits) ([]catalog.Gateway, error) {
	var list []catalog.Gateway
	if err := json.Unmarshal(value, &list); err != nil {
		return nil, &RefusedError{Reason: ReasonInvalid, What: "roster", Err: err}
	}
	if len(list) > l.Gateways {
		return nil, exceeds("gateways", len(list), l.Gateways)
	}
	for i, g := range list {
		if err := g.Validate(); err != nil {
			return nil, &RefusedError{Reason: ReasonInvalid, What: "roster", Err: err}
		}
		if want := GatewayID(peer, g.Name); g.ID != want {
			return nil, refuse(ReasonOrigin, "gateways[%d].id: value %.200q: must be %q", i, g.ID, want)
		}
		if i > 0 && list[i-1].Name >= g.Name {
			return nil, refuse(ReasonInvalid, "gateways[%d].name: value %q: must be sorted, each name once", i, g.Name)
		}
		for j, a := range g.Addresses {
			if rule := Undialable(a, allowLoopback); rule != "" {
				return nil, refuse(ReasonInvalid, "gateways[%d].addresses[%d]: value %q: %s", i, j, a, rule)
			}
		}
	}
	return list, nil
}

// GatewayID is the SPIFFE ID of a cluster's gateway.
func GatewayID(cluster spiffeid.ID, name string) string {
	return cluster.String() + "/gateway/" + name
}

// Undialable says why a roster's address, a valid host:port, is not one that own
// gateways should be made to send to. Names are resolved by the gateways, which
// look at the result again.
func Undialable(address string, allowLoopback bool) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "must be host:port"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		name := strings.TrimSuffix(strings.ToLower(host), ".")
		if !allowLoopback && (name == "localhost" || strings.HasSuffix(name, ".localhost")) {
			return "is a loopback name"
		}
		return ""
	}
	ip = ip.Unmap()
	switch {
	case ip.IsUnspecified():
		return "is no address of a host"
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "is no address of one host"
	case ip.IsLinkLocalUnicast():
		return "is link-local, where clouds keep their metadata"
	case ip.IsLoopback() && !allowLoopback:
		return "is a loopback address"
	}
	return ""
}

// sortedRoster is the roster as it is sent.
func sortedRoster(list []catalog.Gateway) []catalog.Gateway {
	out := slices.Clone(list)
	slices.SortFunc(out, catalog.Gateway.Compare)
	return out
}
