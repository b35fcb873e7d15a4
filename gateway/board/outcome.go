package board

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/health"
)

// targetState is what outcomes say of one service@cluster. Most targets have
// none: a target that never failed needs no state.
type targetState struct {
	ejector *route.Ejector
	clean   bool // nothing to reset by a success
}

// endpointState is the same for one endpoint of the own cluster, with what
// active checks say of it.
type endpointState struct {
	targetState
	checked bool
	health  health.State
	// since is when it came into service, by the table or out of an ejection; zero of
	// one that was there at the start.
	since time.Time
}

// Observe takes the outcome of one attempt. endpoint is set where the target is
// in the own cluster and an endpoint was chosen. certain says of a failure that
// nothing was there to take the call (refused, unreachable), which counts twice:
// three of those eject, so that the retries of the budget's floor last until then
// even where calls are few. A success of what never failed, which nearly all are,
// takes a shared lock only.
func (b *Board) Observe(target route.Target, endpoint *route.EndpointKey, outcome route.Outcome, certain bool) {
	switch outcome {
	case route.Success:
		if b.nothingToReset(target, endpoint) {
			return
		}
	case route.ServiceFailure:
	case route.LinkFailure, route.Refusal, route.CallerFailure:
		return // they speak of nothing that is kept here
	}
	now := b.o.Now()
	ix := b.index.Load()
	if ix == nil {
		return
	}
	b.mu.Lock()
	if outcome == route.ServiceFailure {
		b.watch(portKey{target.Service, target.Port}, now)
	}
	changed := b.observeTarget(ix, target, outcome, certain, now)
	if endpoint != nil {
		inZone := b.observeZone(ix, *endpoint, outcome, now)
		changed = b.observeEndpoint(ix, *endpoint, outcome, certain, now) || inZone || changed
	}
	b.mu.Unlock()
	if changed {
		b.Touch()
	}
}

func (b *Board) nothingToReset(target route.Target, endpoint *route.EndpointKey) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if t := b.targets[target]; t != nil && !t.clean {
		return false
	}
	if endpoint == nil {
		return true
	}
	if len(b.zones) > 0 && !b.zoneIsClean(*endpoint) {
		return false
	}
	e := b.endpoints[*endpoint]
	return e == nil || e.ejector == nil || e.clean
}

func (b *Board) observeTarget(ix *index, target route.Target, outcome route.Outcome, certain bool, now time.Time) bool {
	t := b.targets[target]
	if t == nil {
		if outcome == route.Success || !ix.hasTarget(target) {
			return false
		}
		t = &targetState{ejector: route.NewEjector(b.o.Ejector)}
		b.targets[target] = t
	}
	ejected, total := 0, 0
	for _, c := range ix.offers[portKey{target.Service, target.Port}] {
		total++
		other := b.targets[route.Target{Service: target.Service, Port: target.Port, Cluster: c}]
		if c != target.Cluster && other != nil && other.ejector.Until().After(now) {
			ejected++
		}
	}
	if !t.observe(outcome, certain, now, b.o.Random(), b.o.Ejector.Room(ejected, total)) {
		return false
	}
	if t.ejector.Until().After(now) {
		b.tellEjected(target, t)
	} else {
		b.log.Info("target passed its probation", "service", target.Service.String(), "port", target.Port, "cluster", string(target.Cluster))
	}
	return true
}

func (b *Board) observeEndpoint(ix *index, key route.EndpointKey, outcome route.Outcome, certain bool, now time.Time) bool {
	e := b.endpoints[key]
	if e == nil {
		if outcome == route.Success || !ix.hasEndpoint(key) {
			return false
		}
		e = new(endpointState)
		b.endpoints[key] = e
	}
	if e.ejector == nil {
		if outcome == route.Success {
			return false
		}
		e.ejector = route.NewEjector(b.o.Ejector)
	}
	ids := ix.endpoints[portKey{key.Service, key.Port}]
	ejected := 0
	for _, id := range ids {
		other := b.endpoints[route.EndpointKey{Service: key.Service, Port: key.Port, ID: id}]
		if id != key.ID && other != nil && other.out(now) {
			ejected++
		}
	}
	if !e.observe(outcome, certain, now, b.o.Random(), b.o.Ejector.Room(ejected, len(ids))) {
		return false
	}
	if e.ejector.Until().IsZero() {
		e.since = now
	} else if e.ejector.Until().After(now) {
		b.log.Warn("endpoint ejected", "service", key.Service.String(), "port", key.Port, "endpoint", key.ID,
			"reason", e.ejector.Reason(), "duration", e.ejector.Until().Sub(now))
	}
	return true
}

