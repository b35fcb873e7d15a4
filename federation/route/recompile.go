package route

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Recompile is Compile for who has the plan of a moment before: services of which
// nothing changed are taken over, so that a change costs what changed, but for a look at
// each entry of the evidence. The plan is the same as Compile's. last may be nil, and of
// other counters.
func Recompile(last *Plan, t *Table, e *Evidence, live *Live) *Plan {
	if e == nil {
		e = new(Evidence)
	}
	if last == nil || live == nil || last.live != live {
		return Compile(t, e, live)
	}
	c := newCompiler(t, e, live)
	if !last.placedAs(c.plan) {
		return Compile(t, e, live)
	}
	c.plan.authorizer = last.authorizer
	if !sameList(last.table.Intentions, t.Intentions) && !reflect.DeepEqual(last.table.Intentions, t.Intentions) {
		c.plan.authorizer = policy.NewAuthorizer(t.Intentions)
	}
	live.mu.Lock()
	defer live.mu.Unlock()
	live.gen++
	ch := changes{old: last, plan: c.plan, is: make([]bool, len(t.Services))}
	ch.ofTable()
	ch.ofEvidence()
	for i, changed := range ch.is {
		if changed {
			c.compile(i)
			continue
		}
		for _, table := range c.plan.list[i].tables {
			table.gen = live.gen
		}
	}
	return c.plan
}

// placedAs reports whether two plans have in common what every service depends on.
func (p *Plan) placedAs(o *Plan) bool {
	if p.drill != nil || o.drill != nil { // it goes into every service
		return false
	}
	if p.self != o.self || p.alone != o.alone || p.evidence.Switches != o.evidence.Switches ||
		!p.table.Cluster.Equal(o.table.Cluster) || len(p.table.Peers) != len(o.table.Peers) {
		return false
	}
	if !p.table.Tariff.Equal(o.table.Tariff) || o.table.Tariff.steps(p.evidence.Now, o.evidence.Now) {
		return false
	}
	for i := range p.table.Peers {
		a, b := &p.table.Peers[i], &o.table.Peers[i]
		if a.Name != b.Name || a.Locality != b.Locality || !maps.Equal(a.Labels, b.Labels) {
			return false
		}
	}
	return true
}

// changes finds the services that must be compiled anew.
type changes struct {
	old, plan *Plan
	is        []bool
}

func (ch *changes) mark(name catalog.ServiceName) {
	if i, ok := ch.plan.names[name]; ok {
		ch.is[i] = true
	}
}

// ofTable takes over the services that the table says the same of.
func (ch *changes) ofTable() {
	old, now, p := ch.old.table, ch.plan.table, ch.plan
	same := old == now || slices.EqualFunc(old.Services, now.Services, func(a, b Service) bool { return a.Name == b.Name })
	if same {
		p.names, p.list = ch.old.names, slices.Clone(ch.old.list)
	} else {
		p.names, p.list = namesOf(now), make([]*servicePlan, len(now.Services))
	}
	if old == now {
		return
	}
	for i := range now.Services {
		s := &now.Services[i]
		sp := ch.old.of(s.Name)
		if ch.is[i] = sp == nil || !sp.service.same(s); !ch.is[i] {
			p.list[i] = sp
		}
	}
}

// same reports whether two rows say the same; where tables share what did not change
// that is a look at pointers.
func (s *Service) same(o *Service) bool {
	if s.Name == o.Name && s.Traffic == o.Traffic && sameList(s.Ports, o.Ports) && sameList(s.Endpoints, o.Endpoints) &&
		sameList(s.Quarantined, o.Quarantined) && sameList(s.ExportedTo, o.ExportedTo) &&
		sameList(s.SubsetLabels, o.SubsetLabels) && sameList(s.Remote, o.Remote) {
		return true
	}
	return reflect.DeepEqual(s, o)
}

