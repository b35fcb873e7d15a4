package simulation

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/tables"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/tablestore"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// prober is the product's, or one with a planted bug.
type prober interface {
	Tick(now time.Time, packets uint64) (probe wire.Probe, due, late bool, v liveness.Verdict)
	Receive(now time.Time, probe *wire.Probe) liveness.Sample
}

// seams are where the product's decisions are asked. A planted bug is another
// function here, and nowhere else: the product knows nothing of it.
type seams struct {
	prober       func(g *gateway, interval time.Duration, now time.Time) prober
	judge        func(g *gateway, t *route.Table) (tablestore.Answer, error)
	drills       func(g *gateway, id string, until time.Time)
	admits       func(g, other *gateway) bool
	sweep        func(g *gateway)
	sendReport   func(e *end, r wire.Report)
	observe      func(g *gateway, target route.Target, endpoint *route.EndpointKey, outcome route.Outcome, certain bool)
	plan         func(g *gateway) *route.Plan
	nextAttempt  func(c *call) (*attempt.Attempt, error)
	failed       func(c *call, err error, replay attempt.Replay) (time.Duration, error)
	replay       func(c *call) attempt.Replay
	startInbound func(g *gateway, c *call, service catalog.ServiceName) (*attempt.Sequence, error)

	offer     func(f *federation, read *catalog.Snapshot) (*catalog.Snapshot, error)
	ready     func(f *federation) bool
	knows     func(f *federation) bool
	above     func(f *federation, epoch uint64) uint64
	rules     func(f *federation) rules
	imports   func(ix *policy.Index) func(catalog.ClusterName, catalog.ServiceName) (merge.Import, bool)
	summaries func(l *listener) []*catalog.Summary
	applier   func(o exchange.ApplierOptions) *exchange.Applier
	returns   func(l *listener, err error) bool
	ramp      func(o route.RampOptions) route.RampOptions
	apply     func(l *listener, line []byte) (exchange.Effect, error)
	next      func(w *watch) ([]byte, exchange.Position, error)
}

// product is the product as it is.
func product() seams {
	return seams{
		prober: func(_ *gateway, interval time.Duration, now time.Time) prober { return liveness.New(interval, now) },
		judge: func(g *gateway, t *route.Table) (tablestore.Answer, error) {
			return tablestore.Judge(t, g.table, g.home.name)
		},
		drills:     func(g *gateway, id string, until time.Time) { g.board.Live().Drills(id, until) },
		admits:     func(g, other *gateway) bool { return g.admits(other) },
		sweep:      func(g *gateway) { g.router.Sweep() },
		sendReport: func(e *end, r wire.Report) { e.sendReport(r) },
		observe: func(g *gateway, target route.Target, endpoint *route.EndpointKey, outcome route.Outcome, certain bool) {
			g.board.Observe(target, endpoint, outcome, certain)
		},
		plan:        func(g *gateway) *route.Plan { return g.board.Plan() },
		nextAttempt: func(c *call) (*attempt.Attempt, error) { return c.sequence.Next() },
		failed: func(c *call, err error, replay attempt.Replay) (time.Duration, error) {
			return c.attempt.Failed(c.ctx, err, replay)
		},
		replay: func(c *call) attempt.Replay {
			if c.idempotent {
				return attempt.Always
			}
			return attempt.IfUndelivered
		},
		startInbound: func(g *gateway, c *call, service catalog.ServiceName) (*attempt.Sequence, error) {
			return g.router.StartInbound(c.ask(service), c.peer)
		},

		offer: func(f *federation, read *catalog.Snapshot) (*catalog.Snapshot, error) {
			return f.guard.Offer(f.clock(), read)
		},
		ready:     func(f *federation) bool { return f.complete() },
		knows:     func(f *federation) bool { return f.knowsPeers() },
		above:     func(f *federation, epoch uint64) uint64 { return max(f.disk.epoch, epoch) + 1 },
		rules:     func(f *federation) rules { return f.disk.rules },
		imports:   tables.Imports,
		summaries: func(l *listener) []*catalog.Summary { return l.applier.Snapshot().Services() },
		applier:   exchange.NewApplier,
		returns:   func(*listener, error) bool { return true },
		ramp:      func(o route.RampOptions) route.RampOptions { return o },
		apply: func(l *listener, line []byte) (exchange.Effect, error) {
			return l.applier.Apply(line, l.fed.clock())
		},
		next: func(w *watch) ([]byte, exchange.Position, error) {
			return w.from.exporter.Next(w.to.fed.home.name, w.sent, w.full, w.first)
		},
	}
}

// boardSeam is the board as the router sees it.
type boardSeam struct{ g *gateway }

func (b boardSeam) Plan() *route.Plan { return b.g.s.seams.plan(b.g) }

func (b boardSeam) Observe(target route.Target, endpoint *route.EndpointKey, outcome route.Outcome, certain bool) {
	b.g.s.seams.observe(b.g, target, endpoint, outcome, certain)
}

func endpointKey(service catalog.ServiceName, e *catalog.Endpoint) route.EndpointKey {
	return route.EndpointKey{Service: service, Port: e.Port, ID: e.ID}
}

func asserts(c *cluster) []policy.IDPattern {
	return []policy.IDPattern{policy.IDPattern("spiffe://" + string(c.name) + ".test/*")}
}
