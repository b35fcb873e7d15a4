package exchange_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// The two clusters of these tests, in two trust domains.
var (
	gcpID = spiffeid.RequireFromString(peerID)
	awsID = spiffeid.RequireFromString("spiffe://aws.example.org/isthmus/cluster/aws")
)

// pki is both trust domains' authorities.
type pki struct{ aws, gcp *identitytest.CA }

func newPKI() pki {
	return pki{aws: identitytest.NewCA("aws.example.org"), gcp: identitytest.NewCA("gcp.example.org")}
}

func (p pki) source(id spiffeid.ID) *identity.Source {
	if id.TrustDomain() == p.aws.TrustDomain() {
		return p.aws.Source(id, p.gcp.Bundle())
	}
	return p.gcp.Source(id, p.aws.Bundle())
}

// peerOf knows aws by its exact ID, as the mesh listener of gcp would.
func peerOf(r *http.Request) (catalog.ClusterName, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || len(r.TLS.PeerCertificates[0].URIs) != 1 {
		return "", errors.New("no certificate")
	}
	if id := r.TLS.PeerCertificates[0].URIs[0].String(); id != awsID.String() {
		return "", errors.New("unknown peer " + id)
	}
	return "aws", nil
}

func newExporter(t testing.TB, opts ...func(*exchange.ExporterOptions)) *exchange.Exporter {
	t.Helper()
	o := exchange.ExporterOptions{Cluster: "gcp", Peer: peerOf}
	for _, f := range opts {
		f(&o)
	}
	e, err := exchange.NewExporter(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// site is a federation's mesh listener: a real server with mutual TLS at a fixed
// address, which can be cut off and come back.
type site struct {
	t       testing.TB
	source  *identity.Source
	address string

	mu      sync.Mutex
	handler http.Handler
	server  *http.Server
	conns   *accepted
	done    chan struct{}
}

// accepted is a listener that can cut what it has accepted: a server no longer ends
// the connections that were taken out of its hands.
type accepted struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (a *accepted) Accept() (net.Conn, error) {
	c, err := a.Listener.Accept()
	if err == nil {
		a.mu.Lock()
		a.conns = append(a.conns, c)
		a.mu.Unlock()
	}
	return c, err
}

func (a *accepted) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.conns {
		_ = c.Close()
	}
}

func newSite(t testing.TB, p pki, handler http.Handler) *site {
	t.Helper()
	s := &site{t: t, source: p.source(gcpID), handler: handler, address: "127.0.0.1:0"}
	s.heal()
	t.Cleanup(s.cut)
	return s
}

// ServeHTTP lets the handler be changed between connections.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.handler
	s.mu.Unlock()
	h.ServeHTTP(w, r)
}

func (s *site) serve(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

// heal listens.
func (s *site) heal() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	s.conns = &accepted{Listener: l}
	s.server = &http.Server{
		Handler: s, TLSConfig: s.source.ServerTLS([]string{"h2", "http/1.1"}, identity.AuthorizeIDs(awsID, gcpID)),
		ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.server.ServeTLS(s.conns, "", "")
	}()
}

// cut closes the listener and every connection, as a partition or a crash does.
func (s *site) cut() {
	_ = s.server.Close()
	<-s.done
	s.conns.cut()
}

func (s *site) url() string { return "https://" + s.address }

func newClient(t testing.TB, p pki, id spiffeid.ID, protocols ...string) *http.Client {
	t.Helper()
	if protocols == nil {
		protocols = []string{"h2", "http/1.1"}
	}
	tr := &http.Transport{TLSClientConfig: p.source(id).ClientTLS(protocols, identity.AuthorizeIDs(gcpID)), ForceAttemptHTTP2: protocols[0] == "h2"}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// streams is the client for streams beside one for questions.
func streams(t testing.TB, client *http.Client) *http.Client {
	tr, ok := client.Transport.(*http.Transport)
	if !ok {
		return client
	}
	tr = tr.Clone()
	tr.ForceAttemptHTTP2 = false
	if tr.TLSClientConfig != nil {
		tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// listener is a running Importer of aws.
type listener struct {
	*exchange.Importer
	stop context.CancelFunc
	done chan error
}

func newImporter(t testing.TB, url string, client *http.Client, opts ...func(*exchange.ImporterOptions)) *exchange.Importer {
	t.Helper()
	o := exchange.ImporterOptions{Cluster: "gcp", ID: gcpID, URL: url, Client: client, Streams: streams(t, client), Random: func() float64 { return 0 }}
	for _, f := range opts {
		f(&o)
	}
	i, err := exchange.NewImporter(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func listen(t testing.TB, i *exchange.Importer) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &listener{Importer: i, stop: cancel, done: make(chan error, 1)}
	go func() { l.done <- i.Run(ctx) }()
	t.Cleanup(l.close)
	return l
}

func (l *listener) close() {
	l.stop()
	if err, ok := <-l.done; ok && err == nil {
		close(l.done)
	}
}

// shows waits until the listener holds what show says, whatever its position.
func (l *listener) shows(t testing.TB, want string) {
	t.Helper()
	eventually(t, func() (string, bool) {
		_, got, _ := cutPosition(show(l.Snapshot()))
		return got, got == want
	})
}

func cutPosition(s string) (position, rest string, ok bool) {
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func eventually(t testing.TB, f func() (string, bool)) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var ok bool
		if last, ok = f(); ok {
			return
		}
	}
	t.Fatalf("it did not happen; last seen: %s", last)
}

func set(t testing.TB, e *exchange.Exporter, s exchange.State) {
	t.Helper()
	if err := e.Set("aws", s); err != nil {
		t.Fatal(err)
	}
}
