package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// The limits of a listener.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 60 * time.Second
	maxHeader     = 16 << 10
	maxConns      = 200
	// stopTimeout is how long requests may finish after the end of ctx; streams
	// end at once.
	stopTimeout = 5 * time.Second
)

// alpn of the mTLS listener.
func alpn() []string { return []string{"h2", "http/1.1"} }

// Serve answers on l until ctx ends, lets requests finish, and returns nil. It
// owns l; over MTLS it is plain TCP, the TLS is of Options.Identity.
func (s *Server) Serve(ctx context.Context, l net.Listener, way Way) error {
	srv := &http.Server{
		Handler:           s.Handler(way),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// Streams watch their request's context: it must end with ctx.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	if way == Socket {
		l = namedPeers{l}
	}
	l = netutil.LimitListener(l, maxConns)
	serve := func() error { return srv.Serve(l) }
	switch way {
	case MTLS:
		if s.opts.Identity == nil {
			return errors.Join(errors.New("api: the mtls listener needs an identity"), l.Close())
		}
		srv.TLSConfig = s.opts.Identity.ServerTLS(alpn(), s.auth.authorize)
		serve = func() error { return srv.ServeTLS(l, "", "") }
	case Socket, Loopback, Health:
	}
	served := make(chan error, 1)
	go func() { served <- serve() }()
	select {
	case err := <-served:
		return fmt.Errorf("api: serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		_ = srv.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("api: serve %s: %w", l.Addr(), err)
	}
	return nil
}
