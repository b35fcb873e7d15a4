package kubetest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fault is what a Proxy does to requests that it fits.
type Fault struct {
	// Fits chooses requests; nil is all of them.
	Fits func(*http.Request) bool
	// Status is answered in place of the API server, with Retry-After if set.
	Status     int
	RetryAfter int
	// Cut breaks the body of the answer off after so many bytes.
	Cut int
	// Empty answers success with no body at all.
	Empty bool
}

// Proxy stands in front of the API server; it has a certificate of the same CA.
type Proxy struct {
	server *httptest.Server

	mu     sync.Mutex
	faults []Fault
	counts map[string]int
}

// Proxy starts a proxy that ends with the test.
func (c *ControlPlane) Proxy(t testing.TB) *Proxy {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(c.dir, certFile), filepath.Join(c.dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	data, err := os.ReadFile(c.CAFile())
	if err != nil || !roots.AppendCertsFromPEM(data) {
		t.Fatal("no root: ", err)
	}
	target, err := url.Parse(c.Server())
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{counts: map[string]int{}}
	// A connection each: what goes on behind the proxy ends with its request.
	upstream := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	reverse := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:      upstream,
		FlushInterval:  -1,
		ModifyResponse: p.cut,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ErrorLog:       nil,
	}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.count(r)
		switch f, ok := p.fault(r); {
		case ok && f.Status != 0:
			refuse(w, f)
			return
		case ok && f.Empty:
			return
		}
		reverse.ServeHTTP(w, r)
	}))
	p.server.EnableHTTP2 = true
	p.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	p.server.Config.ErrorLog = nil
	p.server.StartTLS()
	t.Cleanup(func() {
		p.Drop()
		p.server.Close()
	})
	return p
}

// URL of the proxy.
func (p *Proxy) URL() string { return p.server.URL }

// Set makes these the faults from now on; none is a proxy that only passes on.
func (p *Proxy) Set(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = faults
}

// Drop closes every connection of clients, watches too.
func (p *Proxy) Drop() { p.server.CloseClientConnections() }

// Lists is how often a kind was listed in one page or the first of several, or
// streamed whole.
func (p *Proxy) Lists(resource string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[resource]
}

func (p *Proxy) count(r *http.Request) {
	q := r.URL.Query()
	if r.Method != http.MethodGet || q.Get("watch") != "" && q.Get("sendInitialEvents") == "" || q.Get("continue") != "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]++
}

func (p *Proxy) fault(r *http.Request) (Fault, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		if f.Fits == nil || f.Fits(r) {
			return f, true
		}
	}
	return Fault{}, false
}

func (p *Proxy) cut(resp *http.Response) error {
	if f, ok := p.fault(resp.Request); ok && f.Cut > 0 {
		resp.Body = &cutBody{resp.Body, f.Cut}
	}
	return nil
}

var errCut = errors.New("cut by the test")

type cutBody struct {
	io.ReadCloser
	left int
}

func (c *cutBody) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errCut
	}
	n, err := c.ReadCloser.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// refuse answers as an API server does.
func refuse(w http.ResponseWriter, f Fault) {
	reasons := map[int]metav1.StatusReason{
		http.StatusUnauthorized: metav1.StatusReasonUnauthorized, http.StatusForbidden: metav1.StatusReasonForbidden,
		http.StatusGone: metav1.StatusReasonExpired, http.StatusTooManyRequests: metav1.StatusReasonTooManyRequests,
		http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable, http.StatusInternalServerError: metav1.StatusReasonInternalError,
	}
	status := metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
		Code: int32(f.Status), Reason: reasons[f.Status], Message: fmt.Sprintf("the test answers %d", f.Status),
	}
	w.Header().Set("Content-Type", "application/json")
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	w.WriteHeader(f.Status)
	_ = json.NewEncoder(w).Encode(status) // the client may be gone
}
