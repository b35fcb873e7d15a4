package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"golang.org/x/time/rate"
)

// Source holds the process's SVID and the bundles that it trusts. All methods may
// be called from several goroutines; none of those that a handshake uses blocks.
type Source struct {
	opts    Options
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	static  bool

	// logged bounds what strangers can make us write; see refused.
	logged     *rate.Limiter
	suppressed atomic.Int64

	subs  subscribers
	wake  chan struct{} // of the overseer: the source began or ceased to fail
	state atomic.Pointer[state]

	mu   sync.Mutex // serialises changes of state and of the cache file
	last report
}

// Bounds of the log of refusals: enough to see what happens, too little to fill a
// disk with handshakes of strangers.
const (
	refusalLogsPerSecond = 5
	refusalLogsBurst     = 50
)

// New returns a Source. If the cache file holds a good SVID the Source is usable
// at once; everything else is Run's work. A bad cache file is no error here: it is
// reported, counted, and named by WaitReady. The error joins all that is wrong
// with the options.
func New(opts Options) (*Source, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	m := newMetrics()
	if err := m.register(opts.Registerer); err != nil {
		return nil, fmt.Errorf("identity metrics: %w", err)
	}
	s := newSource(opts, m)
	s.loadCache()
	return s, nil
}

// NewStatic returns a Source with a fixed identity, for simulation and tests. The
// bundle of the SVID's own trust domain must be among the given ones for peers of
// that domain to be trusted; every bundle stays bound to its domain.
func NewStatic(svid *x509svid.SVID, bundles ...*x509bundle.Bundle) *Source {
	s := newSource(Options{}, newMetrics())
	s.static = true
	now := s.now()
	st := (&state{}).clone()
	st.withSVID(svid, now)
	for _, b := range bundles {
		st.api[b.TrustDomain()] = staticBundle(b, now)
	}
	s.publish(st)
	return s
}

func newSource(opts Options, m *metrics) *Source {
	s := &Source{
		opts: opts, log: opts.Log, now: opts.Now, metrics: m,
		logged: rate.NewLimiter(refusalLogsPerSecond, refusalLogsBurst),
		wake:   make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.state.Store(&state{})
	return s
}

// Options configure a Source.
type Options struct {
	// WorkloadAPI is the address of the SPIFFE Workload API: unix:///path or
	// tcp://ip:port. It excludes Files.
	WorkloadAPI string
	// Files are read instead of asking a Workload API.
	Files *Files
	// Feed is followed instead of either.
	Feed Feed
	// ID picks one SVID among those that the Workload API offers; zero takes the
	// first, which the specification calls the default.
	ID spiffeid.ID
	// CacheFile keeps SVID, key and bundles while they are valid, readable by the
	// owner only, so that the process starts again without the Workload API.
	// Empty keeps nothing.
	CacheFile string
	// Log receives the source's log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Validate returns everything that is wrong with the options.
func (o Options) Validate() error {
	var errs []error
	if o.Feed != nil {
		if o.WorkloadAPI != "" || o.Files != nil {
			errs = append(errs, errors.New("feed: must not be set beside workload_api or files"))
		}
	} else if o.Files != nil {
		if o.WorkloadAPI != "" {
			errs = append(errs, fmt.Errorf("workload_api: %q: must not be set beside files", o.WorkloadAPI))
		}
		if err := o.Files.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("files: %w", err))
		}
	} else if err := workloadapi.ValidateAddress(o.WorkloadAPI); err != nil {
		errs = append(errs, fmt.Errorf("workload_api: %q: %w", o.WorkloadAPI, err))
	}
	if !o.ID.IsZero() && o.ID.Path() == "" {
		errs = append(errs, fmt.Errorf("id: %q: must have a path", o.ID))
	}
	return errors.Join(errs...)
}

// where names the source of the identity, for logs and errors.
func (o Options) where() string {
	if o.Feed != nil {
		return o.Feed.String()
	}
	if o.Files != nil {
		return "files at " + o.Files.String()
	}
	return "workload api " + o.WorkloadAPI
}

// publish swaps the state and tells everybody. The caller holds mu, or is the
// only one who knows s.
func (s *Source) publish(st *state) {
	s.state.Store(st)
	s.metrics.observe(st)
	s.subs.notify()
}

// refused counts and logs one refusal of a handshake and returns it.
func (s *Source) refused(err *PeerError) error {
	if args, ok := s.refusal(err); ok {
		level := slog.LevelWarn
		if err.Reason == ReasonOwnSVIDMissing {
			// Every start has a moment before the first SVID; where none comes, the source
			// says so itself.
			level = slog.LevelInfo
		}
		s.log.Log(context.Background(), level, "handshake refused", args...)
	}
	return err
}

// refusedProof is refused for a proof on a live link.
func (s *Source) refusedProof(err *PeerError) error {
	if args, ok := s.refusal(err); ok {
		s.log.Warn("proof refused", args...)
	}
	return err
}

// refusal counts a refusal and says what to log of it, if it is to be logged.
func (s *Source) refusal(err *PeerError) (args []any, ok bool) {
	s.metrics.refused.WithLabelValues(string(err.Reason)).Inc()
	if !s.logged.AllowN(s.now(), 1) {
		s.suppressed.Add(1)
		return nil, false
	}
	args = []any{"reason", string(err.Reason), "spiffe_id", err.ID.String(), "err", err.Err}
	if n := s.suppressed.Swap(0); n > 0 {
		args = append(args, "count", n) // refusals not logged since the last line
	}
	return args, true
}

// ID returns the SPIFFE ID of the current SVID; until there is one, the one that
// was asked for (zero: any).
func (s *Source) ID() spiffeid.ID {
	if st := s.state.Load(); st.svid != nil {
		return st.svid.ID
	}
	return s.opts.ID
}

// TrustDomain returns the trust domain of ID.
func (s *Source) TrustDomain() spiffeid.TrustDomain {
	if td := s.state.Load().domain(); !td.IsZero() {
		return td
	}
	return s.opts.ID.TrustDomain()
}

// NotAfter returns when the current SVID expires; zero when there is none yet.
func (s *Source) NotAfter() time.Time { return s.state.Load().notAfter() }

// Serial returns the serial number of the current SVID in hexadecimal, for logs
// and status; empty when there is none yet.
func (s *Source) Serial() string {
	if st := s.state.Load(); st.svid != nil {
		return serial(st.svid)
	}
	return ""
}

func serial(svid *x509svid.SVID) string {
	return fmt.Sprintf("%x", svid.Certificates[0].SerialNumber)
}