func (t *targetState) observe(outcome route.Outcome, certain bool, now time.Time, random uint64, room bool) bool {
	changed := t.ejector.Observe(outcome, now, random, room)
	if certain && outcome == route.ServiceFailure && !changed {
		changed = t.ejector.Observe(outcome, now, random, room)
	}
	t.clean = outcome == route.Success && t.ejector.Until().IsZero()
	return changed
}

// out reports whether the endpoint is ejected at now.
func (e *endpointState) out(now time.Time) bool {
	return e.ejector != nil && e.ejector.Until().After(now)
}

// SetHealth takes what active checks found of an endpoint. One that passes again
// ends an ejection: the check has made the probation.
func (b *Board) SetHealth(key route.EndpointKey, s health.State) {
	b.mu.Lock()
	e := b.endpoints[key]
	if e == nil {
		if ix := b.index.Load(); ix == nil || !ix.hasEndpoint(key) {
			b.mu.Unlock()
			return
		}
		e = new(endpointState)
		b.endpoints[key] = e
	}
	if s.Healthy && e.checked && !e.health.Healthy {
		if e.ejector != nil && !e.ejector.Until().IsZero() {
			e.since = b.o.Now()
		}
		e.ejector = nil
	}
	e.checked, e.health = true, s
	b.mu.Unlock()
	b.Touch()
}

// greet takes note of the endpoints of slow-started services that the new table has and
// the old one had not: where no check says so, this is when they came into service.
func (b *Board) greet(old, ix *index, t *route.Table) {
	if old == nil {
		return
	}
	now := b.o.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range t.Services {
		s := &t.Services[i]
		if s.Traffic == nil || s.Traffic.SlowStart == nil {
			continue
		}
		for _, p := range s.Ports {
			b.greetPort(portKey{s.Name, p.Name}, old, ix, now)
		}
	}
}

func (b *Board) greetPort(k portKey, old, ix *index, now time.Time) {
	was, ids := old.endpoints[k], ix.endpoints[k]
	if slices.Equal(was, ids) {
		return
	}
	known := make(map[string]bool, len(was))
	for _, id := range was {
		known[id] = true
	}
	for _, id := range ids {
		key := route.EndpointKey{Service: k.service, Port: k.port, ID: id}
		if !known[id] && b.endpoints[key] == nil {
			b.endpoints[key] = &endpointState{since: now}
		}
	}
}

// forget drops the state of what the new table does not know.
func (b *Board) forget(t *route.Table, ix *index) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.zones {
		if !slices.Contains(ix.zones[portKey{k.Service, k.Port}], k.Zone) {
			delete(b.zones, k)
		}
	}
	for k := range b.watched {
		if len(ix.offers[k]) == 0 {
			delete(b.watched, k)
		}
	}
	for target := range b.targets {
		if !ix.hasTarget(target) {
			delete(b.targets, target)
		}
	}
	for key := range b.endpoints {
		if !ix.hasEndpoint(key) {
			delete(b.endpoints, key)
		}
	}
	peers := make(map[catalog.ClusterName]bool, len(t.Peers))
	for i := range t.Peers {
		peers[t.Peers[i].Name] = true
	}
	for cluster := range b.reports {
		if !peers[cluster] {
			delete(b.reports, cluster)
		}
	}
	for cluster := range b.delays {
		if !peers[cluster] {
			delete(b.delays, cluster)
		}
	}
	for cluster := range b.loads {
		if !peers[cluster] {
			delete(b.loads, cluster)
		}
	}
	for key := range b.shares {
		if len(ix.endpoints[portKey{key.Service, key.Port}]) == 0 {
			delete(b.shares, key)
		}
	}
}
