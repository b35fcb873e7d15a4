package discovery

import (
	"context"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// saveEvery is the least time between two writes of a snapshot: a catalog that
// changes all the time is not written all the time.
const saveEvery = 2 * time.Second

// saveShare makes the pause after a write a multiple of the time that it took, up
// to saveAtMost: a large catalog that changes all the time costs 0.5 % of a core
// and of the disk. What a crash loses is read again by the source.
const (
	saveShare  = 200
	saveAtMost = 5 * time.Minute
)

// saver writes snapshots to a Store beside the path of updates, so that a slow
// or dead disk delays nothing. Of several that wait the newest is written.
type saver struct {
	store  *Store
	result func(error)
	wake   chan struct{}
	last   *catalog.Snapshot // what is on disk

	mu   sync.Mutex
	next *Saved
}

func newSaver(store *Store, result func(error)) *saver {
	return &saver{store: store, result: result, wake: make(chan struct{}, 1)}
}

func (s *saver) save(at time.Time, snapshot *catalog.Snapshot) {
	if s.store == nil {
		return
	}
	s.mu.Lock()
	s.next = &Saved{at, snapshot}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx ends, and then what still waits.
func (s *saver) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			s.write()
			return
		case <-s.wake:
		}
		began := time.Now()
		done := s.write()
		if !done {
			// Tried again, since the disk may have room or be there again.
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
		pause.Reset(min(max(saveEvery, saveShare*time.Since(began)), saveAtMost))
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

// write reports whether nothing is left to write.
func (s *saver) write() bool {
	s.mu.Lock()
	next := s.next
	s.mu.Unlock()
	if next == nil {
		return true
	}
	if s.last == nil || !s.last.Equal(next.Snapshot) {
		if err := s.store.Save(next.At, next.Snapshot); err != nil {
			s.result(err)
			return false
		}
		s.last = next.Snapshot
	}
	s.result(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != next {
		return false
	}
	s.next = nil
	return true
}
