package federation

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
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

const (
	// lookEvery is how often what changes by time alone is looked at: gateways
	// that fall silent, ages of sources, leases.
	lookEvery = time.Second
	// bundleLook is how often bundle files are read again.
	bundleLook = 30 * time.Second
)

// loopState belongs to the goroutine of loop.
type loopState struct {
	epoch, version uint64
	index          *policy.Index
	set            policy.Set // that index was made of, as the book has it
	view           *merge.View
	table          *route.Edition
	builder        tables.Builder
	exports        tables.Exports
	readiness      *tables.Readiness
	census         census
	untold         change    // what peers are not told yet
	told           time.Time // when they were told last
	gate           *start.Gate
	expected       []string  // the gateways that were alive last, as the store knows them
	remembered     []string  // the peers of whom something was known last, likewise
	served         time.Time // when the doors opened
	lastBundleLook time.Time

	verdicts verdicts
	alive    map[string]bool
	known    map[catalog.ClusterName]knownPeer
	linkUp   map[catalog.ClusterName]bool
	// strangers are the rules of which noteStrangers has spoken, by the index and
	// the peers of then.
	strangers      map[string]bool
	strangersIndex *policy.Index
	strangersPeers []catalog.ClusterName
	bundle         json.RawMessage // the own one, as peers are told it
}

// knownPeer is what the journal was told of a peer.
type knownPeer struct {
	state exchange.PeerState
	epoch uint64
}

// runLoop works out what follows from what has changed, until ctx ends.
func (p *plane) runLoop(ctx context.Context) error {
	p.loop.served = p.now()
	p.loop.lastBundleLook = p.now()
	p.loop.expected, p.loop.remembered = p.loadNames(ctx, rosterKey()), p.loadNames(ctx, rememberedKey())
	p.loop.gate = start.Open(p.loop.served, p.loop.expected, p.loop.remembered)
	p.touch(catalogChanged)
	rounds{wake: p.inbox.wake, work: func(pause time.Duration) bool { return p.work(ctx, pause) }, look: p.look}.run(ctx)
	p.saveSpend()
	return nil
}

// work brings everything in line with the changes that have gathered, and reports
// whether peers are to be told of some later.
func (p *plane) work(ctx context.Context, pause time.Duration) (more bool) {
	began := time.Now()
	p.heedSources()
	p.takeSources()
	changes, above := p.takeChanges()
	if changes&sourceSpoke != 0 {
		p.touch(sourceSpoke) // perhaps after it was asked: its word is for the next round
	}
	if changes &^= sourceSpoke; changes == 0 && p.loop.untold == 0 {
		return false
	}
	if changes&epochRaised != 0 {
		p.goAbove(ctx, above)
	}
	if !p.ready() {
		// What is known goes to the lists; gateways and peers keep what they have.
		p.merge()
		p.refreshLists(changes)
		return false
	}
	// The first table is due whatever brought us here: what changed before was
	// taken when nothing could be said yet.
	if changes&(catalogChanged|epochRaised) != 0 || p.loop.table == nil {
		p.merge()
		if p.knowsPeers() {
			p.publishTable()
			p.rememberPeers(ctx)
		}
	}
	more = p.tell(ctx, changes, pause)
	if changes != 0 {
		p.refreshLists(changes)
	}
	p.metrics.work.Observe(time.Since(began).Seconds())
	return more
}

// tell brings to peers what has changed, or leaves it to a later round and reports
// that.
func (p *plane) tell(ctx context.Context, changes change, pause time.Duration) (later bool) {
	p.loop.untold |= changes
	if !p.speaks() {
		p.loop.untold = 0
		p.hush()
		return false
	}
	if now := time.Now(); tells(p.exporter.Listeners(), now.Sub(p.loop.told), pause) {
		p.export(ctx, p.loop.untold)
		p.loop.untold, p.loop.told = 0, now
	}
	return p.loop.untold != 0
}

// ready reports whether the own catalog is complete enough to speak of.
func (p *plane) ready() bool {
	now := p.now()
	ready, late := p.loop.gate.Sources(now, p.silent())
	if len(late) > 0 {
		p.log.Error("go on without sources that have said nothing", p.without(late, now)...)
	}
	return ready
}

// knowsPeers reports whether those of peers are complete enough for a table. What
// peers are told does not wait for it: two who have lost each other's catalogs would
// wait for each other.
func (p *plane) knowsPeers() bool {
	now := p.now()
	ready, late := p.loop.gate.Peers(now, p.silentPeers())
	if len(late) > 0 {
		p.log.Error("go on without peers of whom nothing is known any more", p.without(late, now)...)
	}
	return ready
}

// without notes what the catalog goes on without, and returns the fields that say so.
func (p *plane) without(late []string, now time.Time) []any {
	p.events.note(eventCatalogPartial, strings.Join(late, " "), "nothing heard and nothing on disk")
	return []any{"count", len(late), "duration", now.Sub(p.loop.served), "reason", strings.Join(late, " ")}
}

// silentPeers are those of whom nothing is known: they have not been heard, and
// nothing of them is on disk.
func (p *plane) silentPeers() (names []string) {
	for _, q := range p.peers.all() {
		if q.importer.Snapshot() == nil {
			names = append(names, string(q.name))
		}
	}
	return names
}

