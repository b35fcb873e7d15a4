package simulation

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// gatewayWatch is what the oracle keeps of one life of a gateway.
type gatewayWatch struct {
	epoch, version uint64
	windows        map[catalog.ServiceName]*window
	failures       map[route.Target]int
	back           map[catalog.ClusterName]comeback
	drill          drillWatch
}

// window counts calls and retries of a service, by second of the gateway's clock,
// as the budget does.
type window struct {
	second         [11]int64
	calls, retries [11]int
}

func (w *window) at(now time.Time) (k int) {
	n := now.Unix()
	k = int(n % int64(len(w.second)))
	if w.second[k] != n {
		w.second[k], w.calls[k], w.retries[k] = n, 0, 0
	}
	return k
}

func (w *window) sum(now time.Time) (calls, retries int) {
	n := now.Unix()
	for k := range w.second {
		if w.second[k] > n-10 && w.second[k] <= n {
			calls, retries = calls+w.calls[k], retries+w.retries[k]
		}
	}
	return calls, retries
}

func (w *gatewayWatch) window(service catalog.ServiceName) *window {
	if w.windows == nil {
		w.windows = make(map[catalog.ServiceName]*window)
	}
	x := w.windows[service]
	if x == nil {
		x = new(window)
		w.windows[service] = x
	}
	return x
}

// called is told of a call that begins at a gateway.
func (o *oracle) called(c *call) {
	w := c.at.watch.window(c.service)
	w.calls[w.at(c.at.clock())]++
}

// attempted is told of an attempt: I1, I6, I7, I10, I12 and I14.
func (o *oracle) attempted(c *call, a *attempt.Attempt) {
	s, g := o.s, c.at
	s.stats.Attempts++
	if n := c.sequence.Attempts(); n > route.MaxTried {
		o.violated(Bounded, "%s makes attempt %d of one call", g.name, n)
	}
	target := a.Choice.Target.Cluster
	o.reaches(c, target)
	place := string(target)
	if a.Choice.Endpoint != nil {
		place = a.Choice.Endpoint.ID
	}
	if slices.Contains(c.tried, place) {
		o.violated(NotTwice, "%s sends call %d to %s, where it has failed", g.name, c.id, place)
	}
	o.holds(c, a)
	o.drills(c, a)
}

// retried is told that one more attempt of a call is going to be made: I6. Budgets
// are of services in a gateway: calls from outside count with its own. The window
// is that of now: its calls may leave it before their retries do.
func (o *oracle) retried(c *call) {
	g := c.at
	w := g.watch.window(c.service)
	w.retries[w.at(g.clock())]++
	if calls, retries := w.sum(g.clock()); float64(retries) > 0.2*float64(calls)+3 {
		o.violated(Amplified, "%s makes %d retries of %d calls to %s in 10 s", g.name, retries, calls, c.service)
	}
}

// reaches checks where an attempt goes by the rules of the gateway's table, and by
// those that have been in force for long: I1 and I10.
func (o *oracle) reaches(c *call, target catalog.ClusterName) {
	g := c.at
	if target == g.home.name {
		return
	}
	imports := func(r rules) bool {
		return slices.Contains(r.imported[target], c.service) && !slices.Contains(r.removed, target)
	}
	if !o.inTable(g, imports) {
		o.violated(AllowList, "%s sends a call to %s at %s, which it does not import", g.name, c.service, target)
	}
	if since := o.refusedSince(g.home, imports); since >= 0 && o.mustKnow(g, since) {
		o.violated(Revoked, "%s sends a call to %s at %s, withdrawn %v ago", g.name, c.service, target, o.s.now-since)
	}
}

// inTable asks the rules that the gateway's table was made by.
func (o *oracle) inTable(g *gateway, yes func(rules) bool) bool {
	return slices.ContainsFunc(o.table[tableKey{g.home.name, g.table.Epoch, g.table.Version}], yes)
}

// attemptFailed is told how an attempt failed.
func (o *oracle) attemptFailed(c *call, err error) {
	var link *tunnel.LinkError
	var refused *tunnel.RefusedError
	target := c.attempt.Choice.Target
	switch {
	case errors.As(err, &link):
		return
	case errors.As(err, &refused):
		switch refused.Status { //nolint:exhaustive // the others are the service's
		case wire.Denied, wire.Overloaded, wire.Draining, wire.Internal:
			return
		}
	}
	place := string(target.Cluster)
	if e := c.attempt.Choice.Endpoint; e != nil {
		place = e.ID
	}
	c.tried = append(c.tried, place)
	o.blames(c.at, target)
}

func (o *oracle) blames(g *gateway, t route.Target) {
	if g.watch.failures == nil {
		g.watch.failures = make(map[route.Target]int)
	}
	g.watch.failures[t]++
}

