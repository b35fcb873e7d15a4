package simulation

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/start"
	"github.com/isthmus-mesh/isthmus/federation/tables"
)

// The rhythms of a federation, as package federation has them.
const (
	settle      = 5 * time.Millisecond
	roundPause  = 100 * time.Millisecond
	aliveFor    = 5 * time.Second
	pollEvery   = time.Second
	conflictsTo = 100
)

// disk is what outlives the process of a federation. A backup is a copy of it.
type disk struct {
	epoch    uint64
	exchange map[catalog.ClusterName]uint64
	kept     map[catalog.ClusterName][]byte
	source   *catalog.Snapshot
	roster   []string // of the gateways that were alive last
	peers    []string // of whom something was known last
	rules    rules
}

func newDisk(r rules) *disk {
	return &disk{exchange: map[catalog.ClusterName]uint64{}, kept: map[catalog.ClusterName][]byte{}, rules: r.clone()}
}

func (d *disk) clone() *disk {
	c := *d
	c.exchange, c.kept, c.roster, c.rules = maps.Clone(d.exchange), maps.Clone(d.kept), slices.Clone(d.roster), d.rules.clone()
	return &c
}

// federation is one control plane: the product's merge, tables, guard and both ends
// of the exchange, in the order of rounds that package federation keeps.
type federation struct {
	process
	s    *Sim
	home *cluster
	disk *disk

	version  uint64
	guard    *discovery.Guard
	index    *policy.Index
	view     *merge.View
	table    *route.Edition
	builder  tables.Builder
	exports  tables.Exports
	exporter *exchange.Exporter
	peers    map[catalog.ClusterName]*listener
	watches  []*watch
	gate     *start.Gate
	evidence bool // readiness is to be read anew
	ready    *tables.Readiness

	reports   map[*gateway]gatewayReport
	roster    []catalog.Gateway
	followers []*gateway
	pending   bool
	worked    time.Duration
	raise     uint64
	linkUp    map[catalog.ClusterName]bool
	drill     *route.Drill // nil: none
}

type gatewayReport struct {
	report *route.Report
	at     time.Duration
}

// boot starts the process with what is on its disk.
func (f *federation) boot() {
	s := f.s
	f.up, f.born, f.held = true, s.now, 0
	f.life++
	f.disk.epoch++
	f.version, f.index, f.view, f.table, f.roster = 0, nil, nil, nil, nil
	f.builder, f.exports, f.ready = tables.Builder{}, tables.Exports{}, nil
	f.pending, f.evidence, f.raise = false, true, 0
	f.gate = start.Open(f.clock(), f.disk.roster, f.disk.peers)
	f.linkUp, f.drill = nil, nil
	f.worked = -time.Hour
	f.reports, f.followers, f.watches = make(map[*gateway]gatewayReport), nil, nil
	f.peers = make(map[catalog.ClusterName]*listener)
	f.note(f.name, "starts with epoch", f.disk.epoch)
	var err error
	if f.guard, err = discovery.NewGuard(s.guard); err != nil {
		panic(err)
	}
	if f.disk.source != nil {
		f.guard.Seed(f.clock(), f.disk.source)
	}
	f.exporter, err = exchange.NewExporter(exchange.ExporterOptions{
		Cluster: f.home.name, Peer: func(*http.Request) (catalog.ClusterName, error) { return "", errors.New("no requests") },
		LoadEpoch: func(c catalog.ClusterName) (uint64, error) { return f.disk.exchange[c], nil },
		SaveEpoch: func(c catalog.ClusterName, n uint64) error { f.disk.exchange[c] = n; return nil },
	})
	if err != nil {
		panic(err)
	}
	f.setPeers()
	f.touch()
	f.after(f.between(0, 100*time.Millisecond), f.poll)
	f.after(time.Second, f.look)
}

// crash ends the process.
func (f *federation) crash() {
	if !f.up {
		return
	}
	f.note(f.name, "crashes", 0)
	f.up = false
	f.life++
	for _, g := range f.home.gateways {
		g.fed = nil
	}
	for _, w := range slices.Clone(f.watches) {
		w.cut()
	}
	for _, c := range f.s.clusters {
		if l := f.peers[c.name]; l != nil {
			l.drop()
		}
	}
	f.followers = nil
}

// setPeers follows the peers that the rules leave.
func (f *federation) setPeers() {
	for _, c := range f.s.clusters {
		if c == f.home {
			continue
		}
		l := f.peers[c.name]
		switch gone := slices.Contains(f.disk.rules.removed, c.name); {
		case gone && l != nil:
			l.drop()
			l.over = true
			delete(f.peers, c.name)
			f.exporter.Remove(c.name)
			for _, w := range slices.Clone(f.watches) {
				if w.to.fed.home == c {
					w.cut()
				}
			}
		case !gone && l == nil:
			f.peers[c.name] = newListener(f, c)
		}
	}
}

// poll reads the source.
func (f *federation) poll() {
	if read := f.home.read(); read != nil {
		before := f.guard.Effective()
		after, err := f.s.seams.offer(f, read)
		if err != nil {
			f.say(f.name, "guard: %v", err)
		}
		if after != before {
			f.s.stats.Held += uint64(f.guard.Held())
			f.note(f.name, "source changed, held", uint64(f.guard.Held()))
			f.disk.source = after
			f.touch()
		}
	}
	f.after(f.between(pollEvery*9/10, pollEvery*11/10), f.poll)
}

// touch asks for a round.
func (f *federation) touch() {
	if f.pending {
		return
	}
	f.pending = true
	f.at(max(f.now+settle, f.worked+roundPause), f.round)
}

