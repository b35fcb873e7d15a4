package board

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/spare"
	"github.com/prometheus/client_golang/prometheus"
)

// MinInterval is the least time between two plans.
const MinInterval = 50 * time.Millisecond

// maxInterval is the most: distances and losses move without an event.
const maxInterval = time.Second

// Options configure a Board.
type Options struct {
	// Cluster is the own cluster; Self is where this gateway runs.
	Cluster catalog.ClusterName
	Self    catalog.Locality
	// Links reports the state of the links; nil means that there are none.
	Links func() []Link
	// Ramp is the pace of fail-backs; zero means route.DefaultRamp.
	Ramp route.RampOptions
	// Ejector is the rule of ejections; zero means route.DefaultEjector.
	Ejector route.EjectorOptions
	// Learned is how many calls at once the own endpoints of a service were found to
	// take through this gateway; false where that is not known. Nil is never.
	Learned func(service catalog.ServiceName) (calls int, ok bool)
	// Outliers is that of outliers; zero means route.DefaultOutliers.
	Outliers route.OutlierOptions
	// Random drives jitter; required.
	Random func() uint64
	// Now is the clock; nil means the real one.
	Now func() time.Time
	// Log receives ejections and changes of links; nil discards them.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Board is the plan in force and what it rests on.
type Board struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	live    *route.Live
	plan    atomic.Pointer[route.Plan]
	latest  atomic.Pointer[route.Evidence]
	index   atomic.Pointer[index]
	dirty   chan struct{}

	// compiling guards what only plans are made of.
	compiling sync.Mutex
	switches  route.Switches
	table     *route.Table
	clusters  map[catalog.ClusterName]*clusterState
	ramps     map[route.Target]*serviceRamp
	demands   map[route.PortKey]*spare.Demand

	// mu guards what requests and reports write.
	mu        sync.RWMutex
	targets   map[route.Target]*targetState
	endpoints map[route.EndpointKey]*endpointState
	zones     map[route.ZoneKey]*targetState // of the own cluster, that were ejected once
	watched   map[portKey]*watch
	looked    time.Time                                    // when outliers are looked for next
	reports   map[catalog.ClusterName]map[string]farReport // by gateway
	delays    map[catalog.ClusterName]map[string]farDelays // by gateway
	loads     map[catalog.ClusterName]map[string]farLoad   // by gateway
	granters  map[route.PortKey]*spare.Granter
	divisions uint64 // of what is to spare, so far
	told      map[spare.Peer]toldLoad
	loadNews  chan struct{}
	offers    map[route.PortKey]offered
	shares    map[route.PortKey]lent
	even      float64 // the part of each of the cluster's gateways, 0 while not known
}

