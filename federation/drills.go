package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/drill"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

const (
	// drillKind is the kind of drills in the store, and in the history.
	drillKind = "drills"
	// drillName is the state that names the drill that is under way, "" none.
	drillName = "drill"
	// drillsKept is how many drills are remembered.
	drillsKept = 50
	// drillSettle is how long the last counts are awaited: a few reports.
	drillSettle = 3 * time.Second
	// drillOrphan is how long after its end a drill of another replica may go on to be
	// unfinished, before it is finished here.
	drillOrphan = time.Minute
)

// The ends of a drill that no gateway tells of.
const (
	drillEndStopped   = "stopped"
	drillEndRestarted = "federation_restarted"
	drillEndGateway   = "gateway_restarted"
	drillEndSilent    = "gateway_silent"
	drillEndUnjoined  = "gateway_did_not_join"
)

// drillUnjoined is how long a gateway may take to say that it takes part.
const drillUnjoined = route.DrillLease

// drills runs one drill after the other. What gateways do is told by tables alone; they
// end it by themselves, and the drill as a whole ends with the first that aborts.
type drills struct {
	p *plane

	ordering sync.Mutex // one order, or end, at a time
	mu       sync.Mutex
	run      *drillRun // nil: none
}

// drillRun is the drill that is under way.
type drillRun struct {
	spec      *route.Drill
	view      resource.Drill // without its Gateways' and Report's counts
	forecasts []drill.Forecast
	revision  uint64                        // of the item
	accounts  map[string]*route.DrillReport // by gateway
	endedBy   store.Author
}