func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// ofEvidence marks what other evidence than before is of.
func (ch *changes) ofEvidence() {
	was, is := ch.old.evidence, ch.plan.evidence
	for _, i := range ch.old.timed {
		ch.mark(ch.old.list[i].service.Name)
	}
	ch.ofClusters()
	for t, b := range is.Targets {
		if a := was.Targets[t]; !sameTarget(&a, &b, was.Now, is.Now) {
			ch.mark(t.Service)
		}
	}
	for t, a := range was.Targets {
		if _, still := is.Targets[t]; !still && !sameTarget(&a, &TargetEvidence{}, was.Now, is.Now) {
			ch.mark(t.Service)
		}
	}
	for k, b := range is.Endpoints {
		if a, had := was.Endpoints[k]; !had || a != b {
			ch.mark(k.Service)
		}
	}
	for k := range was.Endpoints {
		if _, still := is.Endpoints[k]; !still {
			ch.mark(k.Service)
		}
	}
	for k, b := range is.Zones {
		if a, had := was.Zones[k]; !had || a != b {
			ch.mark(k.Service)
		}
	}
	for k := range was.Zones {
		if _, still := is.Zones[k]; !still {
			ch.mark(k.Service)
		}
	}
	for k, b := range is.Demands {
		if a := was.Demands[k]; a != b {
			ch.asked(k.Service)
		}
	}
	for k := range was.Demands {
		if _, still := is.Demands[k]; !still {
			ch.asked(k.Service)
		}
	}
}

// asked marks a service of which other is asked than before, if that counts.
func (ch *changes) asked(name catalog.ServiceName) {
	if i, ok := ch.plan.names[name]; ok && (ch.plan.list[i] == nil || ch.plan.list[i].gated) {
		ch.is[i] = true
	}
}

// ofClusters marks the services of clusters that are reached otherwise.
func (ch *changes) ofClusters() {
	moved := make(map[catalog.ClusterName]bool)
	for i := range ch.plan.table.Peers {
		b := &ch.plan.table.Peers[i]
		a := ch.old.peers[b.Name]
		was, is := ch.old.evidence.Links[b.Name], ch.plan.evidence.Links[b.Name]
		// Loss decides nothing.
		was.Loss, is.Loss = 0, 0
		switch {
		case a.ControlLost != b.ControlLost, was != is:
			moved[b.Name] = true
		case b.ControlLost && !is.Up: // what is said of it ages, until it is withdrawn
			moved[b.Name] = true
		case !is.Up && a.HeardAt.IsZero() != b.HeardAt.IsZero():
			moved[b.Name] = true
		}
	}
	if len(moved) == 0 {
		return
	}
	for i := range ch.plan.table.Services {
		for k := range ch.plan.table.Services[i].Remote {
			if moved[ch.plan.table.Services[i].Remote[k].Cluster] {
				ch.is[i] = true
				break
			}
		}
	}
}

// sameTarget reports whether two plans read the same in evidence of a target. When it was
// reported is not read by a plan, nor what its capacity is used for.
func sameTarget(a, b *TargetEvidence, then, now time.Time) bool {
	if !a.EjectedUntil.IsZero() || !b.EjectedUntil.IsZero() {
		return false
	}
	counted := func(e *TargetEvidence, at time.Time) bool {
		return e.Reported && !e.ReportedAt.IsZero() && at.Sub(e.ReportedAt) <= ReportFresh
	}
	granted := func(e *TargetEvidence, at time.Time) bool { return e.Capacity > 0 && e.GrantedUntil.After(at) }
	if counted(a, then) != counted(b, now) || granted(a, then) != granted(b, now) {
		return false
	}
	return a.Ready == b.Ready && a.Total == b.Total && a.Capacity == b.Capacity && a.Granted == b.Granted &&
		a.Share == b.Share && a.Processing == b.Processing && a.Others == b.Others && a.Withheld == b.Withheld
}

// note says what a service's plan depends on besides what its rows and evidence say.
func (s *servicePlan) note() {
	for i := range s.service.Endpoints {
		s.gated = s.gated || CapacityOf(&s.service.Endpoints[i], s.traffic.PerEndpoint()) > 0
	}
	for i := range s.ports {
		for _, l := range []*layout{s.ports[i].near, s.ports[i].far} {
			s.timed = s.timed || len(l.probes) > 0
			for k := range l.candidates {
				c := &l.candidates[k]
				s.gated = s.gated || c.room.known
				s.timed = s.timed || c.reason == Ejected || c.reason == OnProbation
				if c.own() {
					s.timed = s.timed || c.endpoints.healthy.slow != nil || c.endpoints.all.slow != nil
				}
			}
		}
	}
}
