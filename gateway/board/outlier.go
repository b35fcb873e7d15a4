package board

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// watch is a port of which calls have failed lately. Only such ports are watched: where
// nothing fails nobody is an outlier, and looking costs nothing.
type watch struct {
	began     time.Time // the first failure of those that have gone on since
	failed    time.Time // the last one
	targets   group[catalog.ClusterName]
	endpoints group[string]
	zones     group[string]
	explained time.Time // when a peer last said which of its endpoints had failed
}

// group are members that serve alike, with what their counters said at each look of
// the window.
type group[K comparable] struct {
	looks []look[K]
}

type look[K comparable] struct {
	at  time.Time
	all map[K]tally
}

type tally struct{ calls, failures uint64 }

func tallyOf(c *route.Counters) (t tally) {
	t.calls, t.failures = c.Judged()
	return t
}

// take adds a look and returns what the calls of the window say of each member.
func (g *group[K]) take(now time.Time, window time.Duration, members []K, counters func(K) tally) []route.Standing {
	all := make(map[K]tally, len(members))
	for _, k := range members {
		all[k] = counters(k)
	}
	for len(g.looks) > 0 && now.Sub(g.looks[0].at) > window {
		g.looks = g.looks[1:]
	}
	out := make([]route.Standing, len(members))
	if len(g.looks) > 0 {
		for i, k := range members {
			// A member that is new, or whose counters began anew, has no past.
			if was, has := g.looks[0].all[k]; has && was.calls <= all[k].calls && was.failures <= all[k].failures {
				out[i] = route.Standing{Calls: all[k].calls - was.calls, Failures: all[k].failures - was.failures}
			}
		}
	}
	g.looks = append(g.looks, look[K]{now, all})
	return out
}

// explain forgets what failed at the targets of a port so far: a cluster says that it has
// lost endpoints, which it no longer picks. Only once a window, or one whose endpoints
// come and go would never be judged. b.mu is held.
func (b *Board) explain(k portKey, now time.Time) {
	w := b.watched[k]
	if w == nil || now.Sub(w.explained) <= b.o.Outliers.Window {
		return
	}
	w.targets.looks, w.began, w.explained = nil, w.failed, now
}

// watch begins to watch a port, of which a call has failed. b.mu is held.
func (b *Board) watch(k portKey, now time.Time) {
	w := b.watched[k]
	if w == nil {
		w = &watch{began: now}
		b.watched[k] = w
	}
	w.failed = now
}

// lookForOutliers ejects who fails more of its calls than the others. b.compiling is
// held.
func (b *Board) lookForOutliers(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.looked) {
		return
	}
	b.looked = now.Add(b.o.Outliers.Next(b.o.Random()))
	ix := b.index.Load()
	for k, w := range b.watched {
		if now.Sub(w.failed) > b.o.Outliers.Window {
			delete(b.watched, k)
			continue
		}
		// What is smaller and explains the failures goes first: an endpoint or a zone of
		// the own cluster is no reason to leave it.
		if b.outlyingZone(ix, k, w, now) || b.outlyingEndpoint(ix, k, w, now) {
			w.zones.looks, w.endpoints.looks, w.targets.looks = nil, nil, nil // they have had their effect
			continue
		}
		b.outlyingTarget(ix, k, w, now)
	}
}

func (b *Board) outlyingTarget(ix *index, k portKey, w *watch, now time.Time) {
	clusters := ix.offers[k]
	target := func(c catalog.ClusterName) route.Target {
		return route.Target{Service: k.service, Port: k.port, Cluster: c}
	}
	all := w.targets.take(now, b.o.Outliers.Window, clusters, func(c catalog.ClusterName) tally { return tallyOf(b.live.Target(target(c))) })
	ejected := 0
	for i, c := range clusters {
		if s := b.targets[target(c)]; s != nil && !s.ejector.Until().IsZero() {
			all[i].Ejected = true
			ejected++
		}
		all[i].Trial = b.onTrial(target(c))
	}
	i, found := b.o.Outliers.Outlier(all)
	if !found {
		return
	}
	t := target(clusters[i])
	if all[i].Trial {
		b.abort(t, all[i], now)
		w.targets.looks = nil // those calls have had their effect
		return
	}
	if w.failed.Sub(w.began) < b.o.Outliers.Lasting {
		return
	}
	s := b.targets[t]
	if s == nil || !b.o.Outliers.Room(ejected, len(clusters)) {
		return
	}
	if s.ejector.Eject(now, b.o.Random(), outlying(all[i], b.o.Outliers.Window)) {
		s.clean = false
		b.tellEjected(t, s)
	}
}

// onTrial reports whether a fail-back has given a target some of its load, not all.
func (b *Board) onTrial(t route.Target) bool {
	held := 0.0
	if c := b.clusters[t.Cluster]; c != nil {
		held = c.evidence.Withheld
	}
	r := b.ramps[t]
	if r == nil {
		return false
	}
	held = max(held, r.withheld)
	return held > 0 && held < 1
}

// abort takes back what a fail-back has given: the target fails calls, and starts from
// the hold-down.
func (b *Board) abort(t route.Target, s route.Standing, now time.Time) {
	r := b.ramps[t]
	r.ramp.Out(now, b.o.Ramp)
	r.ramp.Back(now)
	b.metrics.aborts.WithLabelValues(t.Service.String(), string(t.Cluster)).Inc()
	b.log.Warn("fail-back aborted", "service", t.Service.String(), "port", t.Port, "cluster", string(t.Cluster),
		"reason", outlying(s, b.o.Outliers.Window))
}

func (b *Board) outlyingEndpoint(ix *index, k portKey, w *watch, now time.Time) bool {
	ids := ix.endpoints[k]
	if len(ids) < 2 {
		return false
	}
	key := func(id string) route.EndpointKey {
		return route.EndpointKey{Service: k.service, Port: k.port, ID: id}
	}
	all := w.endpoints.take(now, b.o.Outliers.Window, ids, func(id string) tally { return tallyOf(b.live.Endpoint(key(id))) })
	ejected := 0
	for i, id := range ids {
		if e := b.endpoints[key(id)]; e != nil && e.ejector != nil && !e.ejector.Until().IsZero() {
			all[i].Ejected = true
			ejected++
		}
	}
	i, found := b.o.Outliers.Outlier(all)
	if !found || !b.o.Outliers.Room(ejected, len(ids)) {
		return false
	}
	e := b.endpoints[key(ids[i])]
	if e == nil || e.ejector == nil { // it failed calls, so that it has both
		return false
	}
	if !e.ejector.Eject(now, b.o.Random(), outlying(all[i], b.o.Outliers.Window)) {
		return false
	}
	e.clean = false
	b.log.Warn("endpoint ejected", "service", k.service.String(), "port", k.port, "endpoint", ids[i],
		"reason", e.ejector.Reason(), "duration", e.ejector.Until().Sub(now))
	return true
}

// outlying says why in words.
func outlying(s route.Standing, window time.Duration) string {
	return fmt.Sprintf("%d of %d calls failed in %v, more than elsewhere", s.Failures, s.Calls, window)
}

// tellEjected counts and logs the ejection of a target.
func (b *Board) tellEjected(t route.Target, s *targetState) {
	b.metrics.ejections.WithLabelValues(t.Service.String(), string(t.Cluster)).Inc()
	b.log.Warn("target ejected", "service", t.Service.String(), "port", t.Port, "cluster", string(t.Cluster),
		"reason", s.ejector.Reason(), "duration", s.ejector.Until().Sub(b.o.Now()))
}
