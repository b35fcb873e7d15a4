package exec

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// The defaults of ServeOptions.
const (
	DefaultFullEvery = 10 * time.Minute
	DefaultBeat      = 30 * time.Second
	// look is how soon new trouble is told: an operator who looks at the parent is
	// not to wait for the next beat.
	look = 2 * time.Second
)

// ErrParentGone is returned by Serve when its standard input has ended.
var ErrParentGone = errors.New("the parent has closed the standard input")

// ServeOptions configure Serve.
type ServeOptions struct {
	// Source is run and printed.
	Source discovery.Source
	// Out is the standard output, In the standard input. Reading In may go on
	// after Serve's return, until In ends: the standard input cannot be
	// interrupted. Nil reads nothing.
	Out io.Writer
	In  io.Reader
	// FullEvery is how often a full list is printed, Beat how often the source's
	// state is looked at and a sign of life given; 0 means the defaults.
	FullEvery, Beat time.Duration
}

// Serve is the child's side for a Source: it prints what the source publishes
// and reports, until ctx ends (nil), the parent is gone (ErrParentGone), or the
// source or printing fails.
func Serve(ctx context.Context, o ServeOptions) error {
	o.FullEvery, o.Beat = cmp.Or(o.FullEvery, DefaultFullEvery), cmp.Or(o.Beat, DefaultBeat)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &server{o: o, w: NewWriter(o.Out), stop: cancel}
	if o.In != nil {
		go s.listen()
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.beat(ctx) })
	wg.Go(func() {
		err := o.Source.Run(ctx, s.publish)
		if err == nil && ctx.Err() == nil {
			err = errors.New("the source ended by itself")
		}
		cancel(err)
	})
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

type server struct {
	o    ServeOptions
	stop context.CancelCauseFunc

	mu   sync.Mutex
	w    *Writer
	last *catalog.Snapshot
	told string // the trouble that was printed last
}

// publish prints a snapshot, and after it what the source still reports: one that
// publishes what it can read, while a part of it cannot be read, is not well. The
// source must not hold a lock while it publishes that LastRead takes.
func (s *server) publish(snap *catalog.Snapshot) {
	err := s.trouble()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = snap
	s.check(s.w.Publish(snap))
	s.told = ""
	if err != nil {
		s.fail(err)
	}
}

func (s *server) fail(err error) {
	s.told = err.Error()
	s.check(s.w.Fail(err))
}

// trouble is what the source reports, if it does.
func (s *server) trouble() error {
	if r, ok := s.o.Source.(discovery.Reporter); ok {
		_, err := r.LastRead()
		return err
	}
	return nil
}

func (s *server) check(err error) {
	if err != nil {
		s.stop(fmt.Errorf("print: %w", err))
	}
}

// beat prints full lists, signs of life, and what the source reports.
func (s *server) beat(ctx context.Context) {
	beat, full, trouble := time.NewTicker(s.o.Beat), time.NewTicker(s.o.FullEvery), time.NewTicker(look)
	defer trouble.Stop()
	defer beat.Stop()
	defer full.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-trouble.C:
			s.tellNew()
		case <-beat.C:
			s.state(false)
		case <-full.C:
			s.state(true)
		}
	}
}

// tellNew prints trouble that has not been printed. That it is over tells the next
// snapshot or beat: only a read is a witness of that.
func (s *server) tellNew() {
	err := s.trouble()
	if err == nil {
		return
	}
	text := err.Error()
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != s.told {
		s.fail(err)
	}
}

func (s *server) state(full bool) {
	err := s.trouble()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.fail(err) // repeated: it is a sign of life, too
	case full && s.last != nil:
		s.w.Full()
		s.check(s.w.Publish(s.last))
	default:
		s.told = ""
		s.check(s.w.Unchanged())
	}
}

// listen reads the parent's words until its end.
func (s *server) listen() {
	lines := bufio.NewScanner(s.o.In)
	for lines.Scan() {
		m, err := parseMessage(lines.Bytes())
		if err != nil || m.Reread == nil {
			continue // a newer parent's word
		}
		if r, ok := s.o.Source.(discovery.Rereader); ok {
			r.Reread()
		}
	}
	s.stop(ErrParentGone)
}
