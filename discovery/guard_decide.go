package discovery

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// change is what a read does to one service, compared with what is effective.
type change struct {
	name catalog.ServiceName
	// gone are usable endpoints that are withdrawn now; those that were held
	// before are not among them.
	gone []catalog.Endpoint
	// gained counts the usable endpoints that are new.
	gained int
	// back are held endpoints that the read has again.
	back []string
	// last is set where gone leaves the service without a usable endpoint.
	last bool
}

// net is the number of endpoints that are withdrawn and not replaced.
func (c change) net() int { return max(0, len(c.gone)-c.gained) }

// changes compares the services that differ from the last read.
func (g *Guard) changes(read *catalog.Snapshot) []change {
	d := catalog.Diff(g.read, read)
	out := make([]change, 0, len(d.Upserts)+len(d.Removes))
	for _, svc := range d.Upserts {
		out = append(out, g.compare(svc.Name, g.effective.Get(svc.Name), svc))
	}
	for _, name := range d.Removes {
		out = append(out, g.compare(name, g.effective.Get(name), nil))
	}
	return out
}

func (g *Guard) compare(name catalog.ServiceName, old, read *catalog.Service) change {
	c := change{name: name}
	if old != nil && read != nil && len(g.held[name]) == 0 && sameInstances(old.Endpoints, read.Endpoints) {
		return c // the same endpoints in other health: nobody is gone, and nobody new
	}
	before, after := byID(old), byID(read)
	usable := 0
	for id, e := range after {
		if e.Health.Usable() {
			usable++
		}
		switch _, known := before[id]; {
		case g.held[name][id] != nil:
			c.back = append(c.back, id)
		case !known && e.Health.Usable():
			c.gained++
		}
	}
	for id, e := range before {
		if _, there := after[id]; !there && e.Health.Usable() && g.held[name][id] == nil {
			c.gone = append(c.gone, *e)
		}
	}
	c.last = usable == 0 && len(c.gone) > 0
	return c
}

// sameInstances reports whether both lists, which are in order, have endpoints of
// the same IDs.
func sameInstances(a, b []catalog.Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID {
			return false
		}
	}
	return true
}

func byID(s *catalog.Service) map[string]*catalog.Endpoint {
	if s == nil {
		return nil
	}
	m := make(map[string]*catalog.Endpoint, len(s.Endpoints))
	for i := range s.Endpoints {
		m[s.Endpoints[i].ID] = &s.Endpoints[i]
	}
	return m
}

// forget drops withdrawals that are older than the window.
func (g *Guard) forget(now time.Time) {
	g.recent = slices.DeleteFunc(g.recent, func(w withdrawal) bool { return now.Sub(w.at) >= g.opts.Window })
}

// over reports whether the changes, with what was withdrawn in the window
// before, are a mass withdrawal. The share is of what there was at its start.
func (g *Guard) over(changes []change) bool {
	total := 0
	for _, c := range changes {
		total += c.net()
	}
	base := g.effective.EndpointCount()
	for _, w := range g.recent {
		total += w.net
		base += w.net
	}
	return total > g.limit(base)
}

func (g *Guard) limit(base int) int { return max(g.opts.Count, int(g.opts.Share*float64(base))) }

// decide holds what c withdraws, or lets it go and notes it in recent.
func (g *Guard) decide(now time.Time, c change, over bool, recent []withdrawal) []withdrawal {
	for _, id := range c.back {
		g.drop(c.name, id)
	}
	if len(c.gone) > 0 && (c.last || (over && c.net() > 0)) {
		for _, e := range c.gone {
			g.hold(now, c.name, e)
		}
		return recent
	}
	if n := c.net(); n > 0 {
		return append(recent, withdrawal{now, c.name, n})
	}
	surplus := g.replace(c.name, c.gained-len(c.gone))
	return repay(recent, c.name, surplus)
}

// replace drops as many held endpoints of a service as it gained new ones, the
// oldest first, and returns how many of the new ones are left.
func (g *Guard) replace(name catalog.ServiceName, gained int) int {
	type item struct {
		id    string
		since time.Time
	}
	var items []item
	for id, h := range g.held[name] {
		items = append(items, item{id, h.since})
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.id, b.id)) })
	n := min(gained, len(items))
	for _, it := range items[:n] {
		g.drop(name, it.id)
	}
	return gained - n
}

// repay takes endpoints that a service gained off what it lost recently.
func repay(recent []withdrawal, name catalog.ServiceName, gained int) []withdrawal {
	for i := range recent {
		if w := &recent[i]; w.service == name {
			n := min(gained, w.net)
			w.net -= n
			gained -= n
		}
	}
	return slices.DeleteFunc(recent, func(w withdrawal) bool { return w.net == 0 })
}

// confirm counts this read for every held endpoint that it lacks, and lets go of
// those that enough reads over enough time have confirmed.
func (g *Guard) confirm(now time.Time, read *catalog.Snapshot) {
	for name, ids := range g.held {
		there := byID(read.Get(name))
		for id, h := range ids {
			if _, back := there[id]; back {
				g.drop(name, id)
				continue
			}
			h.reads++
			if h.reads >= g.opts.Reads && now.Sub(h.since) >= g.opts.Window {
				g.drop(name, id)
			}
		}
	}
}

// compose makes effective what read says of the touched services, and what is
// held of them.
func (g *Guard) compose(read *catalog.Snapshot, touched map[catalog.ServiceName]bool) error {
	var upserts []*catalog.Service
	var taken []catalog.ServiceName // as they are read
	for name := range touched {
		old, now := g.effective.Get(name), read.Get(name)
		switch svc := g.withHeld(old, now, g.held[name]); {
		case svc == now && svc != nil && old != nil && svc.Equal(old):
		case svc == now:
			taken = append(taken, name)
		case old == nil || !svc.Equal(old):
			upserts = append(upserts, svc)
		}
	}
	if len(upserts) == 0 && len(taken) == 0 {
		return nil
	}
	next, err := g.effective.Take(read, taken, upserts)
	if err != nil {
		return err
	}
	g.effective = next
	return nil
}

// withHeld is the service as read, with the held endpoints of old, marked.
func (g *Guard) withHeld(old, read *catalog.Service, held map[string]*hold) *catalog.Service {
	if len(held) == 0 || old == nil {
		return read
	}
	var s *catalog.Service
	if read != nil {
		s = read.Clone()
	} else {
		s = old.Clone()
		s.Endpoints = nil
	}
	for _, e := range old.Endpoints {
		if held[e.ID] == nil || len(s.Endpoints) >= catalog.MaxServiceEndpoints {
			continue
		}
		if !slices.ContainsFunc(s.Ports, func(p catalog.Port) bool { return p.Name == e.Port }) {
			port, ok := catalog.FindPort(old.Ports, e.Port)
			if !ok || len(s.Ports) >= catalog.MaxPorts {
				continue
			}
			s.Ports = append(s.Ports, port)
		}
		e.Quarantined = true
		s.Endpoints = append(s.Endpoints, e)
	}
	slices.SortFunc(s.Ports, func(a, b catalog.Port) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Endpoints, catalog.Endpoint.Compare)
	return s
}
