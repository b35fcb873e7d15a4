package mcs

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// place is one address of one gateway, and the listener's number by port name: what one
// EndpointSlice can say.
type place struct {
	gateway, zone string
	ready         bool
	address       netip.Addr
	numbers       map[string]uint16
	// unheard: the federation does not know the gateway (now), the slice is all there is.
	unheard bool
}

// digest tells the slices of one Service apart.
func (p place) digest() string {
	sum := sha256.Sum256([]byte(p.gateway + "/" + p.address.String()))
	return hex.EncodeToString(sum[:4])
}

// places are where the ports of an import can be called, in order. Where every gateway
// is silent the fault is more likely on this side: then all count as ready.
func places(im Import, gateways []Gateway) []place {
	allSilent := !slices.ContainsFunc(gateways, func(g Gateway) bool { return g.Ready })
	var out []place
	for _, g := range gateways {
		for _, p := range im.Ports {
			at, ok := g.way(im, p)
			if !ok {
				continue
			}
			i := slices.IndexFunc(out, func(o place) bool { return o.gateway == g.Name && o.address == at.Addr() })
			if i < 0 {
				i = len(out)
				out = append(out, place{gateway: g.Name, zone: g.Zone, ready: g.Ready || allSilent, address: at.Addr(), numbers: map[string]uint16{}})
			}
			out[i].numbers[p.Name] = at.Port()
		}
	}
	sortPlaces(out)
	return out
}

// way is the listener for one port of an import: its own TCP listener, else for the main
// port of what speaks HTTP the HTTP listener, which knows the service by authority.
func (g Gateway) way(im Import, port catalog.Port) (netip.AddrPort, bool) {
	main, hasMain := catalog.FindPort(im.Ports, "")
	isMain := hasMain && main.Name == port.Name
	var http netip.AddrPort
	for _, w := range g.Ways {
		switch {
		case !dialable(w.Address.Addr()):
		case w.Service == im.Service && (w.Port == port.Name || w.Port == "" && isMain):
			return w.Address, true
		case w.Service.IsZero():
			http = w.Address
		}
	}
	speaksHTTP := port.Protocol == catalog.HTTP || port.Protocol == catalog.GRPC
	return http, http.IsValid() && isMain && speaksHTTP
}

// dialable: what an EndpointSlice may hold, and a pod can reach.
func dialable(a netip.Addr) bool {
	return a.IsValid() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && !a.IsMulticast()
}

// number is one port of an import as it is called in the cluster.
type number struct {
	catalog.Port
	number uint16
}

// numbers gives each port of an import that can be called its number: what the
// configuration says, what it has already, 80 for what speaks HTTP, else that of its
// listener. A port without any is left out.
func (c Config) numbers(im Import, at []place, have map[string]uint16) []number {
	var out []number
	used := map[uint16]bool{}
	for _, p := range im.Ports {
		if p.Protocol == catalog.UDP {
			continue // no way in carries it
		}
		var candidates []uint16
		for _, n := range c.Imports.Ports {
			main, ok := catalog.FindPort(im.Ports, n.Port)
			if n.Service == im.Service && ok && main.Name == p.Name {
				candidates = append(candidates, n.Number)
			}
		}
		candidates = append(candidates, have[p.Name])
		if p.Protocol == catalog.HTTP || p.Protocol == catalog.GRPC {
			candidates = append(candidates, 80)
		}
		for _, place := range at {
			candidates = append(candidates, place.numbers[p.Name])
		}
		for _, n := range candidates {
			if n != 0 && !used[n] {
				used[n] = true
				out = append(out, number{p, n})
				break
			}
		}
	}
	return out
}
