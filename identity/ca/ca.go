package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/isthmus-mesh/isthmus/identity/internal/workload"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	// maxRefreshHint asks readers of the bundle to look again at least this often,
	// the interval that the SPIFFE specifications suggest; a root is published well
	// over five such intervals before it signs.
	maxRefreshHint = 5 * time.Minute
	// maxWait bounds one wait for a root's next step, since timers stand still while
	// the machine sleeps and certificates do not.
	maxWait = time.Minute
	// retryWait is the pause after a step that failed, such as a full disk.
	retryWait = 5 * time.Second
	// Bounds of the log of refusals: any local user can cause them.
	refusalLogsPerSecond = 5
	refusalLogsBurst     = 50
	// bundleMode lets everybody read the bundle file: it holds public keys only.
	bundleMode = 0o644
)

// Options are what a CA needs beside its configuration.
type Options struct {
	// Log receives the CA's log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// CA is the certificate authority of one trust domain.
type CA struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	uid     uint32 // our own

	serving chan struct{} // closed when the socket is there
	view    atomic.Pointer[view]

	hosts *hosts           // nil where no other host may join
	self  *identity.Source // the CA's own SVID, for hosts and a bundle endpoint

	mu    sync.Mutex // serialises changes of the view
	roots roots
	feder *federation
	table []Entry

	wrote  uint64        // sequence of the bundle in BundleFile; Run's goroutines only
	logged *rate.Limiter // of refusals
}