// answered is told of an answer; ok is false for one that says that the service
// failed.
func (o *oracle) answered(c *call, ok bool) {
	if !ok {
		o.blames(c.at, c.attempt.Choice.Target)
	}
}

// executed is told that an instance executes a request: I1, I8, I9 and I10.
func (o *oracle) executed(c *call, i *instance) {
	o.s.stats.Executions++
	if !c.idempotent && c.request.executed > 1 {
		o.violated(Once, "call %d is executed %d times and is not idempotent", c.id, c.request.executed)
	}
	if c.hops > 2 {
		o.violated(Hops, "call %d comes over %d gateways", c.id, c.hops)
	}
	o.permitted(c, i.of.name, "executes")
}

// permitted checks a call at the gateway of the service's own cluster.
func (o *oracle) permitted(c *call, service catalog.ServiceName, does string) {
	g := c.at
	from := c.from.name
	yes := func(r rules) bool { return r.allows(g.home.name, from, service) }
	if !o.inTable(g, yes) {
		o.violated(AllowList, "%s %s call %d of %s to %s, which it is not allowed", g.name, does, c.id, from, service)
	}
	if since := o.refusedSince(g.home, yes); since >= 0 && o.mustKnow(g, since) {
		o.violated(Revoked, "%s %s call %d of %s to %s, denied %v ago", g.name, does, c.id, from, service, o.s.now-since)
	}
}

// comeback is what is known of the links to a cluster.
type comeback struct {
	up, was bool
	at      time.Duration // when they came back; 0 is never
}

// planMade is told of a new plan: I11, and what I12 needs.
func (o *oracle) planMade(g *gateway) {
	e := g.board.Evidence()
	if e == nil {
		return
	}
	w := &g.watch
	for t, ev := range e.Targets {
		if ev.EjectedUntil.After(e.Now) {
			o.s.stats.Ejections++
		}
		if ev.EjectedUntil.After(e.Now) && w.failures[t] == 0 {
			o.violated(Blame, "%s ejects %s at %s, which has not failed it", g.name, t.Service, t.Cluster)
		}
	}
	if w.back == nil {
		w.back = make(map[catalog.ClusterName]comeback)
	}
	for c := range w.back {
		if _, known := e.Links[c]; !known {
			delete(w.back, c) // no peer any more: what comes back then is a new one
		}
	}
	for c, l := range e.Links {
		b := w.back[c]
		if l.Up && !b.up && b.was {
			b.at = o.s.now
		}
		b.up, b.was = l.Up, b.was || l.Up
		w.back[c] = b
	}
}

// holds checks that a cluster whose links have come back takes nothing that
// another one, in full service, could have taken: I12.
func (o *oracle) holds(c *call, a *attempt.Attempt) {
	g := c.at
	target := a.Choice.Target
	b := g.watch.back[target.Cluster]
	if c.local || target.Cluster == g.home.name || a.Choice.Mode != route.Normal || b.at == 0 || o.s.now-b.at >= o.s.ramp.Hold-board50 || len(c.tried) > 0 || c.sequence.Attempts() > 1 {
		return
	}
	e := g.board.Evidence()
	others := 0
	for i := range g.table.Services {
		row := &g.table.Services[i]
		if row.Name != c.service {
			continue
		}
		for _, r := range row.Remote {
			other := g.watch.back[r.Cluster]
			ev := e.Targets[route.Target{Service: c.service, Port: port, Cluster: r.Cluster}]
			switch {
			case r.Cluster == target.Cluster:
			case !other.up || !e.Links[r.Cluster].Up || other.at != 0 || !ev.EjectedUntil.IsZero() || ev.Withheld > 0 || !wholly(ev, r):
				return // it may be needed: what else there is, is not in full service
			default:
				others++
			}
		}
	}
	if others > 0 {
		if o.s.tracing() {
			text, _ := json.MarshalIndent(g.board.Plan().Explain(a.Record.Request()), "", " ")
			o.s.say("oracle", "%s", text)
		}
		o.violated(Ramped, "%s sends a call to %s at %s, %v after its links came back, and others could have taken it",
			g.name, c.service, target.Cluster, o.s.now-b.at)
	}
}

const board50 = 50 * time.Millisecond

// wholly: all that the cluster has of the service is ready.
func wholly(ev route.TargetEvidence, r route.Remote) bool {
	if ev.Reported {
		return ev.Total > 0 && ev.Ready == ev.Total
	}
	for _, row := range r.Rows {
		if row.Ready != row.Total || row.Total == 0 {
			return false
		}
	}
	return len(r.Rows) > 0
}
