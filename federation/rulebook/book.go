package rulebook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// The kinds of rules, as the store and the paths of the API call them.
const (
	Exports         = "exports"
	Imports         = "imports"
	Intentions      = "intentions"
	TrafficPolicies = "traffic-policies"
	Peers           = "peers"
)

// followRetry is the pause after a failed look at the store, which a local one
// never needs and a remote one asks for.
const followRetry = time.Second

// Options configure a Book.
type Options struct {
	// Store keeps the rules that operators write.
	Store store.Store
	// Config are the rules of the config file, validated.
	Config policy.Set
	// ConfigPeers are the peers of the config file, validated, in its order.
	ConfigPeers []policy.Peer
	// Admit judges a peer that is written or found in the store: the owner knows
	// what the own cluster is called. Nil admits every valid one.
	Admit func(policy.Peer) error
	// PeersChanged is called after each change of Peers, by the writer, before the
	// write returns. It must not call the book's writes. Nil: nobody is told.
	PeersChanged func()
	// Base is where the revisions of the feeds start (see feed.New).
	Base uint64
	// Log receives the book's log; nil discards it.
	Log *slog.Logger
	// Changed is called after each change of Set, by the writer. It must not
	// block and not call the book's writes. Nil: nobody is told.
	Changed func()
}

// Book is the policy of one cluster. It is safe for concurrent use.
type Book struct {
	store   store.Store
	log     *slog.Logger
	changed func()
	// peersChanged is told outside of mu: it may take its time.
	peersChanged func()

	exports    *Shelf[resource.Export]
	imports    *Shelf[resource.Import]
	intentions *Shelf[resource.Intention]
	traffic    *Shelf[resource.TrafficPolicy]
	peers      *Shelf[resource.PeerRule]
	applied    *Applied

	telling     sync.Mutex // serialises refresh
	mu          sync.Mutex // guards what reread compares with
	config      policy.Set
	configPeers []policy.Peer
	seen        uint64 // revision of the store that the feeds show
	setMu       sync.RWMutex
	set         policy.Set
	joined      []policy.Peer // every peer: the config's in its order, then the stored by name
}

// New reads the store; the error is the store's.
func New(ctx context.Context, opts Options) (*Book, error) {
	b := &Book{
		store: opts.Store, log: opts.Log, changed: func() {}, peersChanged: func() {},
		config: opts.Config, configPeers: opts.ConfigPeers,
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.applied = &Applied{store: b.store}
	b.exports = newShelf(b, exportKind, opts.Base)
	b.imports = newShelf(b, importKind, opts.Base)
	b.intentions = newShelf(b, intentionKind, opts.Base)
	b.traffic = newShelf(b, trafficKind, opts.Base)
	admit := opts.Admit
	if admit == nil {
		admit = func(policy.Peer) error { return nil }
	}
	b.peers = newShelf(b, peerKind(admit), opts.Base)
	if err := b.refresh(ctx); err != nil {
		return nil, err
	}
	if opts.Changed != nil {
		b.changed = opts.Changed // what is there at the start is no change
	}
	if opts.PeersChanged != nil {
		b.peersChanged = opts.PeersChanged
	}
	return b, nil
}

// Exports is the shelf of exports, and so on.
func (b *Book) Exports() *Shelf[resource.Export] { return b.exports }

// Imports is the shelf of imports.
func (b *Book) Imports() *Shelf[resource.Import] { return b.imports }

// Intentions is the shelf of intentions.
func (b *Book) Intentions() *Shelf[resource.Intention] { return b.intentions }

// TrafficPolicies is the shelf of traffic policies.
func (b *Book) TrafficPolicies() *Shelf[resource.TrafficPolicy] { return b.traffic }

// PeerRules is the shelf of peers.
func (b *Book) PeerRules() *Shelf[resource.PeerRule] { return b.peers }

// Peers are all peers in the order of precedence: the config file's in its order,
// then the stored ones by name. The slice is not to be changed.
func (b *Book) Peers() []policy.Peer {
	b.setMu.RLock()
	defer b.setMu.RUnlock()
	return b.joined
}

// Applied is what sets of declarative files applied last.
func (b *Book) Applied() *Applied { return b.applied }

// Set is everything that holds now besides peers, canonical; it is not to be
// changed.
func (b *Book) Set() policy.Set {
	b.setMu.RLock()
	defer b.setMu.RUnlock()
	return b.set
}

// SetConfig replaces the rules and the peers of the config file by validated
// ones.
func (b *Book) SetConfig(ctx context.Context, config policy.Set, peers []policy.Peer) error {
	b.mu.Lock()
	b.config, b.configPeers = config, peers
	b.mu.Unlock()
	return b.refresh(ctx)
}

// Run follows the store until ctx ends: another federation of the same cluster
// may write to a shared one.
func (b *Book) Run(ctx context.Context) error {
	for {
		b.mu.Lock()
		seen := b.seen
		b.mu.Unlock()
		_, _, err := b.store.Changes(ctx, seen)
		if ctx.Err() != nil || errors.Is(err, store.ErrClosed) {
			return nil
		}
		if err == nil || errors.Is(err, store.ErrCompacted) {
			err = b.refresh(ctx)
		}
		if err == nil {
			continue
		}
		b.log.Error("policies cannot be read", "err", err)
		wait := time.NewTimer(followRetry)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
	}
}

// refresh makes feeds and sets show what the store and the file hold, and tells
// whom it concerns.
func (b *Book) refresh(ctx context.Context) error {
	// Held until all have been told: whoever finds nothing left to do must not
	// return before another's changes hold.
	b.telling.Lock()
	defer b.telling.Unlock()
	peers, err := b.reread(ctx)
	if peers {
		b.peersChanged()
	}
	return err
}

// reread is refresh up to the peers, of which it says whether they have changed.
func (b *Book) reread(ctx context.Context) (peersChanged bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items, revision, err := b.store.List(ctx, "")
	if err != nil {
		return false, fmt.Errorf("policies: %w", err)
	}
	next := policy.Set{
		Exports:    rulesOf(b.exports.fill(items, b.config.Exports), func(r resource.Export) policy.Export { return r.Export }),
		Imports:    rulesOf(b.imports.fill(items, b.config.Imports), func(r resource.Import) policy.Import { return r.Import }),
		Intentions: rulesOf(b.intentions.fill(items, b.config.Intentions), func(r resource.Intention) policy.Intention { return r.Intention }),
		Traffic:    rulesOf(b.traffic.fill(items, b.config.Traffic), func(r resource.TrafficPolicy) policy.Traffic { return r.Traffic }),
	}
	joined := b.join(b.peers.fill(items, b.configPeers))
	b.seen = revision
	b.setMu.Lock()
	peersChanged = !slices.EqualFunc(b.joined, joined, policy.Peer.Equal)
	b.joined = joined
	same := b.set.Equal(next)
	if !same {
		b.set = next.Canonical()
	}
	b.setMu.Unlock()
	if !same {
		b.changed()
	}
	return peersChanged, nil
}

// join puts what the shelf of peers holds, sorted by name, into the order of
// precedence.
func (b *Book) join(shelf []resource.PeerRule) []policy.Peer {
	joined := slices.Clone(b.configPeers)
	for _, r := range shelf {
		if r.Origin != resource.FromConfig {
			joined = append(joined, r.Peer)
		}
	}
	return joined
}

func rulesOf[R, P any](shelf []R, rule func(R) P) []P {
	out := make([]P, 0, len(shelf))
	for r := range slices.Values(shelf) {
		out = append(out, rule(r))
	}
	return out
}
