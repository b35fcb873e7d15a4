package httpway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/accept"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/outbound"
	"github.com/isthmus-mesh/isthmus/gateway/relay"
	"github.com/isthmus-mesh/isthmus/gateway/serverlog"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/strict"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
)

const (
	// MaxHeader bounds a request's head.
	MaxHeader = 64 << 10
	// headerTimeout is how long a head may take to arrive.
	headerTimeout = 10 * time.Second
	// idleTimeout is how long a connection may wait for its next request.
	idleTimeout = time.Hour
	// streamsPerConnection bounds the requests at once of one HTTP/2 connection.
	streamsPerConnection = 1000
	// pingAfter and pingTimeout free what an HTTP/2 caller left that is gone
	// without a word.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
)

// Links sends requests to other clusters; *tunnel.Node is one.
type Links interface {
	RoundTrip(cluster string, h *wire.Header, r *http.Request) (*http.Response, error)
}

// Options configure a Way. All fields but Sample and Log are required, and of Caller
// and Door one.
type Options struct {
	// Listener is what connections come from (accept.Listener).
	Listener net.Listener
	// Caller is the SPIFFE ID that everyone who connects is taken for.
	Caller string
	// Door takes the place of Caller: who connects proves who it is.
	Door *workload.Door
	// Identity is the gateway's own SPIFFE ID, "" while it has none.
	Identity func() string
	Router   *attempt.Router
	Links    Links
	// Endpoints are the own cluster's; Dialer opens the connections of upgrades.
	Endpoints *endpoint.Pools
	Dialer    *outbound.Dialer
	Splicer   *splice.Splicer
	Account   *account.Account
	// Sample decides which ordinary requests are kept to be explained; nil: none.
	Sample func() bool
	// Requests bound the requests in progress.
	Requests *accept.Slots
	Log      *slog.Logger
}

// Way serves one listener.
type Way struct {
	o        Options
	kind     string // of account's ways
	address  string
	proxy    http.Handler
	server   *http.Server
	draining atomic.Bool
	stopped  chan struct{}
	once     sync.Once
	serving  context.Context // ends what is left when the drain runs out
	requests sync.WaitGroup
}

// New returns a Way. It serves nothing before Run.
func New(o Options) (*Way, error) {
	if o.Listener == nil || (o.Caller == "") == (o.Door == nil) || o.Identity == nil || o.Router == nil || o.Links == nil ||
		o.Endpoints == nil || o.Dialer == nil || o.Splicer == nil || o.Account == nil || o.Requests == nil {
		return nil, errors.New("http way: an option is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Way{o: o, kind: account.WayHTTP, address: o.Listener.Addr().String(), stopped: make(chan struct{})}
	if o.Door != nil {
		w.kind = account.WayMTLS
		w.o.Listener = o.Door.Listen(o.Listener, func(err error, from net.Addr) {
			o.Account.Refuse(account.WayMTLS, w.address, workload.Reason(err), from.String())
		})
	}
	w.proxy = relay.NewProxy(relay.ProxyOptions{Transport: w, Rewrite: w.rewrite, Failed: w.answerFailure, Log: o.Log})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	w.server = &http.Server{
		Handler:           w,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: streamsPerConnection, SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    MaxHeader,
		ConnState:         strict.ConnState,
		ConnContext:       connContext,
		ErrorLog:          serverlog.New(o.Log, "http server"),
		// The server's own answer to OPTIONS * would say nothing of any service.
		DisableGeneralOptionsHandler: true,
	}
	return w, nil
}

func (w *Way) identity() string { return w.o.Identity() }

// StopAccepting closes the listener. Every answer from now on tells its caller to
// connect anew. It is safe to call twice.
func (w *Way) StopAccepting() {
	w.once.Do(func() {
		w.draining.Store(true)
		_ = w.o.Listener.Close() // it is gone either way
		close(w.stopped)
	})
}

// Run serves until StopAccepting was called and the requests in progress have
// ended, or ctx has, which cuts those that are left. It returns an error only if
// serving failed by itself.
func (w *Way) Run(ctx context.Context) error {
	w.serving = ctx
	served := make(chan error, 1)
	go func() {
		served <- w.server.Serve(&strict.Listener{
			Listener: w.o.Listener, MaxHead: MaxHeader,
			Refused: func(from net.Addr, _ *strict.Error) {
				w.o.Account.Refuse(w.kind, w.address, reasonMalformed, from.String())
			},
		})
	}()
	var err error
	select {
	case <-ctx.Done():
		w.StopAccepting()
	case <-w.stopped:
	case err = <-served:
		served <- err
		w.StopAccepting()
	}
	// Closes idle connections, says GOAWAY on the others, and waits for them. Its
	// error is ctx's: what is left is cut.
	if shutdownErr := w.server.Shutdown(ctx); shutdownErr != nil {
		_ = w.server.Close()
	}
	if serveErr := <-served; err == nil && !errors.Is(serveErr, http.ErrServerClosed) && !errors.Is(serveErr, net.ErrClosed) {
		err = serveErr
	}
	// Those that were taken over from the server are only known here.
	w.requests.Wait()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
