package consul_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
)

func TestContract(t *testing.T) {
	for _, name := range []string{"server error", "no leader", "hang"} {
		fault := faults()[name]
		t.Run(name, func(t *testing.T) {
			discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
				f := newFake(t, nil)
				return discoverytest.Backend{
					Source:     newSource(t, quick(f)),
					PerService: true,
					Set:        f.set,
					Fail: func(on bool) {
						if on {
							f.fail(fault)
						} else {
							f.fail(nil)
						}
					},
					// The list is whole, one of its services cannot be read.
					Cut: func(c discoverytest.Content) {
						f.set(c)
						f.fail(only("/health/service/web", fault))
					},
				}
			})
		})
	}
}

// Whatever answers falsely, and on whichever query: nothing is published, the
// trouble is told, and the first true answer after it is taken.
func TestFalseAnswersChangeNothing(t *testing.T) {
	for name, fault := range faults() {
		for _, path := range []string{"/", "/catalog/services", "/health/service/", "/health/state/"} {
			t.Run(name+" of "+path, func(t *testing.T) {
				t.Parallel()
				if path == "/health/state/" && (name == "empty, without why" || name == "null" || name == "null in it") {
					t.Skip("no checks are no false answer: they only say what to read again")
				}
				f := newFake(t, one)
				r := start(t, quick(f))
				r.want(t, one)
				f.change(func() { f.content = two }) // and nobody is to know before the fault is over
				f.fail(only(path, fault))
				r.await(t, "trouble", func(*catalog.Snapshot) bool { _, err := r.source.LastRead(); return err != nil })
				time.Sleep(300 * time.Millisecond)
				if path != "/health/state/" && r.count() != 1 { // one trigger is enough to learn of it
					t.Errorf("published %s", text(r.last()))
				}
				f.fail(nil)
				r.want(t, two)
				r.await(t, "no trouble", func(*catalog.Snapshot) bool { _, err := r.source.LastRead(); return err == nil })
			})
		}
	}
}

var (
	one = discoverytest.Content{"web": {"10.0.0.1:80"}, "db": {"10.0.0.9:5432"}}
	two = discoverytest.Content{"web": {"10.0.0.2:80"}, "db": {"10.0.0.9:5432"}}
)

func (r *recorder) want(t *testing.T, c discoverytest.Content) {
	t.Helper()
	r.await(t, c.String(), func(s *catalog.Snapshot) bool { return discoverytest.ContentOf(s).String() == c.String() })
}

// Consul restored from an older state, or started anew: the index goes back, to
// a little less or to almost nothing, and the content is another.
func TestAnIndexThatGoesBack(t *testing.T) {
	for _, index := range []uint64{9, 3, 1, 0} {
		t.Run(strconv.FormatUint(index, 10), func(t *testing.T) {
			t.Parallel()
			f := newFake(t, one)
			r := start(t, quick(f))
			r.want(t, one)
			f.change(func() { f.index, f.content = index, two })
			r.want(t, two)
			f.set(one)
			r.want(t, one)
		})
	}
}

// An index that stands still, is 0 or missing must neither hold the source up
// nor make it spin.
func TestStrangeIndexesNeitherBlockNorSpin(t *testing.T) {
	for name, fault := range map[string]func(w http.ResponseWriter, r *http.Request, path string) bool{
		"zero": func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.Header().Set("X-Consul-Index", "0")
			return false
		},
		"missing": func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.Header().Del("X-Consul-Index")
			return false
		},
		"no number": func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.Header().Set("X-Consul-Index", "x")
			return false
		},
		"for ever 7": func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.Header().Set("X-Consul-Index", "7")
			return false
		},
		"churn": func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.Header().Set("X-Consul-Index", strconv.FormatInt(time.Now().UnixNano(), 10))
			return false
		},
		"all headers stripped": func(w http.ResponseWriter, _ *http.Request, _ string) bool { clear(w.Header()); return false },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, one)
			f.fail(fault)
			r := start(t, quick(f))
			r.want(t, one)
			f.change(func() {
				f.content = discoverytest.Content{"web": {"10.0.0.2:80"}, "db": {"10.0.0.9:5432"}, "new": {"10.0.0.3:80"}}
			})
			r.await(t, "the new service", func(s *catalog.Snapshot) bool { return s.Len() == 3 })
			const window = 4 * time.Second
			time.Sleep(time.Second) // the rest of the burst
			before, published := f.requests(), r.count()
			time.Sleep(window)
			// Two watches with a query a second each, and a sweep over three services a second.
			if asked := f.requests() - before; asked > 5*int(window/time.Second)+8 {
				t.Errorf("%d requests in %s: the source spins", asked, window)
			}
			if n := r.count(); n != published {
				t.Errorf("published %d snapshots of a catalog that stands still", n-published)
			}
			r.await(t, "no trouble", func(*catalog.Snapshot) bool { _, err := r.source.LastRead(); return err == nil })
		})
	}
}