// rule changes the rules that the store holds.
func (f *federation) rule(change func(*rules)) {
	change(&f.home.rules)
	if f.up {
		change(&f.disk.rules)
		f.setPeers()
		f.touch()
	}
}

// round brings everything in line with what has changed.
func (f *federation) round() {
	f.pending, f.worked = false, f.now
	if f.raise >= f.disk.epoch && f.raise != 0 {
		f.disk.epoch, f.version, f.raise = f.s.seams.above(f, f.raise), 0, 0
		f.note(f.name, "goes above with epoch", f.disk.epoch)
		f.gate.Lost(f.clock())
	}
	if !f.s.seams.ready(f) {
		return // look asks again
	}
	f.merge()
	if f.s.seams.knows(f) {
		f.publish()
		f.disk.peers = f.disk.peers[:0:0]
		for _, c := range f.s.clusters {
			if l := f.peers[c.name]; l != nil && l.applier.Snapshot() != nil {
				f.disk.peers = append(f.disk.peers, string(c.name))
			}
		}
	}
	f.tell()
}

// complete reports whether the own catalog may be spoken of.
func (f *federation) complete() bool {
	var silent []string
	if f.guard.Effective() == nil {
		silent = append(silent, sourceName)
	}
	ready, _ := f.gate.Sources(f.clock(), silent)
	return ready
}

// knowsPeers reports whether what is known of peers may be.
func (f *federation) knowsPeers() bool {
	var silent []string
	for _, c := range f.s.clusters {
		if l := f.peers[c.name]; l != nil && l.applier.Snapshot() == nil {
			silent = append(silent, string(c.name))
		}
	}
	ready, late := f.gate.Peers(f.clock(), silent)
	f.say(f.name, "knows of its peers: %v, nothing of %v", ready, silent)
	if len(late) > 0 {
		f.note(f.name, "goes on without peers that it knew", uint64(len(late)))
		f.s.oracle.forgets(f)
	}
	return ready
}

func (f *federation) merge() {
	set := f.s.seams.rules(f).set(f.s)
	if f.index == nil || !f.index.Set().Equal(set) {
		f.index = policy.NewIndex(set)
	}
	in := merge.Input{Cluster: f.home.name, Order: f.s.order, Import: f.s.seams.imports(f.index), Rules: f.index}
	if e := f.guard.Effective(); e != nil {
		in.Sources = []merge.Source{{Name: sourceName, Snapshot: e}}
	}
	for _, c := range f.s.clusters {
		if l := f.peers[c.name]; l != nil {
			in.Peers = append(in.Peers, merge.Peer{Cluster: c.name, Summaries: f.s.seams.summaries(l), ControlLost: l.lost})
		}
	}
	f.view = merge.Update(f.view, in)
}

// publish hands the gateways a table if it says something new.
func (f *federation) publish() {
	in := tables.Input{
		Cluster:    route.Cluster{Name: f.home.name, Locality: f.home.locality, ID: f.home.id},
		Federation: "127.0.0.1:7483", View: f.view, Policy: f.index, Drill: f.drill, Epoch: f.disk.epoch, Version: f.version + 1,
	}
	for _, c := range f.s.clusters {
		if l := f.peers[c.name]; l != nil {
			in.Peers = append(in.Peers, l.entry())
		}
	}
	t := f.builder.Next(in)
	if t == f.table {
		return
	}
	f.version, f.table = t.Head().Version, t
	f.note(f.name, "publishes table", t.Head().Epoch<<32|t.Head().Version)
	f.s.oracle.published(f)
	for _, g := range f.followers {
		f.hand(g)
	}
}

func (f *federation) hand(g *gateway) {
	t := f.table.Table()
	g.after(localDelay, func() {
		if g.fed == f {
			g.offer(t)
		}
	})
}

func (f *federation) subscribed(g *gateway) {
	if g.fed != f || !g.up {
		return
	}
	f.followers = append(f.followers, g)
	// The stream asks for what comes after the table that the gateway has.
	if g.table != nil && (f.table == nil || g.table.Epoch > f.table.Head().Epoch) {
		f.ahead(g.table.Epoch)
	}
	if f.table != nil {
		f.hand(g)
	}
}

func (f *federation) unsubscribe(g *gateway) {
	g.fed = nil
	f.followers = slices.DeleteFunc(f.followers, func(o *gateway) bool { return o == g })
}

// tell sets what each peer is told.
func (f *federation) tell() {
	fresh := f.fresh()
	if !f.rosterKnown(fresh) {
		return // look asks again
	}
	if len(fresh) > 0 {
		var roster []catalog.Gateway
		for _, g := range fresh {
			roster = append(roster, f.reports[g].report.Gateway)
		}
		if !slices.EqualFunc(f.roster, roster, catalog.Gateway.Equal) {
			f.roster = roster
		}
	}
	if f.evidence || f.ready == nil {
		f.evidence = false
		var reports []*route.Report
		for _, g := range fresh {
			reports = append(reports, f.reports[g].report)
		}
		if r := tables.NewReadiness(reports); f.ready == nil || !r.Equal(f.ready) {
			f.ready = r
		}
	}
	f.exports.Update(f.view, f.ready, f.index)
	conflicts := tables.Conflicts(f.view, conflictsTo)
	states := make(map[catalog.ClusterName]exchange.State)
	for _, c := range f.s.clusters {
		if f.peers[c.name] != nil {
			states[c.name] = exchange.State{Services: f.exports.For(c.name), Gateways: f.roster, Conflicts: conflicts[c.name]}
		}
	}
	for _, err := range f.exporter.SetAll(states) {
		panic(err)
	}
	f.s.oracle.told(f)
	for _, w := range f.watches {
		w.wake()
	}
}
