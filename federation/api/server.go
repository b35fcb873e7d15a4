package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxWatches bounds the streams of one server: each holds a connection of its
// listener's maxConns and a goroutine.
const maxWatches = 64

const (
	// refusalsPerSecond and refusalsBurst are the refusals of one principal that are
	// audited. 3 KiB each, they take a month to fill a log of 1 GiB, and a hundred at
	// once show what somebody is after.
	refusalsPerSecond = 0.1
	refusalsBurst     = 100
)

// Options configure a Server. Backend, Lists and Rules are required.
type Options struct {
	Backend Backend
	Lists   Lists
	Rules   Rules
	// History records what becomes of Rules; nil: none is kept.
	History History
	// Peering joins clusters by tokens; nil serves none of it.
	Peering Peering
	// Token is what clients on the loopback listener must bring; "" lets nobody in
	// there.
	Token string
	// Auth says who else may come, and what each may do.
	Auth AuthConfig
	// Tokens judges bearer tokens of Auth.OIDC; nil takes none.
	Tokens TokenVerifier
	// Identity is both ends of the mTLS listener; nil means that there is none.
	Identity Identity
	// Audit keeps who changed what; a change that it cannot keep is refused. Nil
	// keeps nothing.
	Audit Auditor
	// Answers keeps what was answered to idempotency keys; nil keeps nothing, and
	// keys say nothing.
	Answers Answers
	// Now is the clock of rates and credentials; nil is time.Now.
	Now func() time.Time
	// Log receives the server's log; nil discards it.
	Log *slog.Logger
	// Registry receives the metrics and is served at /metrics; nil means none.
	Registry *prometheus.Registry
}

// Server answers the REST API. It holds no listener: see Serve.
type Server struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	mux     *http.ServeMux
	watches chan struct{} // a token per stream
	auth    *authenticator
	limiter *limiter
	// refusals bound what of a principal's attempts is audited.
	refusals *limiter
	// idempotency is nil where nothing is kept.
	idempotency *idempotency
	now         func() time.Time
	// operations by the mux's pattern ("GET /v1/exports/{name}").
	operations map[string]*huma.Operation
	document   *huma.OpenAPI
	openAPI    []byte // document as it is served
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
	if s.now = opts.Now; s.now == nil {
		s.now = time.Now
	}
	var err error
	if s.auth, err = newAuthenticator(&opts); err != nil {
		return nil, fmt.Errorf("api: auth: %w", err)
	}
	s.limiter = newLimiter(opts.Auth.WithDefaults().Rate, s.now)
	s.refusals = newLimiter(RateConfig{PerSecond: refusalsPerSecond, Burst: refusalsBurst}, s.now)
	if opts.Answers != nil {
		s.idempotency = newIdempotency(opts.Answers, s.log, s.now)
	}
	s.metrics = newMetrics(opts.Registry)
	h := humago.New(s.mux, document(opts.Backend.Version().Build))
	s.registerLists(h)
	s.registerRules(h)
	s.registerApplied(h)
	s.registerReads(h)
	s.registerCalls(h)
	s.registerSimulate(h)
	s.registerSpend(h)
	s.registerCapacity(h)
	s.registerDrills(h)
	s.registerAudit(h)
	s.registerHistory(h)
	s.registerPeering(h)
	s.registerCallers(h)
	// huma does not know encoding/json's ",string".
	h.OpenAPI().Components.Schemas.Map()["RouteLedgerRequest"].Properties["random"] = &huma.Schema{
		Type: huma.TypeString, Description: "The decision's random number, 64 bits: a string because JavaScript's numbers have 53.",
	}
	s.document = h.OpenAPI()
	s.operations = operations(s.document)
	s.describeGate(h)
	if err := s.describeExamples(); err != nil {
		return nil, fmt.Errorf("api: openapi document: %w", err)
	}
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

// operations are those of the document by the mux's pattern.
func operations(doc *huma.OpenAPI) map[string]*huma.Operation {
	out := make(map[string]*huma.Operation)
	for path, item := range doc.Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodDelete: item.Delete, http.MethodPatch: item.Patch,
		} {
			if op != nil {
				out[method+" "+path] = op
			}
		}
	}
	return out
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
		"token": {Type: "http", Scheme: "bearer", Description: "On loopback TCP: the token of the token file, or one of the configured OIDC issuer."},
		"mtls":  {Type: "mutualTLS", Description: "On the mTLS listener: an X.509-SVID whose SPIFFE ID has a role."},
	}
	// None of them over the Unix socket, whose file's mode says who may come.
	c.Security = []map[string][]string{{"token": {}}, {"mtls": {}}, {}}
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