// One service that cannot be read holds the others back for a while, not for ever.
func TestAPoisonedServiceDoesNotFreezeTheOthers(t *testing.T) {
	t.Parallel()
	f := newFake(t, one)
	r := start(t, quick(f))
	r.want(t, one)
	f.set(discoverytest.Content{"web": {"10.0.0.2:80"}, "db": {"10.0.0.8:5432"}})
	f.fail(only("/health/service/db", faults()["server error"]))
	r.want(t, two) // db as it was
	if _, err := r.source.LastRead(); err == nil || !strings.Contains(err.Error(), "service db") {
		t.Errorf("the failure is not told: %v", err)
	}
	f.fail(nil)
	r.want(t, discoverytest.Content{"web": {"10.0.0.2:80"}, "db": {"10.0.0.8:5432"}})
	r.await(t, "no error", func(*catalog.Snapshot) bool { _, err := r.source.LastRead(); return err == nil })
}

// A dead Consul is asked with back-off, and its return is seen soon.
func TestADeadConsulIsNotHammered(t *testing.T) {
	t.Parallel()
	f := newFake(t, one)
	r := start(t, quick(f))
	r.want(t, one)
	f.fail(faults()["server error"])
	time.Sleep(2 * time.Second)
	before := f.requests()
	time.Sleep(4 * time.Second)
	if n := f.requests() - before; n > 24 {
		t.Errorf("%d requests in 4s", n)
	}
	f.set(two)
	r.want(t, two)
}

// An answer of a server that lags behind what was read before changes nothing.
func TestAnOlderAnswerIsNotApplied(t *testing.T) {
	t.Parallel()
	f := newFake(t, one)
	r := start(t, quick(f))
	r.want(t, one)
	f.fail(func(w http.ResponseWriter, r *http.Request, path string) bool {
		if _, stale := r.URL.Query()["stale"]; !stale || path != "/health/service/web" {
			return false
		}
		w.Header().Set("X-Consul-Index", "4")
		_, _ = w.Write([]byte("[]"))
		return false // and then an answer, which makes it no JSON: never applied either way
	})
	published := r.count()
	time.Sleep(3 * time.Second) // sweeps
	f.mu.Lock()
	sweeps := f.asked["/health/service/db"]
	f.mu.Unlock()
	if r.count() != published || sweeps < 2 {
		t.Errorf("published %s after %d sweeps", text(r.last()), sweeps)
	}
}

func TestFilteredAnswersAreTakenWhereTheOperatorSaysSo(t *testing.T) {
	t.Parallel()
	f := newFake(t, one)
	filtered := func(w http.ResponseWriter, r *http.Request, path string) bool {
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
		if path == "/catalog/services" {
			_, _ = w.Write([]byte(`{"web":[],"db":[]}`)) // consul itself is not to be seen
			return true
		}
		return false
	}
	f.fail(filtered)
	c := quick(f)
	strict := start(t, c)
	c.AcceptFiltered = true
	r := start(t, c)
	r.want(t, one)
	if strict.count() != 0 {
		t.Error("a filtered answer was taken by default")
	}
	r.await(t, "the strict one tells of ACLs", func(*catalog.Snapshot) bool { // not of an answer that was late, on a busy machine
		_, err := strict.source.LastRead()
		return err != nil && strings.Contains(err.Error(), "ACL")
	})
	f.fail(faults()["filtered by ACLs"]) // nothing at all is not believed, even so
	time.Sleep(time.Second)
	r.want(t, one)
}

// Nothing of the environment reaches Consul, and the token is that of its file
// at the time of each request.
func TestRequestsCarryOnlyWhatIsConfigured(t *testing.T) {
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	t.Setenv("CONSUL_HTTP_TOKEN", "of-the-environment")
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", "/nowhere")
	t.Setenv("CONSUL_NAMESPACE", "elsewhere")
	t.Setenv("CONSUL_HTTP_AUTH", "user:password")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	f := newFake(t, one)
	plain := start(t, quick(f))
	plain.want(t, one)
	f.mu.Lock()
	for _, h := range f.heads {
		if h.Get("X-Consul-Token") != "" || h.Get("Authorization") != "" {
			t.Errorf("a request carries %v", h)
		}
	}
	f.heads = nil
	f.mu.Unlock()
	plain.stop()

	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	c := quick(f)
	c.TokenFile = file
	r := start(t, c)
	r.want(t, one)
	write("second")
	f.set(two)
	r.want(t, two)
	f.mu.Lock()
	tokens := []string{}
	for _, h := range f.heads {
		tokens = append(tokens, h.Get("X-Consul-Token"))
	}
	f.mu.Unlock()
	if slices.Contains(tokens, "") || tokens[0] != "first" || tokens[len(tokens)-1] != "second" {
		t.Errorf("tokens %q", tokens)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f.set(one)
	time.Sleep(500 * time.Millisecond)
	if _, err := r.source.LastRead(); err == nil || strings.Contains(err.Error(), "second") {
		t.Errorf("without its token: %v", err)
	}
}

func TestNewReportsAllProblems(t *testing.T) {
	_, err := consul.New(consul.Options{Name: "consul", Config: consul.Config{
		Config: agent.Config{Address: "consul", Scheme: "ftp", TLS: agent.TLS{CertFile: "x"}}, Namespace: "A", Protocol: "gopher", Wait: time.Millisecond, RequestTimeout: time.Hour,
	}})
	for _, want := range []string{"consul.address", "consul.scheme", "consul.namespace", "consul.protocol", "consul.wait", "consul.request_timeout", "consul.tls"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is missing in %v", want, err)
		}
	}
	if _, err := consul.New(consul.Options{Name: "No Label"}); err == nil {
		t.Error("a name that is no label was accepted")
	}
}
