package federation

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// peers are the configured peers, which change when the configuration is
// reloaded.
type peers struct {
	mu     sync.Mutex
	byName map[catalog.ClusterName]*peer
	// order is the configuration's: where peers disagree on a service, the
	// earlier one wins.
	order []catalog.ClusterName
	wg    sync.WaitGroup
}

func newPeers() *peers { return &peers{byName: make(map[catalog.ClusterName]*peer)} }

// all are the peers by name.
func (s *peers) all() []*peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Collect(maps.Values(s.byName))
	slices.SortFunc(out, func(a, b *peer) int { return cmp.Compare(a.config.Name, b.config.Name) })
	return out
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

// setPeers makes the configured peers those of configs. Those that are gone, or
// whose entry has changed, are cut before anything else happens; those that are
// new are followed until ctx ends. On an error nothing has changed.
func (p *plane) setPeers(ctx context.Context, configs []Peer) error {
	var errs []error
	next := make(map[catalog.ClusterName]*peer, len(configs))
	var added []*peer
	order := make([]catalog.ClusterName, len(configs))
	for i, c := range configs {
		order[i] = c.Name
		if have := p.peers.get(c.Name); have != nil && reflect.DeepEqual(have.config, c) {
			next[c.Name] = have
			continue
		}
		q, err := p.newPeer(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		next[c.Name] = q
		added = append(added, q)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.peers.mu.Lock()
	before := p.peers.byName
	p.peers.byName, p.peers.order = next, order
	p.peers.mu.Unlock()

	// Cut first: a peer that is removed may be one that must not read on.
	ids := make(map[spiffeid.ID]catalog.ClusterName, len(next))
	for _, q := range next {
		ids[q.id] = q.config.Name
	}
	p.mesh.SetPeers(ids)
	for name, q := range before {
		if next[name] != q {
			p.dropPeer(q, next)
		}
	}
	for _, q := range added {
		run, stop := context.WithCancel(ctx)
		q.stop = stop
		p.peers.wg.Go(func() { q.run(run) })
		p.events.note(eventPeerAdded, string(q.config.Name), q.config.ID)
	}
	p.touch(catalogChanged)
	return nil
}

// dropPeer ends everything with a peer that is no longer in next as it was.
func (p *plane) dropPeer(q *peer, next map[catalog.ClusterName]*peer) {
	q.stop()
	<-q.done
	p.exporter.Remove(q.config.Name)
	if same := next[q.config.Name]; same == nil || same.id != q.id {
		// What it said is kept for no successor: another identity of the same name
		// is another origin.
		if err := q.kept.Remove(); err != nil {
			p.log.Warn("last good state of a removed peer stays on disk", "peer", q.config.Name, "err", err)
		}
	}
	td := q.id.TrustDomain()
	shared := slices.ContainsFunc(slices.Collect(maps.Values(next)), func(o *peer) bool { return o.id.TrustDomain() == td })
	if q.foreign && !shared {
		p.opts.Identity.RemovePeerBundle(td)
	}
	p.events.note(eventPeerRemoved, string(q.config.Name), q.config.ID)
}
