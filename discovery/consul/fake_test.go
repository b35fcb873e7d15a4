package consul_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
)

// fake speaks Consul's HTTP API as far as the source uses it, with the index
// headers and the blocking of the real one, and shows the faults that a real
// one cannot be made to show. What it answers otherwise is compared with real
// Consul in real_test.go.
type fake struct {
	*httptest.Server

	mu      sync.Mutex
	index   uint64
	content discoverytest.Content
	// fault may answer a request in its own way; path is without /v1.
	fault func(w http.ResponseWriter, r *http.Request, path string) (handled bool)
	moved chan struct{}
	asked map[string]int // by path
	heads []http.Header
	// views has contents of others than the agent's own view, by "dc/partition/ns";
	// they are without Consul's own service unless they are of a whole datacenter.
	views   map[string]discoverytest.Content
	queries []url.Values
}

func newFake(t *testing.T, c discoverytest.Content) *fake {
	f := &fake{index: 10, content: c, moved: make(chan struct{}), asked: map[string]int{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *fake) address() string { return strings.TrimPrefix(f.URL, "http://") }

// change alters the fake and wakes the queries that block.
func (f *fake) change(alter func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	alter()
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *fake) set(c discoverytest.Content) {
	f.change(func() { f.content, f.fault, f.index = c, nil, f.index+1 })
}

func (f *fake) fail(fault func(w http.ResponseWriter, r *http.Request, path string) bool) {
	f.change(func() { f.fault, f.index = fault, f.index+1 })
}

func (f *fake) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, k := range f.asked {
		n += k
	}
	return n
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1")
	wait, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	duration, _ := time.ParseDuration(r.URL.Query().Get("wait"))
	timeout := time.NewTimer(max(duration, time.Millisecond))
	defer timeout.Stop()
	f.mu.Lock()
	f.asked[path]++
	f.heads = append(f.heads, r.Header.Clone())
	query := r.URL.Query()
	f.queries = append(f.queries, query)
	for blocked := true; blocked && f.fault == nil && wait > 0 && f.index <= wait; {
		moved := f.moved
		f.mu.Unlock()
		select {
		case <-moved:
		case <-timeout.C:
			blocked = false
		case <-r.Context().Done():
			return
		}
		f.mu.Lock()
		if f.index < wait {
			break
		}
	}
	h := w.Header()
	h.Set("X-Consul-Index", strconv.FormatUint(f.index, 10))
	h.Set("X-Consul-KnownLeader", "true")
	h.Set("X-Consul-LastContact", "0")
	content, fault := f.content, f.fault
	key := query.Get("dc") + "/" + query.Get("partition") + "/" + query.Get("ns")
	own := key == "//"
	if !own {
		content, own = f.views[key], strings.HasSuffix(key, "//")
	}
	f.mu.Unlock()
	if fault != nil && fault(w, r, path) {
		return
	}
	var body any
	switch name, isService := strings.CutPrefix(path, "/health/service/"); {
	case path == "/catalog/services":
		names := map[string][]string{}
		if own {
			names["consul"] = []string{}
		}
		for name := range content {
			names[name] = []string{}
		}
		body = names
	case strings.HasPrefix(path, "/health/state/"):
		body = []any{}
	case isService:
		entries := []any{}
		for _, a := range content[name] {
			entries = append(entries, instance(name, a))
		}
		body = entries
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(body)
}

func instance(name, address string) map[string]any {
	a := netip.MustParseAddrPort(address)
	return map[string]any{
		"Node":    map[string]any{"Node": "n", "Address": "127.0.0.1"},
		"Service": map[string]any{"ID": name + "-" + address, "Service": name, "Address": a.Addr().String(), "Port": a.Port()},
		"Checks":  []any{},
	}
}

// quick are the times for tests.
func quick(f *fake) consul.Config {
	return consul.Config{Config: agent.Config{Address: f.address()}, Wait: 2 * time.Second, RequestTimeout: 300 * time.Millisecond}
}

func newSource(t *testing.T, c consul.Config) *consul.Source {
	t.Helper()
	all, err := consul.New(consul.Options{Name: "consul", Config: c})
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// The faults that a read may show; each must change nothing.
func faults() map[string]func(w http.ResponseWriter, r *http.Request, path string) bool {
	type fault = func(w http.ResponseWriter, r *http.Request, path string) bool
	header := func(key, value string) fault {
		return func(w http.ResponseWriter, _ *http.Request, path string) bool {
			w.Header().Set(key, value)
			if strings.HasPrefix(path, "/catalog") {
				fmt.Fprint(w, "{}")
			} else {
				fmt.Fprint(w, "[]")
			}
			return true
		}
	}
	status := func(code int) fault {
		return func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.WriteHeader(code)
			return true
		}
	}
	body := func(text string) fault {
		return func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			fmt.Fprint(w, text)
			return true
		}
	}
	return map[string]fault{
		"no leader":          header("X-Consul-KnownLeader", "false"),
		"far behind":         header("X-Consul-LastContact", "120000"),
		"filtered by ACLs":   header("X-Consul-Results-Filtered-By-ACLs", "true"),
		"empty, without why": header("X-Nothing", ""),
		"null":               body("null"),
		"null in it":         body("[null]"),
		"truncated":          body(`{"web":[`),
		"not JSON":           body("<html>proxy error</html>"),
		"throttled":          status(http.StatusTooManyRequests),
		"server error":       status(http.StatusInternalServerError),
		"forbidden":          status(http.StatusForbidden),
		"not found":          status(http.StatusNotFound),
		"cut in the middle": func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"web":[],`)
			return true
		},
		"connection cut": func(http.ResponseWriter, *http.Request, string) bool { panic(http.ErrAbortHandler) },
		"hang": func(_ http.ResponseWriter, r *http.Request, _ string) bool {
			<-r.Context().Done()
			return true
		},
		"hang in the body": func(w http.ResponseWriter, r *http.Request, _ string) bool {
			fmt.Fprint(w, `{"web":[],`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return true
		},
	}
}

// only makes a fault show on some paths.
func only(prefix string, fault func(http.ResponseWriter, *http.Request, string) bool) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, r *http.Request, path string) bool {
		return strings.HasPrefix(path, prefix) && fault(w, r, path)
	}
}