// New returns a board without a plan.
func New(o Options) (*Board, error) {
	if o.Random == nil {
		return nil, errors.New("board: random is required")
	}
	if o.Links == nil {
		o.Links = func() []Link { return nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Ejector == (route.EjectorOptions{}) {
		o.Ejector = route.DefaultEjector()
	}
	if o.Outliers == (route.OutlierOptions{}) {
		o.Outliers = route.DefaultOutliers()
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	live := route.NewLive()
	m, err := newMetrics(o.Registerer, live)
	if err != nil {
		return nil, err
	}
	return &Board{
		o: o, log: log, metrics: m, live: live, dirty: make(chan struct{}, 1),
		clusters:  make(map[catalog.ClusterName]*clusterState),
		ramps:     make(map[route.Target]*serviceRamp),
		reports:   make(map[catalog.ClusterName]map[string]farReport),
		delays:    make(map[catalog.ClusterName]map[string]farDelays),
		demands:   make(map[route.PortKey]*spare.Demand),
		loads:     make(map[catalog.ClusterName]map[string]farLoad),
		granters:  make(map[route.PortKey]*spare.Granter),
		shares:    make(map[route.PortKey]lent),
		told:      make(map[spare.Peer]toldLoad),
		loadNews:  make(chan struct{}, 1),
		zones:     make(map[route.ZoneKey]*targetState),
		watched:   make(map[portKey]*watch),
		targets:   make(map[route.Target]*targetState),
		endpoints: make(map[route.EndpointKey]*endpointState),
	}, nil
}

// Plan is the plan in force; nil before the first table.
func (b *Board) Plan() *route.Plan { return b.plan.Load() }

// Evidence is what the plan in force was compiled from; nil before the first
// table. It must not be changed.
func (b *Board) Evidence() *route.Evidence { return b.latest.Load() }

// Live are the live counters.
func (b *Board) Live() *route.Live { return b.live }

// SetTable puts a checked table in force and returns when its plan is.
func (b *Board) SetTable(t *route.Table) {
	ix := indexOf(t)
	b.compiling.Lock()
	defer b.compiling.Unlock()
	old := b.table
	b.table = t
	b.greet(b.index.Load(), ix, t)
	b.index.Store(ix)
	b.forget(t, ix)
	b.forgetRamps(t, ix)
	b.live.Prune(b.compile(b.o.Now()))
	b.metrics.retire(old, t)
}

// forgetRamps drops the state of clusters and targets that t does not know.
func (b *Board) forgetRamps(t *route.Table, ix *index) {
	for target := range b.ramps {
		if !ix.hasTarget(target) {
			delete(b.ramps, target)
		}
	}
	for name := range b.clusters {
		if !slices.ContainsFunc(t.Peers, func(p route.Peer) bool { return p.Name == name }) {
			delete(b.clusters, name)
		}
	}
}

// SetSwitches puts the gateway's own switches in force and returns when the plan is.
func (b *Board) SetSwitches(s route.Switches) {
	b.compiling.Lock()
	defer b.compiling.Unlock()
	if b.switches == s {
		return
	}
	b.switches = s
	if b.table != nil {
		b.compile(b.o.Now())
	}
}

// Touch marks the board: something that its sources report has changed.
func (b *Board) Touch() {
	select {
	case b.dirty <- struct{}{}:
	default:
	}
}

// Marked takes the mark: it reports whether there is one, for who drives a board
// without Run.
func (b *Board) Marked() bool {
	select {
	case <-b.dirty:
		return true
	default:
		return false
	}
}

// Run keeps the plan fresh until ctx ends.
func (b *Board) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.dirty:
			b.noteLoad()
		case <-timer.C:
		}
		next := b.Refresh()
		timer.Reset(MinInterval)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C: // changes meanwhile wait in dirty
		}
		timer.Reset(max(0, min(maxInterval, next.Sub(b.o.Now()))))
	}
}

// Refresh compiles a plan if there is a table, and returns when the evidence
// changes by itself. Run calls it; it is for who drives a board without Run.
func (b *Board) Refresh() time.Time {
	b.compiling.Lock()
	defer b.compiling.Unlock()
	now := b.o.Now()
	next := now.Add(maxInterval)
	if b.table == nil {
		return next
	}
	b.compile(now)
	for _, c := range b.clusters {
		next = earlier(next, c.next)
	}
	for _, r := range b.ramps {
		next = earlier(next, r.next)
	}
	b.mu.RLock()
	if len(b.watched) > 0 {
		next = earlier(next, b.looked)
	}
	b.mu.RUnlock()
	for _, z := range b.latest.Load().Zones {
		if z.EjectedUntil.After(now) {
			next = earlier(next, z.EjectedUntil)
		}
	}
	for _, t := range b.latest.Load().Targets {
		if t.EjectedUntil.After(now) {
			next = earlier(next, t.EjectedUntil)
		}
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// compile makes and publishes the plan of this moment. b.compiling is held.
func (b *Board) compile(now time.Time) *route.Plan {
	b.readLinks(now)
	b.lookForOutliers(now)
	e := b.evidence(now)
	plan := route.Recompile(b.plan.Load(), b.table, e, b.live)
	b.latest.Store(e)
	b.plan.Store(plan)
	b.metrics.compiles.Inc()
	b.metrics.compileSeconds.Observe(time.Since(now).Seconds())
	return plan
}
