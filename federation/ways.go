package federation

import (
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// maxWays bounds the ways in that one gateway is believed to have.
const maxWays = 1024

// WayIn is a listener of an own gateway by which workloads of this cluster call
// one imported service.
type WayIn struct {
	Service catalog.ServiceName
	// Port is the port's name, "" for the service's only or default one.
	Port     string
	Protocol catalog.Protocol
	Gateway  string
	// Kind is route.WayTCP, route.WayHTTP or route.WayMesh; Mesh is the service's name in
	// the mesh of the last.
	Kind    string
	Mesh    string
	Address netip.AddrPort
	// Reachable: a call that came in there would find an instance, as far as is
	// known here. Reason says why, or why not.
	Reachable bool
	Reason    string
}

// WaysIn are the ways in to everything that is imported, by service and gateway,
// and the gateways that are known, silent ones included. It is false while too
// little is known to conclude anything from what is missing: no table has been
// made, or no gateway was heard.
func (f *Federation) WaysIn() (ways []WayIn, gateways []string, ok bool) {
	f.mu.Lock()
	p := f.plane
	f.mu.Unlock()
	if p == nil || p.tables.current() == nil {
		return nil, nil, false
	}
	h, now := p.horizon.Load(), p.now()
	all := p.gateways.all()
	if h == nil || len(all) == 0 {
		return nil, nil, false
	}
	for _, g := range all {
		gateways = append(gateways, g.report.Gateway.Name)
		ways = append(ways, newReach(g, now).ways(h.view)...)
	}
	return ways, gateways, true
}

// reach is what one gateway can reach.
type reach struct {
	report *route.Report
	alive  bool
	linked map[catalog.ClusterName]bool
	out    map[route.Target]bool // targets that the data path takes nothing from
}

func newReach(h heard, now time.Time) *reach {
	r := &reach{report: h.report, alive: h.alive(now), linked: map[catalog.ClusterName]bool{}, out: map[route.Target]bool{}}
	for _, l := range h.report.Links {
		if l.State == "up" {
			r.linked[l.Cluster] = true
		}
	}
	for i := range h.report.Targets {
		t := &h.report.Targets[i]
		if t.Reported && t.Ready == 0 || t.EjectedUntil.After(h.report.At) {
			r.out[t.Target] = true
		}
	}
	return r
}

func (r *reach) ways(view *merge.View) (ways []WayIn) {
	http := netip.AddrPort{}
	for _, w := range r.report.Ways[:min(len(r.report.Ways), maxWays)] {
		switch w.Kind {
		case route.WayHTTP:
			http = w.Address
		case route.WayTCP, route.WayMesh:
			if s := view.Get(w.Service); s != nil && len(s.Offers) > 0 {
				ways = append(ways, r.way(s, w))
			}
		}
	}
	if !http.IsValid() {
		return ways
	}
	for s := range view.All() {
		port, ok := catalog.FindPort(s.Ports, "")
		if len(s.Offers) > 0 && ok && (port.Protocol == catalog.HTTP || port.Protocol == catalog.GRPC) {
			ways = append(ways, r.way(s, route.Way{Kind: route.WayHTTP, Address: http}))
		}
	}
	return ways
}

func (r *reach) way(s *merge.Service, w route.Way) WayIn {
	in := WayIn{Service: s.Name, Gateway: r.report.Gateway.Name, Kind: w.Kind, Mesh: w.Mesh, Address: w.Address}
	port, ok := catalog.FindPort(s.Ports, w.Port)
	if !ok {
		in.Port, in.Reason = w.Port, "no cluster has the port"
		return in
	}
	in.Protocol = port.Protocol
	if main, ok := catalog.FindPort(s.Ports, ""); !ok || main.Name != port.Name {
		in.Port = port.Name
	}
	in.Reachable, in.Reason = r.reaches(s, port.Name)
	return in
}

// reaches says whether a call of the gateway would find an instance, and where.
func (r *reach) reaches(s *merge.Service, port string) (yes bool, reason string) {
	switch {
	case !r.alive:
		return false, "the gateway is silent"
	case r.report.Gateway.Draining:
		return false, "the gateway is draining"
	}
	if s.Local != nil {
		for i := range s.Local.Endpoints {
			if e := &s.Local.Endpoints[i]; e.Port == port && e.Health.Usable() {
				return true, "reachable in this cluster"
			}
		}
	}
	reason = "no cluster has a ready instance"
	for i := range s.Offers {
		o := &s.Offers[i]
		if !readyAt(o, port) || r.out[route.Target{Service: s.Name, Port: port, Cluster: o.Cluster}] {
			continue
		}
		if r.linked[o.Cluster] {
			return true, "reachable in " + string(o.Cluster)
		}
		reason = "no link to " + string(o.Cluster)
	}
	return false, reason
}

func readyAt(o *merge.Offer, port string) bool {
	for _, row := range o.Rows {
		if row.Port == port && row.Ready > 0 {
			return true
		}
	}
	return false
}
