package aws_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// patience is far above what anything takes against moto; real services take
// minutes.
const patience = 60 * time.Second

// runner runs a source until the end of its test and keeps what it publishes.
type runner struct {
	t      *testing.T
	source discovery.Source
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	shown []*catalog.Snapshot
}

func start(t *testing.T, s discovery.Source) *runner {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &runner{t: t, source: s, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := s.Run(ctx, func(snap *catalog.Snapshot) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.shown = append(r.shown, snap)
		}); err != nil {
			t.Errorf("Run returned %v", err)
		}
	}()
	t.Cleanup(r.stop)
	return r
}

func (r *runner) stop() {
	r.cancel()
	<-r.done
}

func (r *runner) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.shown)
}

func (r *runner) last() *catalog.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.shown) == 0 {
		return nil
	}
	return r.shown[len(r.shown)-1]
}

func (r *runner) trouble() error {
	_, err := r.source.(discovery.Reporter).LastRead()
	return err
}

// await waits until ok of what was published last.
func (r *runner) await(what string, ok func(*catalog.Snapshot) bool) {
	r.t.Helper()
	limit := patience
	if s, isAWS := r.source.(*translated); isAWS && s.w.proxy == nil {
		limit = 15 * time.Minute
	}
	deadline := time.Now().Add(limit)
	for r.last() == nil || !ok(r.last()) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %v; trouble: %v", what, limit, r.trouble())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// until waits for something that is not published.
func (r *runner) until(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %v; trouble: %v", what, patience, r.trouble())
		}
		time.Sleep(10 * time.Millisecond)
	}
}
