package board

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// serviceRamp is the fail-back of one target.
type serviceRamp struct {
	ramp  route.Ramp
	wasIn bool      // in service once, so that there is something to come back to
	since time.Time // in service since; zero while it is not
	ready uint32
	next  time.Time
	// withheld is the part that was held back last.
	withheld float64
}

// evidence gathers what is known at now. b.compiling is held.
func (b *Board) evidence(now time.Time) *route.Evidence {
	e := &route.Evidence{
		Now: now, Self: b.o.Self, Switches: b.switches,
		Links:     make(map[catalog.ClusterName]route.LinkEvidence, len(b.clusters)),
		Targets:   make(map[route.Target]route.TargetEvidence),
		Endpoints: make(map[route.EndpointKey]route.EndpointEvidence),
		Demands:   make(map[route.PortKey]route.PortDemand),
	}
	for name, c := range b.clusters {
		e.Links[name] = c.evidence
	}
	b.demand(e, now)
	b.mu.Lock() // reported drops what is too old
	defer b.mu.Unlock()
	for i := range b.table.Services {
		s := &b.table.Services[i]
		for _, p := range s.Ports {
			if ready, total := b.ownReadiness(s, p.Name, now); total > 0 {
				t := route.Target{Service: s.Name, Port: p.Name, Cluster: b.o.Cluster}
				ev := route.TargetEvidence{Processing: b.live.Forecast(t).Processing(now.UnixNano())}
				if s.Traffic != nil && s.Traffic.Capacity != nil || b.hasCapacityLabel(s) {
					ev.Share = b.share(route.PortKey{Service: s.Name, Port: p.Name}, now)
				}
				b.target(e, t, ev, ready, now)
			}
		}
		for j := range s.Remote {
			b.remote(e, s, &s.Remote[j], now)
		}
	}
	b.zoneEvidence(e)
	for key, s := range b.endpoints {
		if ev, ok := s.evidence(); ok {
			e.Endpoints[key] = ev
		}
	}
	return e
}

func (b *Board) remote(e *route.Evidence, s *route.Service, r *route.Remote, now time.Time) {
	for _, p := range r.Ports {
		var ev route.TargetEvidence
		var ready uint32
		if said, at, ok := b.reported(r.Cluster, farService{r.Name.String(), p.Name}, now); ok {
			ev.Reported, ev.Ready, ev.Total, ev.ReportedAt = true, said.ready, said.total, at
			ready = said.ready
		} else {
			for k := range r.Rows {
				if r.Rows[k].Port == p.Name {
					ready += r.Rows[k].Ready
				}
			}
		}
		b.delayed(&ev, r.Cluster, farService{r.Name.String(), p.Name}, now)
		b.granted(&ev, r.Cluster, farService{r.Name.String(), p.Name}, now)
		b.farZones(e, route.Target{Service: s.Name, Port: p.Name, Cluster: r.Cluster}, farService{r.Name.String(), p.Name}, now)
		b.target(e, route.Target{Service: s.Name, Port: p.Name, Cluster: r.Cluster}, ev, ready, now)
	}
}

// target completes the evidence of one target and moves its ramp. b.mu is held.
func (b *Board) target(e *route.Evidence, t route.Target, ev route.TargetEvidence, ready uint32, now time.Time) {
	state, ejected := b.targets[t], false
	if state != nil {
		ev.EjectedUntil, ev.Reason = state.ejector.Until(), state.ejector.Reason()
		ejected = !ev.EjectedUntil.IsZero() // on probation too: not back yet
	}
	ramp := b.ramps[t]
	switch in := ready > 0 && !ejected; {
	case ramp == nil && in:
		ramp = &serviceRamp{wasIn: true, since: now}
		b.ramps[t] = ramp
		ramp.ramp.Join(b.carried(t, now))
	case ramp == nil:
	case in:
		ramp.ramp.Back(now)
		if ramp.wasIn = true; ramp.since.IsZero() {
			ramp.since = now
		}
	case ramp.wasIn:
		ramp.ramp.Out(now, b.o.Ramp)
		ramp.since = time.Time{}
	}
	if ramp != nil {
		ramp.ready = ready
		ramp.ramp.Ready(uint64(ready), now, b.o.Ramp)
		ramp.withheld, ramp.next = ramp.ramp.Withheld(now, b.o.Ramp)
		if ev.Withheld = ramp.withheld; ev.Withheld > 0 && state != nil && !ejected {
			state.ejector.Held(now)
		}
	}
	if ev.Processing > 0 {
		if last := b.latest.Load(); last != nil {
			ev.Processing = steady(last.Targets[t].Processing, ev.Processing)
		}
	}
	if ev != (route.TargetEvidence{}) {
		e.Targets[t] = ev
	}
}

// carried is the capacity, in ready endpoints, of whichever cluster carried the load of
// a port so far; 0 where none has for as long as a hold-down, as after a start.
func (b *Board) carried(t route.Target, now time.Time) (most uint64) {
	hold := b.o.Ramp.Hold
	if b.o.Ramp == (route.RampOptions{}) {
		hold = route.DefaultRamp().Hold
	}
	for _, c := range b.index.Load().offers[portKey{t.Service, t.Port}] {
		other := b.ramps[route.Target{Service: t.Service, Port: t.Port, Cluster: c}]
		if c != t.Cluster && other != nil && !other.since.IsZero() && now.Sub(other.since) >= hold {
			most = max(most, uint64(other.ready))
		}
	}
	return most
}

func (e *endpointState) evidence() (route.EndpointEvidence, bool) {
	ev := route.EndpointEvidence{Healthy: true, Since: e.since}
	if e.checked {
		ev.Healthy, ev.Reason = e.health.Healthy, e.health.Reason
		if !ev.Healthy || e.health.Since.After(ev.Since) {
			ev.Since = e.health.Since
		}
	}
	if e.ejector != nil && !e.ejector.Until().IsZero() {
		ev.EjectedUntil = e.ejector.Until()
		if ev.Reason == "" {
			ev.Reason = e.ejector.Reason()
		}
	}
	return ev, e.checked || !ev.EjectedUntil.IsZero() || !ev.Since.IsZero()
}

// ownReadiness counts the own endpoints of a port. b.mu is held.
func (b *Board) ownReadiness(s *route.Service, port string, now time.Time) (ready, total uint32) {
	for i := range s.Endpoints {
		ep := &s.Endpoints[i]
		if ep.Port != port || ep.Health == catalog.Maintenance {
			continue
		}
		total++
		state := b.endpoints[route.EndpointKey{Service: s.Name, Port: port, ID: ep.ID}]
		if ep.Health.Usable() && (state == nil || ((!state.checked || state.health.Healthy) && !state.out(now))) {
			ready++
		}
	}
	return ready, total
}
