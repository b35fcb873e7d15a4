package gateway

import (
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// ways are the ways in as workloads reach them. A listener on all addresses is
// told only where the configuration says by which address it is reached.
func (g *Gateway) ways() []route.Way {
	var ways []route.Way
	add := func(w route.Way) {
		if w.Address.IsValid() && w.Address.Addr().IsUnspecified() {
			at, err := netip.ParseAddr(g.config.WaysAdvertise)
			if err != nil {
				return
			}
			w.Address = netip.AddrPortFrom(at.Unmap(), w.Address.Port())
		}
		if w.Address.IsValid() {
			ways = append(ways, w)
		}
	}
	for i, l := range g.config.TCP {
		if name, err := catalog.ParseServiceName(l.Service); err == nil { // as it was validated
			add(route.Way{Kind: route.WayTCP, Address: g.listeners.addrs.TCP[i], Service: name, Port: l.Port})
		}
	}
	for i, l := range g.config.MTLS {
		if name, err := catalog.ParseServiceName(l.Service); err == nil && l.Identity == IdentityConsul {
			add(route.Way{Kind: route.WayMesh, Address: g.listeners.addrs.MTLS[i], Service: name, Port: l.Port, Mesh: l.consulService()})
		}
	}
	add(route.Way{Kind: route.WayHTTP, Address: g.listeners.addrs.HTTP})
	return ways
}
