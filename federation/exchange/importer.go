package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Store keeps the last good states of one peer; store.LastGood is one. Load gives
// accept the states from the newest on until it takes one; skipped says why newer
// ones were passed over. Without any state nothing is called and err is nil.
type Store interface {
	Save(state []byte) error
	Load(accept func(state []byte) error) (skipped, err error)
}

// ImporterOptions configure an Importer.
type ImporterOptions struct {
	// Cluster and ID are the peer's, from the own configuration.
	Cluster catalog.ClusterName
	ID      spiffeid.ID
	// URL is where the peer's federation is reached: scheme and host, such as
	// "https://federation.gcp".
	URL string
	// Client reaches it and accepts exactly ID at the other end. Its timeout and
	// its handling of redirects are replaced: a stream has no end, and a peer
	// sends nobody elsewhere.
	Client *http.Client
	// Streams is a client that speaks HTTP/1.1 only, for the stream: it is asked for
	// with an upgrade then, to have a connection to itself, which costs a third less.
	// A peer that does not know the upgrade answers all the same. nil leaves the stream
	// to Client.
	Streams *http.Client
	// Store keeps the last good state over restarts; nil keeps none.
	Store Store
	// SaveGap is the least time between two states in Store, if it is above two
	// seconds: an owner of many importers spreads their writes. nil is two seconds.
	SaveGap func() time.Duration
	// Changed is called whenever Snapshot or Status may say something new, from
	// one goroutine at a time. It does not block for long.
	Changed func()
	// Bundle takes the bundle document of the peer's trust domain whenever it
	// changes. It must accept it for that trust domain only; on an error the one
	// before stays in use. nil where the peer's bundle comes from elsewhere, or
	// where the peer shares the own trust domain.
	Bundle func(document json.RawMessage) error
	// AllowLoopback accepts gateways at loopback addresses.
	AllowLoopback bool
	// Limits are the peer's quotas; zero means DefaultLimits.
	Limits Limits
	// Log receives the importer's log; nil discards it.
	Log *slog.Logger
	// Metrics are shared by all importers; nil counts nothing.
	Metrics *ImporterMetrics
	// Now and Random (uniform in [0, 1)) are for tests; nil means the real ones.
	Now    func() time.Time
	Random func() float64
}

// PeerState says how much of a peer is heard.
type PeerState string

// The states of a peer's control plane. Traffic does not depend on it.
const (
	// StateConnecting: not in sync yet; the lease has not run out.
	StateConnecting PeerState = "connecting"
	// StateOK: the stream is open and in sync.
	StateOK PeerState = "ok"
	// StateRefused: the peer refuses us, or we what it says.
	StateRefused PeerState = "refused"
	// StateControlLost: nothing was heard for the lease; the last good state is
	// kept.
	StateControlLost PeerState = "control_lost"
)

// Status is what is known of a peer's control plane.
type Status struct {
	State PeerState
	// Err says why the state is not StateOK; nil where nothing has failed yet.
	Err error
	// ControlLost is set once the lease has run out, also while State is
	// StateRefused.
	ControlLost bool
	// HeardAt is when the peer was heard last, zero for never; it is kept over
	// restarts.
	HeardAt  time.Time
	Position Position
	// Attempt counts attempts to connect since the last stable stream.
	Attempt int
}

// Importer follows one peer. Snapshot and Status may be called from any
// goroutine at any time.
type Importer struct {
	opts    ImporterOptions
	log     *slog.Logger
	client  *http.Client
	streams *http.Client // nil: client
	metrics *ImporterMetrics

	applier *Applier // of the goroutine that runs the stream
	series  *importerSeries
	nudge   chan struct{}
	heard   chan struct{} // wakes the watcher of the lease
	dirty   chan struct{} // wakes the saver

	changing sync.Mutex // held while Changed is called

	mu        sync.Mutex
	snapshot  *Snapshot
	status    Status
	leaseFrom time.Time
	loaded    bool
}

