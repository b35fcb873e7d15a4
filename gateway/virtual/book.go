package virtual

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	// DefaultRetain is how long a service must not have been seen before its address
	// may become another's: longer than applications run without asking for a name
	// again.
	DefaultRetain = 30 * 24 * time.Hour
	// maxEntries bounds the book, whatever the range: each service in each of a few
	// clusters, and as many that are gone.
	maxEntries = 200_000
	// saveSeen is how old what is on disk of the times may be.
	saveSeen = time.Hour
)

// ErrExhausted means that every address of the range belongs to a service.
var ErrExhausted = errors.New("the range has no address left")

// BookOptions configure a Book.
type BookOptions struct {
	// Range is what addresses are of; required, and without a CheckRange.
	Range netip.Prefix
	// Path is the file that the book is kept in; required.
	Path string
	// Retain is DefaultRetain if it is 0.
	Retain time.Duration
	// Now is the clock; nil means the real one.
	Now func() time.Time
	// Log receives what is wrong with the file; nil discards it.
	Log *slog.Logger
}

// Book says which service has which address.
type Book struct {
	o    BookOptions
	span span

	mu      sync.RWMutex
	byKey   map[Key]*entry
	byAddr  map[netip.Addr]*entry
	changes uint64 // of byKey since it was opened
	faulty  error  // why the last write failed

	saving  sync.Mutex // one writer at a time; taken before mu
	saved   uint64     // the changes that are on disk
	savedAt time.Time
}

// entry is one assignment.
type entry struct {
	key     Key
	address netip.Addr
	seen    time.Time // when the service was known last
}

// Open reads the book. One that is damaged beyond its second copy is begun anew:
// since addresses follow from names, most come out as they were.
func Open(o BookOptions) (*Book, error) {
	if rule := CheckRange(o.Range); rule != "" {
		return nil, fmt.Errorf("virtual addresses: range %s %s", o.Range, rule)
	}
	if o.Path == "" {
		return nil, errors.New("virtual addresses: a path is required")
	}
	if o.Retain == 0 {
		o.Retain = DefaultRetain
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	b := &Book{o: o, span: spanOf(o.Range), byKey: map[Key]*entry{}, byAddr: map[netip.Addr]*entry{}}
	if err := b.load(); err != nil {
		return nil, fmt.Errorf("virtual addresses: %w", err)
	}
	return b, nil
}

// Range is what addresses are of.
func (b *Book) Range() netip.Prefix { return b.o.Range }

// Size is how many addresses are assigned, and how many there are.
func (b *Book) Size() (assigned, all int) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.byKey), int(min(b.span.n, maxEntries))
}

// Err is why the book is not on disk as it is; nil if it is.
func (b *Book) Err() error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.faulty
}

// Of is the address of a key that has one.
func (b *Book) Of(k Key) (netip.Addr, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, ok := b.byKey[k]
	if !ok {
		return netip.Addr{}, false
	}
	return e.address, true
}

// At is who has the address.
func (b *Book) At(a netip.Addr) (Key, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e, ok := b.byAddr[a]
	if !ok {
		return Key{}, false
	}
	return e.key, true
}

// Each calls f for every assignment, in no order. f must not use the book.
func (b *Book) Each(f func(Key, netip.Addr)) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for k, e := range b.byKey {
		f(k, e.address)
	}
}

// Assign returns the address of k, which gets one if it has none. A new one is on
// disk when Assign returns; where the disk takes nothing it is given all the same
// (Err tells), since the name makes it come out the same after a restart unless
// another service was in the way. The error wraps ErrExhausted.
func (b *Book) Assign(k Key) (netip.Addr, error) {
	if a, ok := b.Of(k); ok {
		return a, nil
	}
	a, change, err := b.take(k)
	if err != nil {
		return netip.Addr{}, err
	}
	b.keep(change)
	return a, nil
}

// take assigns in memory, and says which change it was.
func (b *Book) take(k Key) (netip.Addr, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.byKey[k]; ok { // meanwhile; it may not be on disk yet
		return e.address, b.changes, nil
	}
	now := b.o.Now()
	if uint64(len(b.byAddr)) >= min(b.span.n, maxEntries) {
		if err := b.reclaim(now); err != nil {
			return netip.Addr{}, 0, err
		}
	}
	// There is a free one, so that the search ends.
	i := k.hash(b.span.n)
	for b.byAddr[b.span.at(i)] != nil {
		i = (i + 1) % b.span.n
	}
	e := &entry{key: k, address: b.span.at(i), seen: now}
	b.byKey[k], b.byAddr[e.address] = e, e
	b.changes++
	return e.address, b.changes, nil
}

// reclaim frees the address of the service that was not seen for the longest time.
// mu is held.
func (b *Book) reclaim(now time.Time) error {
	var oldest *entry
	for _, e := range b.byKey {
		if oldest == nil || e.seen.Before(oldest.seen) {
			oldest = e
		}
	}
	if due := oldest.seen.Add(b.o.Retain); due.After(now) {
		return fmt.Errorf("%w: all %d of %s are assigned, and none of a service that is gone since %v (the first may be used again at %s)",
			ErrExhausted, len(b.byKey), b.o.Range, b.o.Retain, due.UTC().Format(time.RFC3339))
	}
	b.o.Log.Info("virtual address is given to another service", "service", oldest.key.String(), "address", oldest.address.String())
	delete(b.byKey, oldest.key)
	delete(b.byAddr, oldest.address)
	b.changes++
	return nil
}

// Seen notes who is known now: known is asked for every assignment. It is called from
// time to time, and when what is known has changed.
func (b *Book) Seen(known func(Key) bool) {
	b.mu.Lock()
	now := b.o.Now()
	for k, e := range b.byKey {
		if known(k) {
			e.seen = now
		}
	}
	failed := b.faulty != nil
	if len(b.byKey) > 0 {
		b.changes++
	}
	change := b.changes
	b.mu.Unlock()
	b.saving.Lock()
	due := failed || now.Sub(b.savedAt) >= saveSeen
	b.saving.Unlock()
	if due {
		b.keep(change)
	}
}
