package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/isthmus-mesh/isthmus/identity/internal/workload"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

const (
	lockName = "lock"
	// Bounds of the log of refusals: any local user can cause them.
	refusalLogsPerSecond = 5
	refusalLogsBurst     = 50
	// SVIDs are renewed at a random moment between these fractions of their life, as
	// the CA does on its own host.
	renewFrom, renewTo = 0.4, 0.5
	// minRenew keeps an SVID that comes with no life left from being asked for in a
	// hot loop.
	minRenew = 200 * time.Millisecond
	// maxWait bounds one wait for a renewal, since timers stand still while the
	// machine sleeps and certificates do not.
	maxWait = time.Minute
)

// Errors that end an agent, besides those of its directory and socket.
var (
	// ErrRevoked: the CA has revoked the host. What it was given is deleted.
	ErrRevoked = errors.New("host is revoked")
	// ErrToken: there is no token, it is none, or the CA refuses it; or the SVID of
	// the host has ended, so that another token is needed.
	ErrToken = errors.New("host cannot join")
)

// Config describes an Agent.
type Config struct {
	// Dir keeps the host's key and SVIDs; it is made with mode 0700 if it does not
	// exist.
	Dir string
	// Socket is the path of the Workload API's Unix socket.
	Socket string
	// Address is the CA's host:port; empty is that of the token.
	Address string
	// Token lets the host join; it is needed until it has, and TokenFile holds it
	// where Token is empty.
	Token, TokenFile string
}

// Validate returns everything that is wrong with the configuration; it touches no
// file.
func (c Config) Validate() error {
	var errs []error
	bad := func(field, value, rule string) { errs = append(errs, fmt.Errorf("%s: %q: %s", field, value, rule)) }
	if c.Dir == "" {
		bad("dir", "", "must be set")
	}
	switch {
	case !filepath.IsAbs(c.Socket):
		bad("socket", c.Socket, "must be an absolute path")
	case len(c.Socket) > workload.MaxSocketPath:
		bad("socket", c.Socket, fmt.Sprintf("must be at most %d bytes long", workload.MaxSocketPath))
	}
	if c.Address != "" {
		if host, _, err := net.SplitHostPort(c.Address); err != nil || host == "" {
			bad("address", c.Address, "must be host:port")
		}
	}
	if c.Token != "" && c.TokenFile != "" {
		bad("token_file", c.TokenFile, "excludes token")
	}
	return errors.Join(errs...)
}

// Options are what an Agent needs beside its configuration.
type Options struct {
	// Log receives the agent's log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Agent serves the Workload API of one host.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics
	logged  *rate.Limiter
	own     uint32 // our uid
	serving chan struct{}
	due     chan struct{} // wakes the renewal: there may be something to sign

	view atomic.Pointer[view]

	mu     sync.Mutex // guards state and the file
	state  state
	source *identity.Source // the host's own identity; nil before it has one
	ca     *client
}

// New checks the configuration and reports every problem at once; nothing is
// opened before Run.
func New(cfg Config, opts Options) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, log: opts.Log, now: opts.Now, metrics: newMetrics(), own: uint32(os.Geteuid()), // a uid is an unsigned 32-bit number
		logged: rate.NewLimiter(refusalLogsPerSecond, refusalLogsBurst), serving: make(chan struct{}), due: make(chan struct{}, 1),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.view.Store(&view{agent: a, replaced: make(chan struct{})})
	if err := a.metrics.register(opts.Registerer); err != nil {
		return nil, fmt.Errorf("ca agent metrics: %w", err)
	}
	return a, nil
}

// WaitReady returns nil as soon as the socket accepts connections: the host has
// joined, now or before.
func (a *Agent) WaitReady(ctx context.Context) error {
	select {
	case <-a.serving:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("workload api %s is not served: %w", a.cfg.Socket, context.Cause(ctx))
	}
}

// Address returns the Workload API's address, for identity.Options.
func (a *Agent) Address() string { return "unix://" + a.cfg.Socket }

