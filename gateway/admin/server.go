package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/serverlog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	timeout   = 10 * time.Second // scrapes have one of their own, of about this
	maxHeader = 16 << 10
	// scrapes bounds how many metrics requests are served at once.
	scrapes = 4
)

// Options configure a Server. All fields but Trails and Log are required.
type Options struct {
	// Listener is what connections come from (accept.Listener).
	Listener   net.Listener
	Gatherer   prometheus.Gatherer
	Conditions *Conditions
	// Plan is the plan in force, nil before the first.
	Plan func() *route.Plan
	// Links are the links, in JSON's terms.
	Links func() []route.LinkReport
	// Trails answers questions for calls that were kept; nil: there are none.
	Trails http.Handler
	Log    *slog.Logger
}

// Server serves the admin listener.
type Server struct {
	o      Options
	server *http.Server
}

// New returns a Server. It serves nothing before Run.
func New(o Options) (*Server, error) {
	if o.Listener == nil || o.Gatherer == nil || o.Conditions == nil || o.Plan == nil || o.Links == nil {
		return nil, errors.New("admin: an option is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes, Timeout: timeout}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /debug/table", s.table)
	mux.HandleFunc("GET /debug/links", func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, o.Links()) })
	mux.HandleFunc("GET /debug/explain", s.explain)
	if o.Trails != nil {
		mux.Handle("GET /debug/calls", o.Trails)
	}
	s.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: timeout, ReadTimeout: timeout, WriteTimeout: 2 * timeout, IdleTimeout: time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: serverlog.New(o.Log, "admin server"),
	}
	return s, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.server.Close() })
	defer stop()
	if err := s.server.Serve(s.o.Listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	list, ready := s.o.Conditions.List()
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	write(w, status, map[string]any{"ready": ready, "conditions": list})
}

func (s *Server) table(w http.ResponseWriter, _ *http.Request) {
	plan := s.o.Plan()
	if plan == nil {
		write(w, http.StatusServiceUnavailable, map[string]string{"reason": "no_table"})
		return
	}
	t := plan.Table()
	hash, err := t.Hash()
	if err != nil {
		write(w, http.StatusInternalServerError, map[string]string{"reason": err.Error()})
		return
	}
	endpoints := 0
	for i := range t.Services {
		endpoints += len(t.Services[i].Endpoints)
	}
	write(w, http.StatusOK, map[string]any{
		"epoch": t.Epoch, "version": t.Version, "hash": hash, "cluster": t.Cluster.Name,
		"peers": len(t.Peers), "services": len(t.Services), "endpoints": endpoints,
	})
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	plan := s.o.Plan()
	if plan == nil {
		write(w, http.StatusServiceUnavailable, map[string]string{"reason": "no_table"})
		return
	}
	q := r.URL.Query()
	service, err := catalog.ParseServiceName(q.Get("service"))
	if err != nil {
		write(w, http.StatusBadRequest, map[string]string{"reason": err.Error()})
		return
	}
	write(w, http.StatusOK, plan.Explain(route.Request{
		Service: service, Port: q.Get("port"), Pin: catalog.ClusterName(q.Get("cluster")), NowNanos: time.Now().UnixNano(),
	}))
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(body) // whoever asked is gone, or has it
}
