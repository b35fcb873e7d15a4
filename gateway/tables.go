package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/health"
	"github.com/isthmus-mesh/isthmus/gateway/tablestore"
)

const (
	// saveInterval is the least time between two tables on disk: under churn the
	// newest is kept, not each.
	saveInterval = time.Second
	// saveShare makes the pause after a write a multiple of what it took, up to
	// saveAtMost: a large table under churn costs 2 % of a core and of the disk. A
	// restart asks for what has changed since.
	saveShare  = 50
	saveAtMost = 5 * time.Minute
	// sourceRetry is the pause after a table source that gave up.
	sourceRetry = 5 * time.Second
)

// tables takes route tables from the disk and from the federation, refuses those
// that must not replace the one in force, and puts the others in force.
type tables struct {
	g     *Gateway
	store *tablestore.Store
	save  chan *route.Table // the newest that is not on disk
	swept chan struct{}     // asks for a sweep

	mu      sync.Mutex
	current *route.Table
	// frozen keeps current; offered is then the newest that the federation sent.
	frozen  bool
	offered *route.Table
}

func newTables(g *Gateway, store *tablestore.Store) *tables {
	return &tables{g: g, store: store, save: make(chan *route.Table, 1), swept: make(chan struct{}, 1)}
}

// boot puts the last good table of the disk in force, before anything else can
// ask for one.
func (t *tables) boot() {
	table, skipped, err := t.store.Load()
	for _, s := range skipped {
		t.g.log.Error("table on disk cannot be used", "path", s.Path, "err", s.Err)
		t.g.metrics.tables.WithLabelValues("corrupt").Inc()
	}
	if err != nil {
		t.g.log.Error("tables on disk cannot be read", "err", err)
		t.g.conditions.Set(conditionDisk, false, err.Error())
		return
	}
	t.g.conditions.Set(conditionDisk, true, fmt.Sprintf("%d skipped", len(skipped)))
	if table == nil {
		return
	}
	t.g.log.Info("table loaded from disk", "epoch", table.Epoch, "version", table.Version, "count", len(table.Services))
	t.apply(table)
}

// publish takes a table of the federation.
func (t *tables) publish(table *route.Table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.g
	newest := t.current
	if t.offered != nil {
		newest = t.offered
	}
	switch answer, err := tablestore.Judge(table, newest, g.o.Cluster); answer {
	case tablestore.Applied:
	case tablestore.Unchanged:
		g.metrics.tables.WithLabelValues(string(answer)).Inc()
		g.conditions.Set(conditionOffer, true, "")
		return
	case tablestore.Older, tablestore.Invalid:
		t.refuse(string(answer), err)
		return
	}
	if t.frozen && t.current != nil {
		t.offered = table
		g.metrics.tables.WithLabelValues("frozen").Inc()
		g.conditions.Set(conditionOffer, true, "")
		next, changed := narrow(t.current, table)
		if !changed {
			return
		}
		table = next
	}
	t.apply(table)
	g.metrics.tables.WithLabelValues(string(tablestore.Applied)).Inc()
	g.conditions.Set(conditionOffer, true, "")
	for { // the newest replaces one that waits
		select {
		case t.save <- table:
			return
		default:
		}
		select {
		case <-t.save:
		default:
		}
	}
}

func (t *tables) refuse(result string, err error) {
	t.g.metrics.tables.WithLabelValues(result).Inc()
	t.g.conditions.Set(conditionOffer, false, result+": "+err.Error())
	t.g.log.Error("table refused, the one in force stays", "reason", result, "err", err)
}

// apply puts a checked table in force. What must be known before it is used goes
// first: a peer's bundle before its links; what must stop goes before what begins:
// the plan, with its denials, before the links.
func (t *tables) apply(table *route.Table) {
	g := t.g
	t.current = table
	g.trust(table)
	known := make(map[catalog.ServiceName]bool, len(table.Services))
	for i := range table.Services {
		known[table.Services[i].Name] = true
	}
	g.account.SetServices(known)
	g.flow.SetTable(table)
	g.board.SetTable(table)
	g.drill.SetTable(table, g.overDrills())
	g.checker.SetTargets(checks(table))
	g.router.Retire(func(n catalog.ServiceName) bool { return known[n] })
	if err := g.node.SetPeers(peersOf(table)); err != nil {
		g.log.Error("some peers cannot be linked", "err", err)
	}
	g.distrust(table)
	t.sweepSoon()
	if g.dns != nil {
		g.dns.Changed()
	}
	g.metrics.epoch.Set(float64(table.Epoch))
	g.metrics.version.Set(float64(table.Version))
	g.conditions.Set(conditionTable, true, fmt.Sprintf("epoch %d, version %d", table.Epoch, table.Version))
}

// checks are the active checks of the own cluster's endpoints.
func checks(table *route.Table) []health.Target {
	var targets []health.Target
	for i := range table.Services {
		s := &table.Services[i]
		check := policy.HealthCheck{}
		if s.Traffic != nil && s.Traffic.HealthCheck != nil {
			check = *s.Traffic.HealthCheck
		}
		for j := range s.Endpoints {
			e := &s.Endpoints[j]
			port, ok := catalog.FindPort(s.Ports, e.Port)
			if !ok || port.Protocol == catalog.UDP || e.Health == catalog.Maintenance {
				continue // nothing that a connect could find out
			}
			targets = append(targets, health.Target{
				Key: route.EndpointKey{Service: s.Name, Port: e.Port, ID: e.ID}, Address: e.Address, Server: e.ServerID, Check: check,
			})
		}
	}
	return targets
}

// follow takes tables from the source until ctx ends.
func (t *tables) follow(ctx context.Context) error {
	if t.g.o.Tables == nil {
		return nil
	}
	for {
		err := t.g.o.Tables.Run(ctx, t.publish)
		if ctx.Err() != nil {
			return nil
		}
		// It reconnects by itself; that it gave up is news, but no end.
		t.g.log.Error("table source ended, starting it again", "err", err, "duration", sourceRetry)
		if !pause(ctx, sourceRetry/2+rand.N(sourceRetry/2)) {
			return nil
		}
	}
}

// keep writes tables to disk until ctx ends; the last one that waits, too.
func (t *tables) keep(ctx context.Context) error {
	for {
		var began time.Time
		select {
		case table := <-t.save:
			began = time.Now()
			t.write(table)
		case <-ctx.Done():
			select {
			case table := <-t.save:
				t.write(table)
			default:
			}
			return nil
		}
		pause(ctx, min(max(saveInterval, saveShare*time.Since(began)), saveAtMost))
	}
}

func (t *tables) write(table *route.Table) {
	if t.g.succession.done() {
		return // the successor keeps the disk
	}
	if err := t.store.Save(table); err != nil {
		// The data plane goes on; a restart would serve an older table.
		t.g.metrics.saves.WithLabelValues("failed").Inc()
		t.g.conditions.Set(conditionDisk, false, err.Error())
		t.g.log.Error("table cannot be kept on disk", "epoch", table.Epoch, "version", table.Version, "err", err)
		return
	}
	t.g.metrics.saves.WithLabelValues("ok").Inc()
	t.g.conditions.Set(conditionDisk, true, "")
}

// pause waits for d, and reports whether ctx is still going on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
