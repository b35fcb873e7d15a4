package consulkv

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

const (
	// A watch makes at most watchBurst queries at once and ten a second in the
	// long run: changes are made by people and pipelines, each costs one or two.
	watchEvery = 100 * time.Millisecond
	watchBurst = 20
	// The back-off after failures: exponential with full jitter.
	backoffBase = 100 * time.Millisecond
	backoffMax  = 3 * time.Second
)

// Run follows the items until ctx ends: what other processes write is shown, and
// what Consul was while it was out of reach.
func (s *Store) Run(ctx context.Context) error {
	var copies sync.WaitGroup
	defer copies.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	copies.Go(func() { s.keepCopies(ctx) })
	limit := rate.NewLimiter(rate.Every(watchEvery), watchBurst)
	var index, last uint64
	for failures := 0; ; {
		if limit.Wait(ctx) != nil {
			return nil
		}
		began := s.begin()
		items, at, marked, err := s.whole(ctx, index)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil && !marked {
			err = errNotWhole
		}
		s.saw(err)
		if err != nil {
			failures++
			index, last = 0, 0
			if !sleep(ctx, rand.N(min(backoffMax, backoffBase<<min(failures, 10)))+time.Millisecond) {
				return nil
			}
			continue
		}
		failures = 0
		whole := s.show(began, items, at)
		switch {
		case !whole, at < last:
			index = 0 // some of it was older than what is known, or of another life
		default:
			index = max(1, at)
		}
		last = at
	}
}

// keepCopies saves by the clock and not by the watch: own writes are in the copy, too,
// and a change is not left out until the next one for coming soon after another.
func (s *Store) keepCopies(ctx context.Context) {
	tick := time.NewTicker(cacheEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.save()
		case <-ctx.Done():
			return
		}
	}
}

// begin counts a reading.
func (s *Store) begin() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.reads
}

// saw keeps how the last reading went.
func (s *Store) saw(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if (err == nil) != (s.readErr == nil) {
		if err != nil {
			s.log.Error("store is out of reach, reads go on from memory", "err", err)
		} else {
			s.log.Info("store is in reach again")
		}
	}
	s.readErr = err
	s.metrics.reachable.Set(1)
	if err != nil {
		s.metrics.reachable.Set(0)
		return
	}
	s.stale, s.failed = false, nil
}

// show makes the memory what a reading found. whole tells that nothing of it was
// passed over for being older than what is known.
func (s *Store) show(began uint64, items map[store.Key]store.Item, at uint64) (whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if began < s.applied {
		return false
	}
	s.applied, s.shownAt = began, at
	whole = true
	s.mem.Replace(items, max(at, highest(items)), func(key store.Key) bool {
		wrote, ok := s.wrote[key]
		if !ok || !wrote.unseenBy(began, at) {
			return false
		}
		whole = false
		return true
	})
	for key, wrote := range s.wrote {
		if !wrote.unseenBy(began, at) {
			delete(s.wrote, key)
		}
	}
	return whole
}

// Refresh implements store.Store: it reads everything now.
func (s *Store) Refresh(ctx context.Context) error {
	if s.isClosed() {
		return store.ErrClosed
	}
	began := s.begin()
	items, at, marked, err := s.whole(ctx, 0)
	if err == nil && !marked {
		err = errNotWhole
	}
	if err != nil {
		return err
	}
	s.show(began, items, at)
	return nil
}
