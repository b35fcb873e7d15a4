package discoverytest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// run is one source under test and what it did.
type run struct {
	Backend
	t       *testing.T
	cancel  context.CancelFunc
	done    chan struct{}
	changed chan struct{}

	mu        sync.Mutex
	shown     []Content
	runErrors int
	inside    bool
}

// start runs the source, and starts it anew when it ends with an error, as a
// discovery.Runner does.
func (r *run) start() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.cancel, r.done = cancel, make(chan struct{})
	go func() {
		defer close(r.done)
		for {
			err := r.Source.Run(ctx, r.publish)
			if ctx.Err() != nil {
				if err != nil {
					r.t.Errorf("Run returned %v after its context had ended, want nil", err)
				}
				return
			}
			if err == nil {
				r.t.Error("Run returned nil while its context was alive")
				return
			}
			r.mu.Lock()
			r.runErrors++
			r.mu.Unlock()
			r.signal()
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
}

// stop ends the source and checks how.
func (r *run) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	select {
	case <-r.done:
	case <-time.After(prompt):
		r.t.Fatal("Run does not return after its context has ended")
	}
}

func (r *run) publish(s *catalog.Snapshot) {
	r.mu.Lock()
	if r.inside {
		r.t.Error("publish is called by two goroutines at once")
	}
	r.inside = true
	r.mu.Unlock()
	if s == nil {
		r.t.Error("published no snapshot")
	}
	c := ContentOf(s)
	r.mu.Lock()
	r.inside = false
	r.shown = append(r.shown, c)
	r.mu.Unlock()
	r.signal()
}

func (r *run) signal() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *run) published() []Content {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.shown)
}

// await waits until ok, looking whenever something happened and now and then.
func (r *run) await(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-r.changed:
		case <-look.C:
		case <-deadline.C:
			r.t.Fatalf("%s: not within %v; published %v, trouble: %v", what, patience, r.published(), r.trouble())
		}
	}
}

// want waits until c is what was published last.
func (r *run) want(c Content) {
	r.t.Helper()
	r.await("publish "+c.String(), func() bool {
		shown := r.published()
		return len(shown) > 0 && shown[len(shown)-1].String() == c.String()
	})
}

// trouble is what the source reports, if anything.
func (r *run) trouble() error {
	if rep, ok := r.Source.(discovery.Reporter); ok {
		_, err := rep.LastRead()
		return err
	}
	return nil
}

// troubled waits until the source has noticed that reads fail, and then a
// moment more.
func (r *run) troubled() {
	r.t.Helper()
	r.mu.Lock()
	before := r.runErrors
	r.mu.Unlock()
	r.await("report the fault", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.runErrors > before || r.trouble() != nil
	})
	time.Sleep(quiet)
}

// neverShowed fails if anything but these was published, ever. Where services
// are read one by one, each of them must be as in one of these, and one that is in
// all of these must not be missing.
func (r *run) neverShowed(but ...Content) {
	r.t.Helper()
	for _, s := range r.published() {
		if !slices.ContainsFunc(but, func(c Content) bool { return c.String() == s.String() }) && (!r.PerService || !s.mixes(but)) {
			r.t.Errorf("published %v", s)
		}
	}
}

// mixes reports whether c has whole services of some contents, and all that are
// common to them.
func (c Content) mixes(contents []Content) bool {
	for name, addresses := range c {
		one := Content{name: addresses}
		if !slices.ContainsFunc(contents, func(o Content) bool {
			a, ok := o[name]
			return ok && one.String() == Content{name: a}.String()
		}) {
			return false
		}
	}
	for name := range contents[0] {
		common := !slices.ContainsFunc(contents, func(o Content) bool { _, ok := o[name]; return !ok })
		if _, there := c[name]; common && !there {
			return false
		}
	}
	return true
}
