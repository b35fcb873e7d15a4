package aws

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/smithy-go/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/aws/account"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Options of New.
type Options struct {
	// Name of the source, a DNS label.
	Name   string
	Config Config
	// Log receives the log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
	// CallTimeout bounds one attempt of a call, Backoff the wait between attempts;
	// 0 is the default of package account.
	CallTimeout, Backoff time.Duration
	// APIOptions are added to every client of the SDK: tests watch calls by them.
	APIOptions []func(*middleware.Stack) error
}

// Source reads AWS.
type Source struct {
	opts     Options
	log      *slog.Logger
	metrics  *metrics
	accounts []*account.Account
	units    []*follower
	changed  chan struct{}
	compose  composer // of the current Run

	mu     sync.Mutex // guards what followers report, and refused
	refuse error
}

var (
	_ discovery.Source   = (*Source)(nil)
	_ discovery.Reporter = (*Source)(nil)
	_ discovery.Rereader = (*Source)(nil)
)

// New checks the configuration; it makes no call and opens no file.
func New(o Options) (*Source, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if _, err := catalog.NewSnapshot(o.Name, nil); err != nil {
		return nil, err
	}
	o.Config = o.Config.WithDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{opts: o, log: o.Log.With("source", o.Name), changed: make(chan struct{}, 1)}
	s.metrics = newMetrics(o.Name, s.ages)
	if err := s.metrics.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("aws metrics: %w", err)
	}
	for _, a := range o.Config.Accounts {
		s.open(a)
	}
	return s, nil
}

// Run implements discovery.Source; it always returns nil, after ctx has ended.
func (s *Source) Run(ctx context.Context, publish discovery.Publish) error {
	s.compose = composer{source: s.opts.Name}
	s.mu.Lock()
	s.refuse = nil
	for _, u := range s.units {
		u.reset()
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, u := range s.units {
		wg.Go(func() { s.follow(ctx, u) })
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.changed:
			if snap := s.next(); snap != nil && ctx.Err() == nil {
				publish(snap)
			}
		}
	}
	wg.Wait()
	for _, a := range s.accounts {
		a.Close()
	}
	return nil
}

// next is the snapshot to publish; nil where there is nothing to say: a unit has
// not been read yet, or nothing changed and not all was read anew.
func (s *Source) next() *catalog.Snapshot {
	s.mu.Lock()
	changed, whole := false, true
	contents := make([]*unit.Content, 0, len(s.units))
	for _, u := range s.units {
		if u.content == nil {
			s.mu.Unlock()
			return nil
		}
		contents = append(contents, u.content)
		changed = changed || u.changed
		whole = whole && u.confirmed
	}
	if !changed && !whole {
		s.mu.Unlock()
		return nil
	}
	for _, u := range s.units {
		u.changed, u.confirmed = false, false
	}
	s.mu.Unlock()
	snap, dropped, err := s.compose.compose(contents)
	if dropped > 0 {
		s.log.Warn("left out of services what does not fit together", "count", dropped)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
	if err != nil {
		return nil // the last good one goes on
	}
	return snap
}

// LastRead implements discovery.Reporter: the whole is as old as its oldest unit.
func (s *Source) LastRead() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest time.Time
	var errs []error
	failing, complete := 0, true
	for _, u := range s.units {
		if u.err != nil {
			if failing++; failing <= maxErrors {
				errs = append(errs, fmt.Errorf("%s: %w", u.name, u.err))
			}
		}
		complete = complete && !u.read.IsZero()
		if oldest.IsZero() || u.read.Before(oldest) {
			oldest = u.read
		}
	}
	if failing > maxErrors {
		errs = append(errs, fmt.Errorf("and %d units more", failing-maxErrors))
	}
	if !complete {
		oldest = time.Time{}
	}
	return oldest, errors.Join(append(errs, s.refuse)...)
}

// maxErrors bounds how many failing units an error tells of by name.
const maxErrors = 5

// Reread implements discovery.Rereader: every unit is read in full now.
func (s *Source) Reread() {
	for _, u := range s.units {
		select {
		case u.kick <- struct{}{}:
		default: // asked for already
		}
	}
}

func (s *Source) ages() []age {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]age, 0, len(s.units))
	for _, u := range s.units {
		out = append(out, age{u.name, u.read})
	}
	return out
}

// wake tells Run that a unit was read.
func (s *Source) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
