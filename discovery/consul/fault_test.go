package consul_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
)

// faulty speaks Consul's HTTP API for one service "web" and answers with the
// fault of the moment; real Consul cannot be made to show these.
type faulty struct {
	*httptest.Server
	asked atomic.Int64

	mu    sync.Mutex
	index uint64
	port  int
	fault func(w http.ResponseWriter) (handled bool)
	moved chan struct{}
}

func newFaulty(t *testing.T) *faulty {
	f := &faulty{index: 10, port: 8080, moved: make(chan struct{})}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *faulty) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.moved)
	f.moved = make(chan struct{})
}

// ServeHTTP blocks while the index asked for is the one it has.
func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked.Add(1)
	wait, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
	f.mu.Lock()
	for f.fault == nil && wait > 0 && f.index == wait {
		moved := f.moved
		f.mu.Unlock()
		select {
		case <-moved:
		case <-r.Context().Done():
			return
		}
		f.mu.Lock()
	}
	defer f.mu.Unlock()
	w.Header().Set("X-Consul-Index", strconv.FormatUint(f.index, 10))
	w.Header().Set("X-Consul-KnownLeader", "true")
	w.Header().Set("X-Consul-LastContact", "0")
	if f.fault != nil && f.fault(w) {
		return
	}
	var body any
	switch {
	case strings.HasPrefix(r.URL.Path, "/v1/catalog/services"):
		body = map[string][]string{"web": {}}
	case strings.HasPrefix(r.URL.Path, "/v1/health/state"):
		body = []any{}
	case r.URL.Path == "/v1/health/service/web":
		body = []any{map[string]any{
			"Node":    map[string]any{"Node": "n", "Address": "127.0.0.1"},
			"Service": map[string]any{"ID": "web", "Service": "web", "Port": f.port},
			"Checks":  []any{},
		}}
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(body)
}

func port(s *catalog.Snapshot) uint16 {
	if e := endpoints(s, "web"); len(e) == 1 {
		return e[0].Address.Port()
	}
	return 0
}

func TestFalseAnswersPublishNothing(t *testing.T) {
	header := func(key, value, body string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.Header().Set(key, value)
			_, _ = w.Write([]byte(body))
			return true
		}
	}
	status := func(code int) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.WriteHeader(code)
			return true
		}
	}
	for name, fault := range map[string]func(http.ResponseWriter) bool{
		"no leader":            header("X-Consul-KnownLeader", "false", "[]"),
		"no leader, no object": header("X-Consul-KnownLeader", "false", "{}"),
		"filtered by acls":     header("X-Consul-Results-Filtered-By-Acls", "true", "{}"),
		"truncated":            header("X-Other", "1", `{"web": [`),
		"not json":             header("X-Other", "1", `<html>`),
		"throttled":            status(http.StatusTooManyRequests),
		"server error":         status(http.StatusInternalServerError),
		"forbidden":            status(http.StatusForbidden),
		"connection cut": func(w http.ResponseWriter) bool {
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t)
			r := start(t, consul.Config{Address: strings.TrimPrefix(f.URL, "http://")})
			r.await(t, "web", func(s *catalog.Snapshot) bool { return port(s) == 8080 })
			before := r.count()
			f.set(func() { f.fault, f.index = fault, f.index+1 })
			time.Sleep(400 * time.Millisecond)
			if r.count() != before {
				t.Errorf("published %s", text(r.last()))
			}
			f.set(func() { f.fault, f.port, f.index = nil, 9090, f.index+1 })
			r.await(t, "recovery", func(s *catalog.Snapshot) bool { return port(s) == 9090 })
		})
	}
}

// An index that goes back, is 0 or is missing must neither hold the source up
// nor make it spin.
func TestStrangeIndexesNeitherBlockNorSpin(t *testing.T) {
	for name, fault := range map[string]func(f *faulty) func(http.ResponseWriter) bool{
		"goes back": func(f *faulty) func(http.ResponseWriter) bool { f.index = 3; return nil },
		"zero": func(*faulty) func(http.ResponseWriter) bool {
			return func(w http.ResponseWriter) bool { w.Header().Set("X-Consul-Index", "0"); return false }
		},
		"missing": func(*faulty) func(http.ResponseWriter) bool {
			return func(w http.ResponseWriter) bool { w.Header().Del("X-Consul-Index"); return false }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t)
			r := start(t, consul.Config{Address: strings.TrimPrefix(f.URL, "http://")})
			r.await(t, "web", func(s *catalog.Snapshot) bool { return port(s) == 8080 })
			f.set(func() { f.fault = fault(f); f.port = 9090 })
			r.await(t, "the change", func(s *catalog.Snapshot) bool { return port(s) == 9090 })
			before := f.asked.Load()
			const window = 2 * time.Second
			time.Sleep(window)
			// two watches, two queries a second each, the burst, and sweeps
			if asked := f.asked.Load() - before; asked > 4*int64(window/time.Second)+12 {
				t.Errorf("%d requests in %s: the source spins", asked, window)
			}
		})
	}
}
