package bundleendpoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
)

const (
	// maxConns bounds the connections of a server that everybody may call. A fetch
	// takes milliseconds; a caller that dawdles is cut by the times below.
	maxConns = 200
	// Times of one request, which has no body and a short header.
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 10 * time.Second
	// stopTimeout is what answers under way get when the server stops.
	stopTimeout = 2 * time.Second
)

// ServerConfig says how the own bundle is published.
type ServerConfig struct {
	// Address is the ip:port or host:port to listen on.
	Address string
	// Profile is SPIFFE or Web.
	Profile Profile
	// CertFile and KeyFile are PEM files for profile Web, read again when they
	// change.
	CertFile, KeyFile string
}

// Problems returns everything that is wrong with the configuration; it opens
// nothing.
func (c ServerConfig) Problems() []Problem {
	var out []Problem
	bad := func(field, value, rule string) { out = append(out, Problem{field, value, rule}) }
	if host, port, err := net.SplitHostPort(c.Address); err != nil || host == "" {
		bad("address", c.Address, "must be host:port")
	} else if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		bad("address", c.Address, "must end in a port number, 0 to 65535")
	}
	files := []struct{ field, value string }{{"cert_file", c.CertFile}, {"key_file", c.KeyFile}}
	switch c.Profile {
	case SPIFFE:
		for _, f := range files {
			if f.value != "" {
				bad(f.field, f.value, "is for https_web only: with https_spiffe the SVID is shown")
			}
		}
	case Web:
		for _, f := range files {
			if f.value == "" {
				bad(f.field, "", "is required with https_web")
			}
		}
	default:
		bad("profile", string(c.Profile), "must be https_spiffe or https_web")
	}
	return out
}

// ServerOptions describe a Server.
type ServerOptions struct {
	Config ServerConfig
	// Identity is what profile https_spiffe shows.
	Identity *identity.Source
	// Document returns the own bundle as it is now; nil is Identity.TrustBundle.
	Document func() ([]byte, error)
	// Log receives the server's log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Server publishes the own trust domain's bundle to whoever asks: it holds public
// keys only.
type Server struct {
	opts     ServerOptions
	log      *slog.Logger
	files    *certificateFiles // nil with https_spiffe
	requests *prometheus.CounterVec
}

// NewServer returns a Server. With https_web the certificate must be good now;
// later a bad one leaves the last good in use.
func NewServer(opts ServerOptions) (*Server, error) {
	var errs []error
	for _, p := range opts.Config.Problems() {
		errs = append(errs, fmt.Errorf("%s: %q: %s", p.Field, p.Value, p.Rule))
	}
	if opts.Config.Profile == SPIFFE && opts.Identity == nil {
		errs = append(errs, errors.New("identity is required with https_spiffe"))
	}
	if opts.Document == nil && opts.Identity == nil {
		errs = append(errs, errors.New("document or identity is required"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("bundle endpoint: %w", err)
	}
	s := &Server{
		opts: opts, log: opts.Log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_bundle_requests_total",
			Help: "Requests to the own bundle endpoint, by what was answered: served, refused, unavailable.",
		}, []string{"answer"}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	if s.opts.Document == nil {
		s.opts.Document = opts.Identity.TrustBundle
	}
	if opts.Config.Profile == Web {
		var err error
		if s.files, err = loadCertificate(opts.Config.CertFile, opts.Config.KeyFile, s.opts.Now, s.log); err != nil {
			return nil, fmt.Errorf("bundle endpoint: %w", err)
		}
	}
	for _, answer := range []string{"served", "refused", "unavailable"} {
		s.requests.WithLabelValues(answer)
	}
	if opts.Registerer != nil {
		if err := opts.Registerer.Register(s.requests); err != nil {
			return nil, fmt.Errorf("bundle endpoint metrics: %w", err)
		}
	}
	return s, nil
}

// Serve answers on l until ctx ends, then closes it and returns nil. It is called
// once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	if s.files != nil {
		wg.Go(func() { s.files.follow(ctx) })
	}
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		// Handshakes of strangers that fail are no news of ours.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	wg.Go(func() {
		<-ctx.Done()
		grace, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer done()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	})
	s.log.Info("bundle endpoint serving", "address", l.Addr().String())
	err := srv.Serve(tls.NewListener(netutil.LimitListener(l, maxConns), s.tls()))
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("bundle endpoint: %w", err)
	}
	return nil
}

func (s *Server) tls() *tls.Config {
	if s.files != nil {
		return identity.WebServerTLS(s.files.certificate)
	}
	return s.opts.Identity.EndpointServerTLS()
}

// ServeHTTP implements http.Handler: GET / is the bundle, everything else is not
// there.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(name string, status int) {
		s.requests.WithLabelValues(name).Inc()
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
		}
	}
	switch {
	case r.URL.Path != "/":
		answer("refused", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		answer("refused", http.StatusMethodNotAllowed)
		return
	}
	document, err := s.opts.Document()
	if err != nil {
		s.log.Debug("bundle endpoint has no bundle", "err", err)
		answer("unavailable", http.StatusServiceUnavailable)
		return
	}
	answer("served", http.StatusOK)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // an old answer would be a step back
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(document)))
	_, _ = w.Write(document)
}