// New returns a CA with its roots: those of Dir, or new ones. The error joins all
// that is wrong with the configuration, or wraps ErrState or ErrInUse.
func New(cfg Config, opts Options) (*CA, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &CA{
		cfg: cfg.withDefaults(), log: opts.Log, now: opts.Now, metrics: newMetrics(),
		uid:     uint32(os.Geteuid()), // a uid is an unsigned 32-bit number
		serving: make(chan struct{}),
		table:   slices.Clone(cfg.Entries), logged: rate.NewLimiter(refusalLogsPerSecond, refusalLogsBurst),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("trust_domain", cfg.TrustDomain.Name())
	if c.now == nil {
		c.now = time.Now
	}
	if err := c.metrics.register(opts.Registerer); err != nil {
		return nil, fmt.Errorf("ca metrics: %w", err)
	}
	release, err := c.open()
	if err != nil {
		return nil, err
	}
	return c, release()
}

// open takes the directory and reads what is in it. It is done by New, so that the
// bundle is known before Run, and again by Run, since the directory was free between
// the two.
func (c *CA) open() (release func() error, err error) {
	if err := prepareDir(c.cfg.Dir); err != nil {
		return nil, err
	}
	release, err = keep.Lock(filepath.Join(c.cfg.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("dir: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var damage error
	if c.roots, damage, err = loadRoots(c.cfg.Dir, c.cfg.TrustDomain); err == nil {
		c.damaged(damage)
		// A step that fails, on a full disk say, is tried again by Run while the
		// roots that there are can sign.
		if _, rerr := c.rotate(c.now()); len(c.roots.list) == 0 {
			err = rerr
		}
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	if c.feder, damage, err = loadFederation(c.cfg.Dir, c.cfg.Federated, c.now()); err != nil {
		c.metrics.damaged.Inc()
		c.log.Warn("remembered federated bundles refused", "err", err)
	}
	c.damaged(damage)
	c.publish()
	if c.cfg.Hosts.Address != "" && c.hosts == nil {
		if c.hosts, err = loadHosts(c); err != nil {
			return nil, errors.Join(err, release())
		}
	}
	return release, nil
}

// damaged tells of a file one of whose copies was damaged; nil: of none.
func (c *CA) damaged(damage error) {
	if damage != nil {
		c.metrics.damaged.Inc()
		c.log.Error("a file of the ca was damaged, its second copy serves", "path", c.cfg.Dir, "err", damage)
	}
}

// Run serves the Workload API until ctx ends, then returns nil. It must be called
// once.
func (c *CA) Run(ctx context.Context) (err error) {
	release, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	c.reloadFederated(c.now())
	if err := c.writeOwnBundle(); err != nil {
		return err
	}
	unix, err := c.listen()
	if err != nil {
		return err
	}
	srv := workload.New(workload.Options{
		View: func() workload.View { return c.view.Load() }, Refused: c.refused, Streams: c.metrics.streams, Now: c.now,
	})
	c.log.Info("workload api serving", "path", c.cfg.Socket, "count", len(c.view.Load().entries))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Serve(ctx, unix) })
	group.Go(func() error {
		c.tend(ctx)
		return nil
	})
	if c.hosts != nil {
		group.Go(func() error { return c.serveHosts(ctx) })
		group.Go(func() error { return c.serveOperator(ctx) })
	}
	return group.Wait()
}

// listen makes the socket. It holds mu, so that SetEntries changes the mode either
// before it is read here or on the socket.
func (c *CA) listen() (*net.UnixListener, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := workload.Listen(c.cfg.Socket, socketMode(c.table, c.uid))
	if err == nil {
		close(c.serving)
	}
	return l, err
}

// WaitReady returns nil as soon as the socket accepts connections.
func (c *CA) WaitReady(ctx context.Context) error {
	select {
	case <-c.serving:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("workload api %s is not served: %w", c.cfg.Socket, context.Cause(ctx))
	}
}

// Address returns the Workload API's address, for identity.Options.
func (c *CA) Address() string { return "unix://" + c.cfg.Socket }

// tend rotates roots and follows the files of federated bundles.
func (c *CA) tend(ctx context.Context) {
	poll := time.NewTicker(federatedPoll)
	defer poll.Stop()
	rotate := time.NewTimer(0)
	defer rotate.Stop()
	renew := time.NewTicker(max(minRenew, time.Duration(float64(c.cfg.SVIDTTL)*renewFrom)))
	defer renew.Stop()
	for {
		select {
		case <-poll.C:
			c.reloadFederated(c.now())
		case <-rotate.C:
			rotate.Reset(c.rotateRoots())
		case <-renew.C:
			if err := c.refreshSelf(c.view.Load()); err != nil {
				c.log.Error("own svid not issued", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// rotateRoots takes the step that is due and says when to look again.
func (c *CA) rotateRoots() time.Duration {
	c.mu.Lock()
	now, before := c.now(), c.roots.sequence
	next, err := c.rotate(now)
	changed := c.roots.sequence != before
	if changed {
		c.publish()
	}
	c.mu.Unlock()
	if err = errors.Join(err, c.writeOwnBundle()); err != nil {
		c.log.Error("roots not rotated", "err", err)
		return retryWait
	}
	return min(max(next.Sub(now), 0), maxWait)
}

// rotate advances the roots and saves them before they are used. The caller holds
// mu.
func (c *CA) rotate(now time.Time) (lookAgain time.Time, err error) {
	next, lookAgain, err := c.roots.advance(now, c.cfg, func(activates time.Time) (root, error) {
		return newRoot(c.cfg.TrustDomain, now, activates, c.cfg.CATTL)
	})
	if err != nil || next.sequence == c.roots.sequence {
		return lookAgain, err
	}
	if err := next.save(c.cfg.Dir, c.cfg.TrustDomain); err != nil {
		c.metrics.writeErrors.Inc()
		return now, err
	}
	c.roots = next
	newest := next.list[len(next.list)-1]
	c.log.Info("roots changed", "count", len(next.list), "version", next.sequence,
		"duration", newest.activates.Sub(now)) // until the newest signs
	return lookAgain, nil
}

// publish makes what is current visible to streams. The caller holds mu.
func (c *CA) publish() {
	v := &view{
		ca: c, roots: c.roots, bundle: concat(c.roots.certificates()), entries: slices.Clone(c.table),
		federated: make(map[string][]byte), replaced: make(chan struct{}),
	}
	for td, der := range c.feder.bundles() {
		v.federated[td.IDString()] = der
	}
	if n := len(c.roots.list); n > 0 {
		c.metrics.rootNotAfter.Set(float64(c.roots.list[n-1].cert.NotAfter.Unix()))
	}
	c.metrics.roots.Set(float64(len(c.roots.list)))
	c.metrics.sequence.Set(float64(c.roots.sequence))
	for _, f := range c.feder.files {
		if f.document != nil {
			c.metrics.federatedUpdated.WithLabelValues(f.TrustDomain.Name()).Set(float64(f.updated.Unix()))
		}
	}
	if old := c.view.Swap(v); old != nil {
		close(old.replaced)
	}
	if err := c.refreshSelf(v); err != nil {
		c.log.Error("own svid not issued", "err", err)
	}
}

// reloadFederated reads the files of federated bundles that changed.
func (c *CA) reloadFederated(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for _, r := range c.feder.reload(now) {
		switch {
		case r.err != nil:
			c.metrics.federatedRefused.WithLabelValues(r.file.TrustDomain.Name()).Inc()
			c.log.Warn("federated bundle refused", "peer", r.file.TrustDomain.Name(), "path", r.file.BundleFile, "err", r.err)
		case r.changed:
			changed = true
			c.log.Info("federated bundle updated", "peer", r.file.TrustDomain.Name(), "path", r.file.BundleFile,
				"version", r.file.good.Sequence, "count", len(r.file.good.Authorities))
		}
	}
	if !changed {
		return
	}
	if err := c.feder.save(); err != nil {
		c.metrics.writeErrors.Inc()
		c.log.Error("federated bundles not remembered", "err", err)
	}
	c.publish()
}

// socketMode keeps out those who could get nothing anyway: the kernel's word on
// the caller is the authentication, so the socket is opened to all exactly when an
// entry names another user.
func socketMode(entries []Entry, own uint32) fs.FileMode {
	for _, e := range entries {
		if e.Host == "" && e.UID != nil && *e.UID != own {
			return workload.ForAll
		}
	}
	return workload.OwnOnly
}

// SetEntries replaces the table of entries. Open streams learn it at once: those
// whose uid lost everything end with PermissionDenied, the others get what they are
// entitled to now. On error the old table stays.
func (c *CA) SetEntries(entries []Entry) error {
	if err := validateEntries(c.cfg.TrustDomain, entries); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.serving:
		if err := os.Chmod(c.cfg.Socket, socketMode(entries, c.uid)); err != nil {
			return fmt.Errorf("socket: %w", err)
		}
	default: // Run will
	}
	c.table = slices.Clone(entries)
	c.publish()
	c.log.Info("entries replaced", "count", len(entries))
	return nil
}

// refused counts and logs a refused connection or request.
func (c *CA) refused(reason string, who workload.Caller, err error) {
	c.metrics.refused.WithLabelValues(reason).Inc()
	if !c.logged.AllowN(c.now(), 1) {
		return
	}
	c.log.Warn("workload refused", "reason", reason, "caller", who.UID, "pid", who.PID, "err", err)
}

func concat(certs []*x509.Certificate) []byte {
	var der []byte
	for _, c := range certs {
		der = append(der, c.Raw...)
	}
	return der
}