// NewImporter checks the options; it opens nothing.
func NewImporter(opts ImporterOptions) (*Importer, error) {
	if _, err := catalog.ParseClusterName(string(opts.Cluster)); err != nil {
		return nil, fmt.Errorf("importer: %w", err)
	}
	base, err := url.Parse(opts.URL)
	switch {
	case opts.ID.IsZero():
		return nil, errors.New("importer: id: is required")
	case err != nil || base.Host == "" || base.Path != "" || base.RawQuery != "":
		return nil, fmt.Errorf("importer: url: value %q: must be a scheme and a host", opts.URL)
	case opts.Client == nil:
		return nil, errors.New("importer: client: is required")
	}
	if opts.Limits == (Limits{}) {
		opts.Limits = DefaultLimits()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Random == nil {
		opts.Random = rand.Float64
	}
	if opts.SaveGap == nil {
		opts.SaveGap = func() time.Duration { return saveGap }
	}
	if opts.Changed == nil {
		opts.Changed = func() {}
	}
	i := &Importer{
		opts: opts, log: opts.Log, metrics: opts.Metrics,
		applier: NewApplier(ApplierOptions{Cluster: opts.Cluster, ID: opts.ID, AllowLoopback: opts.AllowLoopback, Limits: opts.Limits}),
		nudge:   make(chan struct{}, 1), heard: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		status: Status{State: StateConnecting},
	}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	i.log = i.log.With("peer", opts.Cluster)
	if i.metrics == nil {
		if i.metrics, err = NewImporterMetrics(nil); err != nil {
			return nil, fmt.Errorf("importer: %w", err)
		}
	}
	i.client, i.streams = endless(opts.Client), endless(opts.Streams)
	return i, nil
}

// endless is the client without a timeout, and without redirects.
func endless(client *http.Client) *http.Client {
	if client == nil {
		return nil
	}
	c := *client
	c.Timeout = 0
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// Snapshot is the peer's last good state; nil where there never was one.
func (i *Importer) Snapshot() *Snapshot {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.snapshot
}

// Status is the state of the peer's control plane.
func (i *Importer) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.status
	s.Position = i.snapshot.Position()
	return s
}

// Nudge ends the wait for the next attempt: the caller has reason to believe
// that the peer can be reached again.
func (i *Importer) Nudge() { signal(i.nudge) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run follows the peer until ctx ends and returns nil. It calls Load if that was
// not done, comes back after every failure with full-jitter back-off, and saves
// the last good state before it returns.
func (i *Importer) Run(ctx context.Context) error {
	if err := i.Load(); err != nil {
		i.log.Warn("last good state not loaded", "err", err)
	}
	i.mu.Lock()
	i.leaseFrom = i.opts.Now()
	i.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(func() { i.watchLease(ctx) })
	wg.Go(func() { i.saveChanges(ctx) })
	i.follow(ctx)
	wg.Wait()
	i.saveLast()
	i.client.CloseIdleConnections()
	if i.streams != nil {
		i.streams.CloseIdleConnections()
	}
	i.metrics.remove(i.opts.Cluster)
	return nil
}

// follow opens one stream after the other.
func (i *Importer) follow(ctx context.Context) {
	peer := string(i.opts.Cluster)
	for attempt := 0; ; attempt++ {
		i.update(func(s *Status) { s.Attempt = attempt })
		i.metrics.reconnects.WithLabelValues(peer).Inc()
		stable, err := i.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		i.metrics.connected.WithLabelValues(peer).Set(0)
		re, refused := errors.AsType[*RefusedError](err)
		if refused {
			i.metrics.refused.WithLabelValues(peer, string(re.Reason)).Inc()
			i.log.Warn("exchange refused", "reason", string(re.Reason), "err", err, "attempt", attempt)
		} else {
			i.log.Info("exchange ended", "err", err, "attempt", attempt)
		}
		i.notify(i.update(func(s *Status) {
			s.Err = err
			switch {
			case refused:
				s.State = StateRefused
			case s.ControlLost:
				s.State = StateControlLost
			default:
				s.State = StateConnecting
			}
		}))
		if stable {
			attempt = 0
		}
		wait := time.NewTimer(Backoff(attempt, i.opts.Random()))
		select {
		case <-wait.C:
		case <-i.nudge:
			wait.Stop()
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}

// The back-off between streams: a random share of a ceiling that doubles, so
// that the clusters that lost one peer do not come back to it in step. The most is
// what a peer that is there again may have to wait for; an attempt costs little, and
// nothing beyond the own gateway while there is no link.
const (
	backoffBase  = 200 * time.Millisecond
	backoffMax   = 5 * time.Second
	backoffFloor = 20 * time.Millisecond // keeps the luckiest draw from being a hot loop
	// stableAfter is how long a stream must be in sync to start the back-off anew.
	stableAfter = time.Minute
)

// Backoff is the wait after a failed attempt, from 0; random is from [0, 1).
func Backoff(attempt int, random float64) time.Duration {
	const doublings = 5 // 200 ms << 5 is above the maximum
	ceiling := min(backoffMax, backoffBase<<min(attempt, doublings))
	return max(backoffFloor, time.Duration(random*float64(ceiling)))
}

// update changes the status and reports whether that is worth a call of Changed.
func (i *Importer) update(change func(*Status)) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	before := i.status
	change(&i.status)
	return before.State != i.status.State || before.ControlLost != i.status.ControlLost || (before.Err == nil) != (i.status.Err == nil)
}

func (i *Importer) notify(changed bool) {
	if changed {
		i.changing.Lock()
		defer i.changing.Unlock()
		i.opts.Changed()
	}
}