// merge makes the view of now.
func (p *plane) merge() {
	set := p.book.Set()
	if p.loop.index == nil || !p.loop.set.Equal(set) {
		p.loop.index = policy.NewIndex(set)
	}
	p.loop.set = set // of one memory with the next, if nothing changes; the index has a copy
	p.noteStrangers()
	in := merge.Input{
		Cluster: p.opts.Cluster, Sources: p.mergeSources(), Order: p.peers.precedence(),
		Import: tables.Imports(p.loop.index), Rules: p.loop.index,
	}
	all := p.peers.all()
	in.Peers = make([]merge.Peer, 0, len(all))
	for _, q := range all {
		in.Peers = append(in.Peers, merge.Peer{
			Cluster: q.name, Summaries: q.importer.Snapshot().Services(), ControlLost: q.importer.Status().ControlLost,
		})
	}
	p.loop.view = merge.Update(p.loop.view, in)
	p.loop.census.follow(p.loop.view)
	p.horizon.Store(&horizon{in: in, view: p.loop.view, index: p.loop.index})
}

// publishTable hands gateways a table if it says something new.
func (p *plane) publishTable() {
	in := tables.Input{
		Cluster:    route.Cluster{Name: p.opts.Cluster, Locality: p.opts.Locality, ID: p.id.String(), Labels: p.opts.Labels},
		Federation: p.federationAddress(), Joining: p.peering.Open(), View: p.loop.view, Policy: p.loop.index,
		Drill: p.drills.inTable(), Gateways: p.sharing(), Epoch: p.loop.epoch, Version: p.loop.version + 1,
	}
	all := p.peers.all()
	in.Peers = make([]route.Peer, 0, len(all))
	for _, q := range all {
		in.Peers = append(in.Peers, q.entry())
	}
	in.Tariff = p.tariffFor(in.Peers)
	t := p.loop.builder.Next(in)
	if t == p.loop.table {
		return
	}
	epoch, version := t.Head().Epoch, t.Head().Version
	if err := p.mesh.Publish(t); err != nil {
		p.log.Error("table not published, gateways keep the one before", "epoch", epoch, "version", version, "err", err)
		p.events.note(eventTableNotPublish, fmt.Sprintf("(%d, %d)", epoch, version), err.Error())
		return
	}
	p.loop.version, p.loop.table = version, t
	p.tables.add(t)
	p.metrics.table(t)
	p.log.Debug("table published", "epoch", epoch, "version", version, "count", len(t.Rows()))
}

// raiseEpoch is told that a gateway has a table of an epoch that is not below
// ours, and of another line: a federation that has lost its data directory
// starts at 1 again.
func (p *plane) raiseEpoch(gateway string, epoch uint64) {
	if epoch >= maxEpoch {
		p.log.Error("gateway has a table of an impossible epoch", "gateway", gateway, "epoch", epoch)
		return
	}
	p.inbox.mu.Lock()
	p.inbox.epoch = max(p.inbox.epoch, epoch)
	p.inbox.mu.Unlock()
	p.touch(epochRaised)
}

func (p *plane) goAbove(ctx context.Context, epoch uint64) {
	if epoch < p.loop.epoch {
		return // raised since
	}
	next, err := p.epochs.raise(ctx, epoch)
	if err != nil {
		p.log.Error("epoch is not kept", "epoch", epoch, "err", err)
		next = p.apart(epoch+1, err)
	}
	p.events.note(eventEpochRaised, string(p.opts.Cluster), fmt.Sprintf("from %d to %d: a gateway has a table of epoch %d", p.loop.epoch, next, epoch))
	p.loop.epoch, p.loop.version = next, 0
	// What the gateways have is of a memory that is lost here: until the peers have
	// said again what they offer, a table could only take it away.
	p.loop.gate.Lost(p.now())
}

// look does what is due by time alone.
func (p *plane) look() {
	now := p.now()
	p.noteGateways(now)
	p.countGateways()
	p.refreshGateways()
	p.noteSources()
	p.noteCatalogs()
	p.notePeerCatalogs()
	if err := p.peering.Sweep(p.peers.context()); err != nil {
		p.log.Warn("invitations cannot be looked at", "err", err)
	}
	p.notePeers()
	p.drills.look(p.peers.context())
	if now.Sub(p.loop.lastBundleLook) >= bundleLook {
		p.loop.lastBundleLook = now
		p.rereadBundles()
	}
	if p.loop.gate.Waits() {
		p.touch(catalogChanged)
	}
	p.lookPrices(now)
	p.metrics.ages(p, now)
}

// noteSources keeps the list of sources, and the journal of their states.
func (p *plane) noteSources() {
	for _, s := range p.sources {
		st := s.runner.Status()
		if st.State != s.state {
			if s.state != "" || st.State != discovery.Starting {
				p.events.note(eventSourceState, s.Name, string(st.State)+reasonAfter(st.Err))
			}
			s.state = st.State
		}
	}
	p.refreshSources()
}

func reasonAfter(err string) string {
	if err == "" {
		return ""
	}
	return ": " + err
}