// Drill orders a drill, or says of a dry run what is predicted.
func (d *drills) order(ctx context.Context, r *resource.DrillRequest, dryRun bool) (*resource.Drill, error) {
	o, err := drill.OrderOf(r)
	if err != nil {
		return nil, err
	}
	p := d.p
	rec, err := p.Recording()
	if err != nil {
		return nil, err
	}
	down, err := o.Clusters(rec.Gateways[0].Table)
	if err != nil {
		return nil, err
	}
	select { // as a simulation: one at a time
	case p.foreseeing <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	simulation := drill.Predict(rec, &o, down, p.random())
	<-p.foreseeing
	now := p.now().UTC()
	author := store.AuthorFrom(ctx)
	run := &drillRun{
		forecasts: drill.ForecastsOf(simulation, o.Moment(), rec.Gateways[0].Table), accounts: make(map[string]*route.DrillReport),
		view: resource.Drill{
			Cluster: p.opts.Cluster, State: resource.DrillPlanned, Down: down, Services: o.Services, Share: float64(o.Share) / 100,
			For: o.For, Moment: o.Moment(), Principal: author.Principal, Reason: author.Reason,
		},
		spec: &route.Drill{Down: down, Zones: o.Zones, AtOnce: o.AtOnce, Services: o.Services, Share: o.Share, For: o.For},
	}
	for _, z := range o.Zones {
		run.view.Zones = append(run.view.Zones, z.String())
	}
	for _, h := range p.gateways.fresh(now) {
		if g := h.report; g.TakesDrills && !g.Gateway.Draining && !g.Frozen && g.Switches == (route.Switches{}) {
			run.spec.Members = append(run.spec.Members, route.DrillMember{Gateway: g.Gateway.Name, StartedAt: g.StartedAt})
		}
	}
	if len(run.spec.Members) == 0 {
		return nil, &api.ExplainError{Reason: api.NoGateway, Cluster: p.opts.Cluster, Err: errors.New("no gateway is heard that takes part in drills, neither drains nor has a switch set")}
	}
	if dryRun {
		out := run.now()
		out.Simulation = simulation
		return out, nil
	}
	return d.begin(ctx, run, now)
}

// begin writes the drill down and has it told to the gateways, in this order.
func (d *drills) begin(ctx context.Context, run *drillRun, now time.Time) (*resource.Drill, error) {
	d.ordering.Lock()
	defer d.ordering.Unlock()
	p := d.p
	current, err := p.store.Get(ctx, drillStateKey())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if running := string(current.Value); running != "" {
		return nil, fmt.Errorf("drill %s: %w", running, api.ErrDrillRuns)
	}
	id := fmt.Sprintf("%s-%04x", now.Format("20060102t150405"), uint16(p.random()))
	run.spec.ID, run.spec.Until = id, now.Add(run.spec.For)
	run.view.ID, run.view.State, run.view.StartedAt, run.view.Until = id, resource.DrillRunning, now, run.spec.Until
	value, err := json.Marshal(run.now())
	if err != nil {
		return nil, err
	}
	writes := []store.Write{
		{Key: store.Key{Kind: drillKind, Name: id}, Value: value, Expect: store.Absent},
		{Key: drillStateKey(), Value: []byte(id), Expect: current.Revision},
	}
	if old, err := d.oldest(ctx); err != nil {
		return nil, err
	} else if old != "" {
		writes = append(writes, store.Write{Key: store.Key{Kind: drillKind, Name: old}, Delete: true, Expect: store.Any})
	}
	if run.revision, err = p.history.Apply(ctx, writes...); err != nil {
		if _, raced := errors.AsType[*store.ConflictError](err); raced {
			return nil, fmt.Errorf("another was ordered at the same moment: %w", api.ErrDrillRuns)
		}
		return nil, err
	}
	d.mu.Lock()
	d.run = run
	out := run.now()
	d.mu.Unlock()
	p.log.Warn("drill begins", "drill", id, "principal", run.view.Principal, "reason", run.view.Reason, "duration", run.spec.For, "count", len(run.spec.Members))
	p.touch(catalogChanged)
	return out, nil
}

// oldest is the drill that is forgotten for the next one, "" none.
func (d *drills) oldest(ctx context.Context) (string, error) {
	items, _, err := d.p.store.List(ctx, drillKind)
	if err != nil || len(items) < drillsKept {
		return "", err
	}
	return items[0].Key.Name, nil // names begin with their time
}

func drillStateKey() store.Key { return store.Key{Kind: stateKind, Name: drillName} }

// inTable is what gateways are told, nil for nothing.
func (d *drills) inTable() *route.Drill {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.run == nil || d.run.view.State != resource.DrillRunning {
		return nil
	}
	return d.run.spec
}

// take follows what a gateway says of its part: what one aborts ends for all.
func (d *drills) take(r *route.Report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	run := d.run
	if run == nil {
		return
	}
	i := slices.IndexFunc(run.spec.Members, func(m route.DrillMember) bool { return m.Gateway == r.Gateway.Name })
	switch {
	case i < 0:
	case !run.spec.Members[i].StartedAt.Equal(r.StartedAt):
		d.end(resource.DrillAborted, drillEndGateway, "gateway "+r.Gateway.Name+" has started anew")
	case r.Drill != nil && r.Drill.ID == run.spec.ID:
		run.accounts[r.Gateway.Name] = r.Drill
		if r.Drill.Reason.Aborts() {
			d.end(resource.DrillAborted, string(r.Drill.Reason), detailOf(r.Gateway.Name, r.Drill.Detail))
		}
	}
}

func detailOf(gateway, detail string) string {
	if detail == "" {
		return "gateway " + gateway
	}
	return "gateway " + gateway + ": " + detail
}

// now is the drill as it stands. The lock of drills is held, or nobody else knows it.
func (r *drillRun) now() *resource.Drill {
	out := r.view
	out.Gateways = make([]resource.DrillGateway, 0, len(r.spec.Members))
	var accounts []drill.Account
	for _, m := range r.spec.Members {
		g := resource.DrillGateway{Name: m.Gateway, StartedAt: m.StartedAt, State: "waiting"}
		if a := r.accounts[m.Gateway]; a != nil {
			if g.State = "running"; !a.Running {
				g.State, g.End, g.Detail = "ended", string(a.Reason), a.Detail
			}
			for _, row := range a.Rows {
				if row.Side == route.Drilled {
					g.Calls += row.Calls
				}
			}
			accounts = append(accounts, drill.Account{Gateway: m.Gateway, Rows: a.Rows})
		}
		out.Gateways = append(out.Gateways, g)
	}
	out.Report = drill.Compare(r.forecasts, accounts)
	return &out
}
