package syncout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const (
	requestTimeout = 10 * time.Second
	releaseTimeout = 2 * time.Second
	// every is how often what is wanted is compared with what is there.
	every = time.Second
	// The back-off after failures, with full jitter.
	backoffBase = 250 * time.Millisecond
	backoffMax  = 15 * time.Second
	// conns: the lock's query, its renewal, the watch, and the reads of names.
	conns = 3 + readers
	// idle is above the longest query's wait.
	idle = 10 * time.Minute
)

// Options of New.
type Options struct {
	Config Config
	// Cluster owns the entries.
	Cluster catalog.ClusterName
	// Name of this process, told with the lock and in the entries that it writes.
	Name string
	// Offers says what is imported.
	Offers Offers
	// Log receives the log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Writer keeps the entries of a cluster while it holds the lock, and waits for it
// else.
type Writer struct {
	config  Config
	cluster catalog.ClusterName
	name    string
	offers  Offers
	log     *slog.Logger
	metrics *metrics

	client *api.Client // of the current Run

	moved  atomic.Uint64 // counts the movements of the catalog
	others others
	told   map[Refusal]bool
}

// New checks the configuration; it connects to nothing and opens no file.
func New(o Options) (*Writer, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, strictyaml.Within("consul", err)
	}
	if o.Offers == nil {
		return nil, errors.New("consul sync-out: offers: is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Writer{
		config: o.Config.WithDefaults(o.Cluster), cluster: o.Cluster, name: o.Name, offers: o.Offers,
		log: o.Log, metrics: newMetrics(), told: map[Refusal]bool{},
	}
	if err := w.metrics.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("consul sync-out metrics: %w", err)
	}
	return w, nil
}

// Run keeps the entries until ctx ends and returns nil then; the entries stay. It
// returns an error only where the files of the TLS configuration cannot be used.
func (w *Writer) Run(ctx context.Context) error {
	client, httpClient, err := agent.New(agent.Options{Config: w.config.Config, Conns: conns, Idle: idle})
	if err != nil {
		return fmt.Errorf("consul sync-out: %w", err)
	}
	defer httpClient.CloseIdleConnections()
	w.client = client
	for failures := 0; ctx.Err() == nil; {
		held, err := w.once(ctx)
		if held {
			failures = 0
		}
		if ctx.Err() != nil {
			break
		}
		failures++
		w.metrics.failures.Inc()
		w.log.Warn("imports are not registered in consul by this process", "err", err)
		if !pause(ctx, backoff(failures, rand.Float64())) {
			break
		}
	}
	return nil
}

// once holds the lock and writes until either ends; held tells whether it had it.
func (w *Writer) once(ctx context.Context) (held bool, err error) {
	l, err := w.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer l.release()
	w.metrics.writer.Set(1)
	defer w.metrics.idle()
	w.log.Info("imports are registered in consul by this process")
	work, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer lost(nil) // before the wait
	wg.Go(func() { l.keep(work, lost) })
	wg.Go(func() { w.watch(work) })
	err = w.write(work, l)
	if cause := context.Cause(work); errors.Is(cause, errLost) {
		err = cause
	}
	return true, err
}

// write compares and writes until ctx ends or the lock is lost. A Consul that does
// not answer is no reason to give the lock back: the session's end decides.
func (w *Writer) write(ctx context.Context, l *lock) error {
	state := writing{denied: map[string]time.Time{}}
	w.others.reset()
	for failures := 0; ; {
		err := w.pass(ctx, l, &state)
		wait := every
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errLost):
			return err
		case err != nil:
			failures++
			w.metrics.failures.Inc()
			w.log.Warn("imports are not written to consul", "err", err)
			wait += backoff(failures, rand.Float64())
		default:
			failures = 0
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// writing is what one holder of the lock knows between its passes.
type writing struct {
	missing map[string]time.Time
	// denied are names that Consul would not take, until when.
	denied map[string]time.Time
}

// backoff is how long to wait after so many failures; random is in [0, 1).
func backoff(failures int, random float64) time.Duration {
	ceiling := backoffMax
	if failures < 6 {
		ceiling = min(backoffMax, backoffBase<<failures)
	}
	return time.Duration(random * float64(ceiling))
}
