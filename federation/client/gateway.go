package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// The back-off of the table stream, full jitter. The cap is low: it is the
	// own federation, on the own network, and every gateway waits for its word.
	reconnectBase = 100 * time.Millisecond
	reconnectCap  = 5 * time.Second
	// steadyAfter is how long a stream must live for the back-off to start anew.
	steadyAfter = 10 * time.Second
	// silenceLimit is three missed heartbeats.
	silenceLimit = 3 * mesh.HeartbeatEvery
	// sendTimeout bounds one report: the next one is due a second later.
	sendTimeout = 2 * time.Second
	// maxReplicas bounds the addresses of one federation.
	maxReplicas = 8
	// A host that has vanished is found after at most two of these: where others
	// can take its place within two seconds, and else without hurry.
	alonePatience   = 5 * time.Second
	replicaPatience = 800 * time.Millisecond
	// maxProblem bounds how much of an error's body is read.
	maxProblem = 64 << 10
)

// GatewayOptions configure a Gateway.
type GatewayOptions struct {
	// Address is the host:port of the federation's mesh listener, Addresses are
	// those of its replicas: one is followed, all are reported to. One of both is
	// given.
	Address   string
	Addresses []string
	// Identity holds the gateway's SVID.
	Identity *identity.Source
	// FederationID is the own federation's exact SPIFFE ID; nobody else is
	// believed.
	FederationID spiffeid.ID
	// Log receives the client's log; nil discards it.
	Log *slog.Logger
	// Have is the table that the gateway starts with (from its disk), if any:
	// it is not fetched again, and nothing older is published.
	Have *route.Table
}

// Gateway is a gateway's side of the mesh protocol. It is safe for concurrent
// use; Run is called once.
type Gateway struct {
	opts      GatewayOptions
	log       *slog.Logger
	http      *http.Client
	addresses []string
	patience  time.Duration
}

// NewGateway checks the options and connects to nothing yet.
func NewGateway(opts GatewayOptions) (*Gateway, error) {
	addresses := opts.Addresses
	if len(addresses) == 0 {
		addresses = []string{opts.Address}
	}
	for _, a := range addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, fmt.Errorf("address %q: must be host:port: %w", a, err)
		}
	}
	if len(addresses) > maxReplicas {
		return nil, fmt.Errorf("addresses: has %d entries, at most %d", len(addresses), maxReplicas)
	}
	if opts.Identity == nil {
		return nil, errors.New("identity: is required")
	}
	if opts.FederationID.IsZero() {
		return nil, errors.New("federation id: is required")
	}
	g := &Gateway{opts: opts, log: opts.Log, addresses: addresses}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.patience = alonePatience
	if len(addresses) > 1 {
		g.patience = replicaPatience
	}
	g.http = &http.Client{
		Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: g.patience}).DialContext,
			TLSClientConfig: opts.Identity.ClientTLS([]string{"h2", "http/1.1"}, identity.AuthorizeIDs(opts.FederationID)),
			// One connection carries stream and reports; without pings a host that
			// vanished would hold it for as long as TCP cares to resend.
			ForceAttemptHTTP2:   true,
			HTTP2:               &http.HTTP2Config{SendPingTimeout: g.patience, PingTimeout: g.patience},
			TLSHandshakeTimeout: g.patience,
			IdleConnTimeout:     time.Minute,
		},
		// The server is one process with fixed paths; a redirect is a mistake.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return g, nil
}

