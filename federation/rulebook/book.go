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

	exports    *Shelf[resource.Export]
	imports    *Shelf[resource.Import]
	intentions *Shelf[resource.Intention]
	traffic    *Shelf[resource.TrafficPolicy]

	mu     sync.Mutex // serialises refresh
	config policy.Set
	seen   uint64 // revision of the store that the feeds show
	setMu  sync.RWMutex
	set    policy.Set
}

// New reads the store; the error is the store's.
func New(ctx context.Context, opts Options) (*Book, error) {
	b := &Book{store: opts.Store, log: opts.Log, changed: func() {}, config: opts.Config}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.exports = newShelf(b, exportKind, opts.Base)
	b.imports = newShelf(b, importKind, opts.Base)
	b.intentions = newShelf(b, intentionKind, opts.Base)
	b.traffic = newShelf(b, trafficKind, opts.Base)
	if err := b.refresh(ctx); err != nil {
		return nil, err
	}
	if opts.Changed != nil {
		b.changed = opts.Changed // what is there at the start is no change
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

// Set is everything that holds now, canonical; it is not to be changed.
func (b *Book) Set() policy.Set {
	b.setMu.RLock()
	defer b.setMu.RUnlock()
	return b.set
}

// SetConfig replaces the rules of the config file by a validated set.
func (b *Book) SetConfig(ctx context.Context, config policy.Set) error {
	b.mu.Lock()
	b.config = config
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

// refresh makes feeds and set show what the store and the file hold.
func (b *Book) refresh(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	items, revision, err := b.store.List(ctx, "")
	if err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	next := policy.Set{
		Exports:    rulesOf(b.exports.fill(items, b.config.Exports), func(r resource.Export) policy.Export { return r.Export }),
		Imports:    rulesOf(b.imports.fill(items, b.config.Imports), func(r resource.Import) policy.Import { return r.Import }),
		Intentions: rulesOf(b.intentions.fill(items, b.config.Intentions), func(r resource.Intention) policy.Intention { return r.Intention }),
		Traffic:    rulesOf(b.traffic.fill(items, b.config.Traffic), func(r resource.TrafficPolicy) policy.Traffic { return r.Traffic }),
	}
	b.seen = revision
	b.setMu.Lock()
	same := b.set.Equal(next)
	if !same {
		b.set = next.Canonical()
	}
	b.setMu.Unlock()
	if !same {
		b.changed()
	}
	return nil
}

func rulesOf[R, P any](shelf []R, rule func(R) P) []P {
	out := make([]P, 0, len(shelf))
	for r := range slices.Values(shelf) {
		out = append(out, rule(r))
	}
	return out
}
