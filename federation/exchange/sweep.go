package exchange

import (
	"sync"
	"time"
)

// What is told to very many at once is written by one goroutine, one stream after
// the other: to wake one for each of 200 streams, twice a second, costs as much as
// the writes do, since each wakes a thread on a core that sleeps. A stream is swept
// while its writes are quick. One that is not has its own goroutine write, and
// delays nobody; at worst it holds a sweep up for sweepStall, once, then another
// goroutine goes on with the rest.
const (
	// quickWrite is what a write may take where the other end, or the network, takes
	// what it is given; quickEnough is how many of those in a row make a stream one
	// that is swept.
	quickWrite  = 5 * time.Millisecond
	quickEnough = 8
	sweepStall  = 20 * time.Millisecond
)

// sweeper is an exporter's goroutine for streams that are quick; there is none while
// there is nothing to do.
type sweeper struct {
	mu    sync.Mutex
	queue []*stream
	at    *sweep // work; nil: nobody is
}

// sweep is one goroutine's turn. It ends with the queue, or when another has gone
// on in its place.
type sweep struct{ _ byte }

// add has streams swept.
func (w *sweeper) add(streams []*stream) {
	if len(streams) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, streams...)
	if w.at == nil {
		w.start()
	}
}

// start is called with mu held.
func (w *sweeper) start() {
	w.at = new(sweep)
	go w.run(w.at)
}

func (w *sweeper) run(turn *sweep) {
	stall := time.AfterFunc(sweepStall, func() { w.pass(turn) })
	defer stall.Stop()
	for s := w.next(turn); s != nil; s = w.next(turn) {
		stall.Reset(sweepStall)
		s.sweep()
	}
}

// next is the stream that a turn goes on with, nil at its end.
func (w *sweeper) next(turn *sweep) *stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.at != turn:
		return nil
	case len(w.queue) == 0:
		w.at, w.queue = nil, nil
		return nil
	}
	s := w.queue[0]
	w.queue = w.queue[1:]
	return s
}

// pass lets another goroutine go on in the place of one that is held up.
func (w *sweeper) pass(turn *sweep) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.at != turn:
	case len(w.queue) == 0:
		w.at = nil
	default:
		w.start()
	}
}

// isQuick reports whether the stream can be swept.
func (s *stream) isQuick() bool { return s.quick.Load() >= quickEnough }

// noteWrite follows what the last write took. A stream that shares its connection
// never counts as quick: its writes wait for those of others.
func (s *stream) noteWrite(took time.Duration) {
	if !s.direct {
		return
	}
	if took > quickWrite {
		s.quick.Store(0)
	} else if s.quick.Load() < quickEnough {
		s.quick.Add(1)
	}
}

// sweep writes what the listener lacks, or leaves it to the stream's own goroutine
// where that is writing, or has to wait.
func (s *stream) sweep() {
	select {
	case s.turn <- struct{}{}:
	default:
		signal(s.wake)
		return
	}
	defer func() { <-s.turn }()
	if !s.isQuick() || time.Since(s.wrote) < batchGap {
		signal(s.wake)
		return
	}
	if _, err := s.batch(false); err != nil {
		s.failed = err
		signal(s.wake)
	}
}