// Run keeps the table stream open and hands every new table to publish, in
// order of (epoch, version), each at most once. It comes back with full-jitter
// back-off after any failure, and returns nil when ctx ends.
func (g *Gateway) Run(ctx context.Context, publish func(*route.Table)) error {
	defer g.http.CloseIdleConnections()
	have := position{}
	if t := g.opts.Have; t != nil {
		have = position{t.Epoch, t.Version}
	}
	follower, err := mesh.NewFollower(g.opts.FederationID.String(), g.opts.Have)
	if err != nil {
		return err
	}
	for attempt, at := 0, 0; ; attempt++ {
		address := g.addresses[at]
		began := time.Now()
		err := g.follow(ctx, address, follower, &have, publish)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) >= steadyAfter {
			attempt = 0
		}
		level := slog.LevelWarn
		if attempt < len(g.addresses) {
			// A stream that ends once is a federation that starts or stops, in order.
			level = slog.LevelInfo
		}
		g.log.Log(ctx, level, "table stream ended", "address", address, "err", err, "attempt", attempt+1)
		// The next replica is asked at once, and the back-off begins when all were.
		at = (at + 1) % len(g.addresses)
		wait := time.NewTimer(fullJitter(attempt / len(g.addresses)))
		if (attempt+1)%len(g.addresses) != 0 {
			wait.Reset(0)
		}
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
	}
}

func fullJitter(attempt int) time.Duration {
	limit := min(reconnectCap, reconnectBase<<min(attempt, 16))
	return rand.N(limit) + time.Millisecond
}

// position orders tables.
type position struct{ epoch, version uint64 }

func (p position) before(o position) bool {
	return p.epoch < o.epoch || (p.epoch == o.epoch && p.version < o.version)
}

// follow reads one stream until it ends; it always returns an error.
func (g *Gateway) follow(ctx context.Context, address string, follower *mesh.Follower, have *position, publish func(*route.Table)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(silenceLimit, func() { cancel(errors.New("no heartbeat from the federation")) })
	defer watchdog.Stop()

	epoch, version := follower.Connected()
	q := url.Values{
		"epoch": {strconv.FormatUint(epoch, 10)}, "version": {strconv.FormatUint(version, 10)},
		"patch": {strconv.Itoa(mesh.PatchFormat)},
	}
	resp, err := g.do(ctx, address, http.MethodGet, mesh.TablePath+"?"+q.Encode(), nil)
	if err != nil {
		return cause(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // a stream is not drained: it has no end
	if resp.StatusCode != http.StatusOK {
		return statusError(resp)
	}
	g.log.Info("table stream open", "address", address, "epoch", epoch, "version", version)
	lines := newLineReader(resp.Body, mesh.MaxTableBytes)
	for {
		var line mesh.TableLine
		if err := lines.next(&line); err != nil {
			return cause(ctx, fmt.Errorf("table stream: %w", err))
		}
		watchdog.Reset(silenceLimit)
		table, err := g.apply(follower, &line, *have)
		if err != nil {
			return err
		}
		if table == nil {
			continue
		}
		*have = position{table.Epoch, table.Version}
		publish(table)
	}
}

// apply returns the table that a line leads to, nil where it does not yet.
func (g *Gateway) apply(follower *mesh.Follower, line *mesh.TableLine, have position) (*route.Table, error) {
	switch {
	case line.Patch != nil:
		return follower.Apply(line.Patch)
	case line.Table != nil: // a federation that makes no patches
		if err := g.check(line.Table, have); err != nil {
			return nil, err
		}
		return line.Table, follower.Take(line.Table)
	default:
		return nil, nil
	}
}

// check refuses a table that is not ours, not newer or not understood.
func (g *Gateway) check(t *route.Table, have position) error {
	if t.Format > route.TableFormat {
		return fmt.Errorf("table: format %d is newer than %d, which this build understands", t.Format, route.TableFormat)
	}
	if t.Cluster.ID != g.opts.FederationID.String() {
		return fmt.Errorf("table: is of %q, not of %s", t.Cluster.ID, g.opts.FederationID)
	}
	if now := (position{t.Epoch, t.Version}); !have.before(now) {
		return fmt.Errorf("table: (%d, %d) is not newer than (%d, %d)", now.epoch, now.version, have.epoch, have.version)
	}
	return nil
}

func (g *Gateway) do(ctx context.Context, address, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+address+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return g.http.Do(req)
}

// cause names the watchdog where it is what ended err's request.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	return err
}

// drain reads a little of what is left, so that the connection can be used again.
func drain(body io.Reader) { _, _ = io.CopyN(io.Discard, body, maxProblem) }