// Run joins if it must, and serves until ctx ends; then it returns nil. It is
// called once. Errors wrap ErrRevoked, ErrToken, keep.ErrLocked or are of the
// directory and the socket.
func (a *Agent) Run(ctx context.Context) (err error) {
	if err := os.MkdirAll(a.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("dir: %w", err)
	}
	release, err := keep.Lock(filepath.Join(a.cfg.Dir, lockName))
	if err != nil {
		return fmt.Errorf("dir: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := a.load(); err != nil {
		a.log.Warn("what the host was given is not usable, it must join again", "path", a.path(), "err", err)
	}
	if a.state.Certificate == nil || !a.now().Before(a.state.leaf.NotAfter) {
		if err := a.join(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	if err := a.connect(); err != nil {
		return err
	}
	defer func() { a.client().close() }()
	a.publish()
	mode := workload.ForAll // which users have entries is known later
	l, err := workload.Listen(a.cfg.Socket, mode)
	if err != nil {
		return err
	}
	srv := workload.New(workload.Options{
		View: func() workload.View { return a.view.Load() }, Refused: a.refused, Streams: a.metrics.streams, Now: a.now,
	})
	close(a.serving)
	a.log.Info("workload api serving", "path", a.cfg.Socket)
	outer := ctx
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return srv.Serve(ctx, l) })
	group.Go(func() error { return a.followConfig(ctx) })
	group.Go(func() error { return a.keepSigned(ctx) })
	err = group.Wait()
	if errors.Is(err, ErrRevoked) {
		err = errors.Join(err, a.forget())
	} else if outer.Err() != nil {
		err = nil
	}
	return err
}

// refused counts and logs a refused connection or request of a workload.
func (a *Agent) refused(reason string, who workload.Caller, err error) {
	a.metrics.refused.WithLabelValues(reason).Inc()
	if a.logged.AllowN(a.now(), 1) {
		a.log.Warn("workload refused", "reason", reason, "caller", who.UID, "pid", who.PID, "err", err)
	}
}

// token reads the join token.
func (a *Agent) token() (hostapi.Token, error) {
	text := a.cfg.Token
	if text == "" && a.cfg.TokenFile != "" {
		f, err := os.Open(a.cfg.TokenFile)
		if err != nil {
			return hostapi.Token{}, fmt.Errorf("%w: token_file: %w", ErrToken, err)
		}
		defer func() { _ = f.Close() }()
		data, err := keep.ReadBounded(f, 64<<10)
		if err != nil {
			return hostapi.Token{}, fmt.Errorf("%w: token_file: %w", ErrToken, err)
		}
		text = string(data)
	}
	if strings.TrimSpace(text) == "" {
		return hostapi.Token{}, fmt.Errorf("%w: the host holds no valid svid, and there is no token: make one with isthmus ca token on the CA's host", ErrToken)
	}
	t, err := hostapi.ParseToken(text)
	if err != nil {
		return hostapi.Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if a.cfg.Address != "" {
		t.Address = a.cfg.Address
	}
	return t, nil
}

// join asks the CA for the host's first SVID until it has it or is refused.
func (a *Agent) join(ctx context.Context) error {
	t, err := a.token()
	if err != nil {
		return err
	}
	bundle, err := t.Bundle()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrToken, err)
	}
	// The key is on disk before it is used: after a crash the same token works for
	// the same key.
	if err := a.prepareKey(t); err != nil {
		return err
	}
	csr, err := newCSR(a.state.key)
	if err != nil {
		return err
	}
	pinned := pinnedClient(t.Address, bundle)
	defer pinned.close()
	var wait backoff
	for {
		var out hostapi.Certified
		err := pinned.call(ctx, "POST", "/v1/join", hostapi.Join{Host: t.Host, Secret: t.Secret, CSR: csr}, &out)
		if err == nil {
			err = a.takeHost(out.Certificate, bundle)
		}
		switch refusal, refused := errors.AsType[*hostapi.Error](err); {
		case err == nil:
			a.log.Info("host joined", "address", t.Address, "caller", t.Host, "duration", a.state.leaf.NotAfter.Sub(a.now()))
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case refused && refusal.Permanent():
			return fmt.Errorf("%w: %w", ErrToken, err)
		case isWrongCA(err):
			return fmt.Errorf("%w: %s is not the ca of the token: %w", ErrToken, t.Address, err)
		}
		a.log.Warn("ca does not answer", "address", t.Address, "err", err)
		if !pause(ctx, wait.next(rand.Float64())) {
			return ctx.Err()
		}
	}
}

// isWrongCA tells a CA that is another one from one that is not there.
func isWrongCA(err error) bool {
	refusal, ok := errors.AsType[*identity.PeerError](err)
	return ok && refusal.Reason != identity.ReasonExpired && refusal.Reason != identity.ReasonNotYetValid
}

// forget deletes what the host was given.
func (a *Agent) forget() error {
	a.log.Error("host is revoked, what it was given is deleted", "path", a.path())
	return statePoint.Remove(a.path())
}

// backoff is exponential with full jitter: the hosts of a trust domain must not
// return in step after the CA's restart.
type backoff struct{ attempt int }

const (
	backoffFloor = 200 * time.Millisecond
	backoffMax   = 30 * time.Second
)

func (b *backoff) next(random float64) time.Duration {
	ceiling := backoffMax
	if b.attempt < 10 { // 200 ms doubled ten times is far above the maximum
		ceiling = min(backoffMax, backoffFloor<<b.attempt)
		b.attempt++
	}
	return backoffFloor + time.Duration(random*float64(ceiling))
}

func (b *backoff) reset() { b.attempt = 0 }

// pause waits, and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
