package federation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// peers are the clusters that are joined now: those of the configuration, and
// those that were joined over the API.
type peers struct {
	setting sync.Mutex      // held while the set changes
	running context.Context // of those who follow the peers; nil before the start
	failed  map[catalog.ClusterName]error

	mu     sync.Mutex
	byName map[catalog.ClusterName]*peer
	sorted []*peer // by name
	// order is the configuration's, then that of the stored ones' names: where peers
	// disagree on a service, the earlier one wins.
	order []catalog.ClusterName
	wg    sync.WaitGroup
}

func newPeers() *peers { return &peers{byName: make(map[catalog.ClusterName]*peer)} }

// all are the peers by name; the list is not to be changed.
func (s *peers) all() []*peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sorted
}

// context ends when nobody follows peers any more.
func (s *peers) context() context.Context {
	s.setting.Lock()
	defer s.setting.Unlock()
	if s.running == nil {
		return context.Background()
	}
	return s.running
}

// count is how many there are.
func (s *peers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byName)
}

func (s *peers) get(name catalog.ClusterName) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[name]
}

func (s *peers) precedence() []catalog.ClusterName {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order
}

// admitPeer judges what only this cluster can judge of a peer: that it is
// another one.
func (p *plane) admitPeer(c Peer) error {
	if c.Name == p.opts.Cluster {
		return &catalog.FieldError{Field: "name", Value: string(c.Name), Rule: "is the own cluster's name"}
	}
	if _, own := strings.CutPrefix(c.ID+"/", p.id.String()+"/"); own {
		return &catalog.FieldError{Field: "id", Value: c.ID, Rule: "is this cluster's own, or below it"}
	}
	return admitEndpoint(c.Bundle.Endpoint)
}

// startPeers follows the book's peers from now on, until ctx ends. The error
// names those of the configuration that cannot be followed; of the others that is
// an event.
func (p *plane) startPeers(ctx context.Context) error {
	p.peers.setting.Lock()
	p.peers.running = ctx
	p.peers.setting.Unlock()
	p.followBook()
	return p.failedPeers(p.opts.Config.Peers)
}

// followBook makes the peers those that the book holds, and is called whenever
// they have changed.
func (p *plane) followBook() {
	p.peers.setting.Lock()
	defer p.peers.setting.Unlock()
	if p.peers.running != nil {
		p.setPeers(p.peers.running, p.book.Peers())
	}
}

// takeConfig puts the policy and the peers of a configuration in place of those
// of the one before. On an error nothing has changed.
func (p *plane) takeConfig(ctx context.Context, next, before Config) error {
	err := p.book.SetConfig(ctx, next.Policy(), next.Peers)
	if err == nil {
		err = p.failedPeers(next.Peers)
	}
	if err != nil {
		return errors.Join(err, p.book.SetConfig(ctx, before.Policy(), before.Peers))
	}
	return nil
}

// failedPeers says which of the given peers could not be followed, and why.
func (p *plane) failedPeers(of []Peer) error {
	p.peers.setting.Lock()
	defer p.peers.setting.Unlock()
	var errs []error
	for _, c := range of {
		errs = append(errs, p.peers.failed[c.Name])
	}
	return errors.Join(errs...)
}

