package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxWatches bounds the streams of one server: each holds a connection of its
// listener's maxConns and a goroutine.
const maxWatches = 64

// Options configure a Server. Everything but Log, Registry and Token is required.
type Options struct {
	Backend Backend
	Lists   Lists
	Rules   Rules
	// Token is what clients on the loopback listener must bring; "" lets nobody in
	// there.
	Token string
	// Log receives the server's log; nil discards it.
	Log *slog.Logger
	// Registry receives the metrics and is served at /metrics; nil means none.
	Registry *prometheus.Registry
}

// Server answers the REST API. It holds no listener: see Serve.
type Server struct {
	opts     Options
	log      *slog.Logger
	metrics  *metrics
	mux      *http.ServeMux
	watches  chan struct{} // a token per stream
	document *huma.OpenAPI
	openAPI  []byte // document as it is served
}

// New builds the server and its OpenAPI document.
func New(opts Options) (*Server, error) {
	s := &Server{opts: opts, log: opts.Log, mux: http.NewServeMux(), watches: make(chan struct{}, maxWatches)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if opts.Backend == nil || opts.Rules == nil {
		return nil, errors.New("api: backend and rules are required")
	}
	s.metrics = newMetrics(opts.Registry)
	h := humago.New(s.mux, document(opts.Backend.Version().Build))
	s.registerLists(h)
	s.registerRules(h)
	s.registerApplied(h)
	s.registerReads(h)
	// huma does not know encoding/json's ",string".
	h.OpenAPI().Components.Schemas.Map()["RouteLedgerRequest"].Properties["random"] = &huma.Schema{
		Type: huma.TypeString, Description: "The decision's random number, 64 bits: a string because JavaScript's numbers have 53.",
	}
	s.document = h.OpenAPI()
	// huma would serve the document itself, and make it on first use, unguarded.
	doc, err := h.OpenAPI().MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("api: openapi document: %w", err)
	}
	s.openAPI = doc
	s.mux.HandleFunc("GET /openapi.json", s.serveOpenAPI)
	s.mux.HandleFunc("GET /healthz", s.serveHealth)
	s.mux.HandleFunc("GET /readyz", s.serveReady)
	if opts.Registry != nil {
		s.mux.Handle("GET /metrics", promhttp.HandlerFor(opts.Registry, promhttp.HandlerOpts{}))
	}
	s.mux.HandleFunc("/", s.serveUnknown)
	return s, nil
}

// document is the frame of the OpenAPI document. huma's docs page would load
// scripts from elsewhere and its schema links rewrite every body: both are off.
func document(build string) huma.Config {
	c := huma.DefaultConfig("Isthmus federation", build)
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.CreateHooks = nil
	c.Transformers = []huma.Transformer{typed}
	c.RejectUnknownQueryParameters = true
	c.Info.Description = "Resources, policies and routing decisions of one cluster. " +
		"Errors are problems of RFC 9457 with a type of urn:isthmus:problem:CODE."
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "On loopback TCP. The Unix socket asks for none."},
	}
	c.Security = []map[string][]string{{"token": {}}, {}}
	return c
}

// serveUnknown answers what no pattern matches, and tells a wrong method from a
// wrong path.
func (s *Server) serveUnknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		writeProblem(w, http.StatusMethodNotAllowed, CodeMethod, "%s takes %s", r.URL.Path, strings.Join(allowed, ", "))
		return
	}
	writeProblem(w, http.StatusNotFound, CodeNotFound, "no such resource: %s", r.URL.Path)
}
