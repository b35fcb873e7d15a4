package awstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// Call is one request, as the proxy understands it.
type Call struct {
	// Service is what the signature is for (ec2, ecs, ...), Region where, Key the
	// access key that signed.
	Service, Region, Key string
	// Action is what is asked, Page whether a later page of it.
	Action string
	Page   bool
	// Signed is the time of the signature.
	Signed time.Time
	// JSON: the API speaks JSON, not the query protocol.
	JSON bool
}

// Fault answers a call in place of moto, or changes moto's answer; it reports
// whether it did anything.
type Fault func(p *Proxy, w http.ResponseWriter, r *http.Request, c Call) bool

// Proxy stands before moto.
type Proxy struct {
	URL string

	target *url.URL
	client *http.Client

	mu     sync.Mutex
	fault  Fault
	page   int // items a page; 0 leaves it to moto
	calls  map[string]int
	faults int
	old    map[string]*answer // by request
	keep   bool
}

// numbers are what moto gives for the texts "cpu" and "memory" of containers, which
// the SDK refuses.
var numbers = regexp.MustCompile(`"(cpu|memory)": ?([0-9]+)`)

// answer is what moto said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// NewProxy runs a proxy before an endpoint until the end of the test.
func NewProxy(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	p := &Proxy{target: target, client: &http.Client{Transport: transport}, calls: map[string]int{}, old: map[string]*answer{}}
	srv := httptest.NewServer(p)
	p.URL = srv.URL
	t.Cleanup(func() {
		srv.CloseClientConnections() // some are held by a slow fault
		srv.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Fail sets what goes wrong from now on; nil is nothing.
func (p *Proxy) Fail(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.faults = f, 0
}

// Faulted counts the calls that the fault has answered.
func (p *Proxy) Faulted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults
}

// Pages makes every list come in pages of n items; 0 leaves it to the caller.
func (p *Proxy) Pages(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.page = n
}

// Remember keeps the answers that moto gives from now on, for Old.
func (p *Proxy) Remember() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep = true
	clear(p.old)
}

// Calls counts the calls of each action.
func (p *Proxy) Calls() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.calls)
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return
	}
	c := understand(r, body)
	p.mu.Lock()
	p.calls[c.Action]++
	fault, page := p.fault, p.page
	p.mu.Unlock()
	if page > 0 {
		body = inPages(c, body, page)
	}
	asked := body
	r.Body = io.NopCloser(bytes.NewReader(body))
	if fault != nil && p.broke(fault, w, r, c) {
		return
	}
	a, err := p.ask(r)
	if err != nil {
		panic(http.ErrAbortHandler) // moto is gone: so is the connection
	}
	if page > 0 {
		a.page(c, asked, page)
	}
	a.write(w)
}

// broke counts a fault, also one that cuts the connection by a panic.
func (p *Proxy) broke(fault Fault, w http.ResponseWriter, r *http.Request, c Call) (did bool) {
	defer func() {
		if did {
			p.mu.Lock()
			p.faults++
			p.mu.Unlock()
		}
	}()
	did = true
	did = fault(p, w, r, c)
	return did
}

// ask passes a request on to moto.
func (p *Proxy) ask(r *http.Request) (*answer, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = p.target.Scheme, p.target.Host, ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp, err := p.client.Do(out)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	a.header.Del("Content-Length")
	if c := understand(r, body); c.Service == "ecs" && (strings.HasSuffix(c.Action, "Task") || c.Action == "DescribeTasks") {
		a.body = numbers.ReplaceAll(a.body, []byte(`"$1": "$2"`))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if key := string(body); p.keep && p.old[key] == nil {
		p.old[key] = a
	}
	return a, nil
}

func (a *answer) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // who asked may be gone
}

var credential = regexp.MustCompile(`Credential=([^/]+)/[0-9]+/([^/]+)/([^/]+)/`)

func understand(r *http.Request, body []byte) Call {
	var c Call
	if m := credential.FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		c.Key, c.Region, c.Service = m[1], m[2], m[3]
	}
	c.Signed, _ = time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		c.JSON = true
		c.Action = target[strings.LastIndexByte(target, '.')+1:]
		var page map[string]any
		if json.Unmarshal(body, &page) == nil {
			c.Page = page["nextToken"] != nil || page["NextToken"] != nil
		}
		return c
	}
	form, _ := url.ParseQuery(string(body)) // what is no form has no action
	c.Action, c.Page = form.Get("Action"), form.Get("NextToken")+form.Get("Marker") != ""
	return c
}

// String names the call in messages of tests.
func (c Call) String() string { return fmt.Sprintf("%s:%s in %s", c.Service, c.Action, c.Region) }