// setPeers makes the peers those of specs. Those that are gone, or are no longer
// who they were, are cut before it returns; those that are new are followed until
// ctx ends. What can change in place does, and nothing of that peer is cut. One
// that cannot be followed is left out and kept in failed. The caller holds
// peers.setting.
func (p *plane) setPeers(ctx context.Context, specs []Peer) {
	failed := make(map[catalog.ClusterName]error)
	next := make(map[catalog.ClusterName]*peer, len(specs))
	var added, changed []*peer
	order := make([]catalog.ClusterName, 0, len(specs))
	for _, c := range specs {
		have := p.peers.get(c.Name)
		if have != nil && have.canBecome(c) {
			if !have.spec.Load().Equal(c) {
				have.spec.Store(&c)
				changed = append(changed, have)
			}
			next[c.Name], order = have, append(order, c.Name)
			continue
		}
		q, err := p.newPeer(c)
		if err != nil {
			failed[c.Name] = err
			p.log.Error("peer cannot be followed", "peer", c.Name, "err", err)
			p.events.note(eventPeerRefused, string(c.Name), err.Error())
			continue
		}
		next[c.Name], order = q, append(order, c.Name)
		added = append(added, q)
	}
	p.peers.failed = failed
	sorted := slices.SortedFunc(maps.Values(next), func(a, b *peer) int { return cmp.Compare(a.name, b.name) })
	p.peers.mu.Lock()
	before := p.peers.byName
	p.peers.byName, p.peers.sorted, p.peers.order = next, sorted, order
	p.peers.mu.Unlock()

	// Cut first: a peer that is removed may be one that must not read on.
	ids := make(map[spiffeid.ID]catalog.ClusterName, len(next))
	for _, q := range next {
		ids[q.id] = q.name
	}
	p.mesh.SetPeers(ids)
	p.retainBundles(specs)
	for name, q := range before {
		if next[name] != q {
			p.dropPeer(q, next)
		}
	}
	p.retainBundles(specs) // again: one that is dropped may have spoken meanwhile
	for _, q := range changed {
		p.loadBundle(q)
		p.events.note(eventPeerChanged, string(q.name), q.id.String())
	}
	for _, q := range added {
		run, stop := context.WithCancel(ctx)
		q.stop = stop
		p.peers.wg.Go(func() { q.run(run) })
		p.events.note(eventPeerAdded, string(q.name), q.id.String())
	}
	p.showPeers()
	p.touch(catalogChanged)
}

// canBecome reports whether the entry can change under the running peer: who it
// is, and what its importer was built with, stay.
func (q *peer) canBecome(c Peer) bool {
	have := q.spec.Load()
	return have.ID == c.ID && have.Bundle.Endpoint == c.Bundle.Endpoint && have.Quota == c.Quota && bootstrapsOnLoopback(have.Gateways) == bootstrapsOnLoopback(c.Gateways)
}

// dropPeer ends everything with a peer that is no longer in next as it was.
func (p *plane) dropPeer(q *peer, next map[catalog.ClusterName]*peer) {
	q.stop()
	<-q.done
	if same := next[q.name]; same == nil || same.id != q.id {
		p.exporter.Remove(q.name)
		// What it said is kept for no successor: another identity of the same name
		// is another origin.
		if err := q.kept.Remove(); err != nil {
			p.log.Warn("last good state of a removed peer stays on disk", "peer", q.name, "err", err)
		}
	}
	p.events.note(eventPeerRemoved, string(q.name), fmt.Sprintf("%s is no longer a peer of %s (%s)", q.name, p.opts.Cluster, q.id))
}

// noteStrangers says once of each rule that names a cluster that is no peer: it
// does nothing before that peer is joined.
func (p *plane) noteStrangers() {
	peers := p.peers.precedence()
	if p.loop.strangersIndex == p.loop.index && slices.Equal(p.loop.strangersPeers, peers) {
		return
	}
	p.loop.strangersIndex, p.loop.strangersPeers = p.loop.index, peers
	known := make(map[string]bool)
	for _, name := range peers {
		known[string(name)] = true
	}
	said := make(map[string]bool)
	say := func(path, peer string) {
		if peer == "*" || known[peer] {
			return
		}
		key := path + " " + peer
		if said[key] = true; !p.loop.strangers[key] {
			p.log.Warn("rule names a cluster that is no peer: it does nothing until one of that name is joined", "path", path, "peer", peer)
		}
	}
	set := p.book.Set()
	for _, e := range set.Exports {
		for _, to := range e.To {
			say("exports/"+e.Name, to)
		}
	}
	for _, m := range set.Imports {
		say("imports/"+m.Name, string(m.From))
	}
	p.loop.strangers = said
}
