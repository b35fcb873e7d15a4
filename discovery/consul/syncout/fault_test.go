package syncout_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/discovery/consul/syncout"
)

// faulty stands before a real agent and answers in its place where it is told to.
type faulty struct {
	address string
	fault   atomic.Pointer[http.HandlerFunc]
	hit     atomic.Int64
}

func newFaulty(t *testing.T, a *consultest.Agent) *faulty {
	t.Helper()
	f := &faulty{}
	transport := &http.Transport{}
	forward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: a.Address()}) },
		Transport:    transport,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := f.fault.Load(); fault != nil {
			f.hit.Add(1)
			(*fault)(w, r)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		transport.CloseIdleConnections()
	})
	f.address = strings.TrimPrefix(srv.URL, "http://")
	return f
}

func (f *faulty) set(fault http.HandlerFunc) {
	f.hit.Store(0)
	if fault == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&fault)
}

// Whatever Consul answers in the place of the truth: nothing is removed for it, and
// once it tells the truth again, what changed meanwhile is written.
func TestRealConsulFalseAnswersRemoveNothing(t *testing.T) {
	t.Parallel()
	a, c := realAgent(t, consultest.Options{})
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	header := func(key, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Consul-Index", "1000000")
			w.Header().Set(key, value)
			if strings.HasPrefix(r.URL.Path, "/v1/catalog/node/") {
				fmt.Fprintf(w, `{"Node":{"Node":"isthmus-east","Meta":{"isthmus-owner":"%s"}},"Services":{}}`, strings.TrimPrefix(r.URL.Path, "/v1/catalog/node/isthmus-"))
				return
			}
			fmt.Fprint(w, "[]")
		}
	}
	n := 0
	for name, fault := range map[string]http.HandlerFunc{
		"throttled": status(http.StatusTooManyRequests), "server error": status(http.StatusInternalServerError), "forbidden": status(http.StatusForbidden),
		"no leader": header("X-Consul-KnownLeader", "false"), "far behind": header("X-Consul-LastContact", "120000"),
		"filtered by ACLs": header("X-Consul-Results-Filtered-By-ACLs", "true"),
		"not JSON":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"cut in the middle": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"Node":{"Node":"isthmus-east"`)
		},
		"connection cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		n++
		cluster, billing, added := fmt.Sprint("c", n), fmt.Sprint("billing", n), fmt.Sprint("added", n)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFaulty(t, a)
			c := c
			c.Config = agent.Config{Address: f.address}
			o := &offers{}
			o.set(way(billing, "10.9.0.1:9000", true))
			registry, _ := start(t, cluster, "f1", o, c)
			answers(t, a, billing, "10.9.0.1:9000")
			before := metric(t, registry, "failures_total", "")
			f.set(fault)
			o.set(way(billing, "10.9.0.1:9000", true), way(added, "10.9.0.1:9001", true))
			eventually(t, "it is noticed", func() error {
				if f.hit.Load() < 2 || metric(t, registry, "failures_total", "") == before {
					return errWaiting
				}
				return nil
			})
			answers(t, a, billing, "10.9.0.1:9000")
			answers(t, a, added)
			f.set(nil)
			answers(t, a, added, "10.9.0.1:9001")
			answers(t, a, billing, "10.9.0.1:9000")
		})
	}
}

// Consul is killed, comes back empty, and the writer has to lock anew.
func TestRealConsulThatForgetsIsFilledAgain(t *testing.T) {
	t.Parallel()
	a, c := realAgent(t, consultest.Options{Bind: "127.0.0.4"}) // nobody else's, while it is dead
	o := &offers{}
	o.set(way("billing", "10.9.0.1:9000", true))
	registry, _ := start(t, "east", "f1", o, c)
	answers(t, a, "billing", "10.9.0.1:9000")
	a.Kill()
	a.Restart() // -dev: nothing of it is left
	answers(t, a, "billing", "10.9.0.1:9000")
	eventually(t, "it writes", func() error {
		if metric(t, registry, "writer", "") != 1 || metric(t, registry, "entries", "true") != 1 {
			return errWaiting
		}
		return nil
	})
	if n := metric(t, registry, "refused", syncout.Taken); n != 0 {
		t.Errorf("%v refused", n)
	}
}
