package federated_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus-source/federated"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/mcs"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	base  = 7 << 32
	token = "a-token-of-the-tests-a-token-of-the-tests"
)

// backend answers what the API asks of the rest of a federation: who it is, here.
type backend struct{ api.Backend }

func (backend) Version() resource.Version { return resource.Version{Cluster: "east"} }

func list[T any]() *feed.Feed[T] {
	return feed.New(base, func(a, b T) bool { return fmt.Sprint(a) == fmt.Sprint(b) })
}

// world is a federation's API over a real rulebook and store, and a way to it on which
// requests can be met.
type world struct {
	t *testing.T
	// api goes there by itself: it is somebody else.
	api *client.Client
	way string

	mu sync.Mutex
	// meet is called with each request of a sync; true cuts it off.
	meet func(r *http.Request) bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	bolt, err := store.OpenBolt(store.BoltOptions{Path: filepath.Join(t.TempDir(), "store.db")})
	w.must(err)
	t.Cleanup(func() { _ = bolt.Close() })
	book, err := rulebook.New(t.Context(), rulebook.Options{Store: bolt, Base: base})
	w.must(err)
	server, err := api.New(api.Options{Backend: backend{}, Rules: book, Token: token, Lists: api.Lists{
		Clusters: list[resource.Cluster](), Peers: list[resource.Peer](), Services: list[resource.Service](),
		Endpoints: list[resource.Endpoint](), Gateways: list[resource.Gateway](), Links: list[resource.Link](),
		Sources: list[resource.Source](), Events: list[resource.Event](), Replicas: list[resource.Replica](),
	}})
	w.must(err)
	direct := w.serve(func(ctx context.Context, l net.Listener) error { return server.Serve(ctx, l, api.Loopback) })
	to, err := url.Parse(direct)
	w.must(err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport, proxy.FlushInterval = transport, -1
	w.way = w.serve(func(ctx context.Context, l net.Listener) error {
		s := &http.Server{ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.mu.Lock()
			meet := w.meet
			w.mu.Unlock()
			if meet != nil && meet(r) {
				panic(http.ErrAbortHandler)
			}
			r.Host = to.Host
			proxy.ServeHTTP(rw, r)
		})}
		defer context.AfterFunc(ctx, func() { _ = s.Close() })()
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	w.api = w.client(direct)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) serve(serve func(context.Context, net.Listener) error) string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func (w *world) client(at string) *client.Client {
	w.t.Helper()
	c, err := client.New(client.Options{URL: at, Token: token})
	w.must(err)
	w.t.Cleanup(c.Close)
	return c
}

// on has do called before the first request of that method and path goes on.
func (w *world) on(method, path string, do func() (cut bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var once sync.Once
	w.meet = func(r *http.Request) (cut bool) {
		if r.Method == method && strings.HasPrefix(r.URL.Path, path) {
			once.Do(func() { cut = do() })
		}
		return cut
	}
}

// sync is a process that follows the federation.
func (w *world) sync() *federated.Federation {
	w.t.Helper()
	f := federated.New(w.client(w.way), "isthmus", func() {})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
	return f
}

func (w *world) until(what string, check func() error) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within a minute: %v", what, err)
		}
	}
}

// knows waits until a sync takes these exports for its own.
func (w *world) knows(f *federated.Federation, want ...string) {
	w.t.Helper()
	w.until("knows "+strings.Join(want, " "), func() error {
		s, err := f.State()
		if err != nil {
			return err
		}
		var got []string
		for _, name := range slices.Sorted(maps.Keys(s.Exports)) {
			got = append(got, fmt.Sprint(name, s.Exports[name].To))
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("knows %v", got)
		}
		return nil
	})
}

// is checks what the federation has under the name, "" for nothing, and whether the
// applied set names it.
func (w *world) is(want string, remembered bool) {
	w.t.Helper()
	got := ""
	e, err := w.api.Exports().Get(w.t.Context(), web.Name)
	if err == nil {
		got = fmt.Sprint(e.Services, e.To)
	} else if se, ok := errors.AsType[*client.StatusError](err); !ok || se.Status != http.StatusNotFound {
		w.t.Fatal(err)
	}
	set, err := w.api.Applied(w.t.Context(), "kubernetes-isthmus")
	w.must(err)
	if got != want || len(set.Rules) == 1 != remembered {
		w.t.Errorf("there is %q, remembered %v; want %q, %v", got, set.Rules, want, remembered)
	}
}

var web = mcs.Export{Name: "k8s-shop-web", Service: catalog.MustServiceName("web.shop"), To: []string{"*"}}

const ours, theirs = "[web.shop] [*]", "[billing.default] [north]"

// foreign is an export of the name of ours, put by somebody else.
func (w *world) foreign(services, to string) {
	w.t.Helper()
	_, err := w.api.Exports().Create(w.t.Context(), resource.Export{Export: policy.Export{
		Name: web.Name, Services: []policy.ServicePattern{policy.ServicePattern(services)}, To: []string{to},
	}}, false)
	w.must(err)
}

func (w *world) wantForeign(err error) {
	w.t.Helper()
	if !errors.Is(err, mcs.ErrForeign) {
		w.t.Errorf("%v, want %v", err, mcs.ErrForeign)
	}
}

func TestExportsArePutChangedAndPruned(t *testing.T) {
	w := newWorld(t)
	f := w.sync()
	w.must(f.PutExport(t.Context(), web))
	w.knows(f, "k8s-shop-web[*]")
	w.is(ours, true)
	narrow := web
	narrow.To = []string{"north"}
	w.must(f.PutExport(t.Context(), narrow))
	w.knows(f, "k8s-shop-web[north]")
	w.is("[web.shop] [north]", true)

	// What an operator changes of ours stays ours, and is put right.
	e, err := w.api.Exports().Get(t.Context(), web.Name)
	w.must(err)
	e.To = []string{"south"}
	_, err = w.api.Exports().Replace(t.Context(), web.Name, resource.Export{Export: e.Export}, e.ETag, false)
	w.must(err)
	w.knows(f, "k8s-shop-web[south]")
	w.must(f.PutExport(t.Context(), narrow))
	w.is("[web.shop] [north]", true)

	// The next process knows what was put before it, and removes it.
	next := w.sync()
	w.knows(next, "k8s-shop-web[north]")
	w.must(next.DeleteExport(t.Context(), web.Name))
	w.knows(next)
	w.is("", false)
	w.must(next.DeleteExport(t.Context(), web.Name)) // again, as after a crash
}

func TestExportsOfOthersAreLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.foreign("billing.default", "north")
	f := w.sync()
	w.knows(f)
	w.wantForeign(f.PutExport(t.Context(), web))
	w.must(f.DeleteExport(t.Context(), web.Name))
	w.is(theirs, false)
}

// Somebody else takes the name between the look and the write: also one that is the same
// to the letter is theirs, in this pass and in those after it.
func TestWhoCreatesFirstHasIt(t *testing.T) {
	for _, c := range [][3]string{{"billing.default", "north", theirs}, {"web.shop", "*", ours}} {
		w := newWorld(t)
		f := w.sync()
		w.knows(f)
		w.on(http.MethodPost, "/v1/exports", func() bool { w.foreign(c[0], c[1]); return false })
		w.wantForeign(f.PutExport(t.Context(), web))
		w.is(c[2], false)
		w.wantForeign(f.PutExport(t.Context(), web))
		w.must(f.DeleteExport(t.Context(), web.Name))
		w.is(c[2], false)
	}
}

// A process that dies after it has remembered and before it has created leaves the name to
// the next one, unless somebody else takes it meanwhile.
func TestCrashBeforeCreate(t *testing.T) {
	for _, taken := range []bool{false, true} {
		w := newWorld(t)
		w.on(http.MethodPost, "/v1/exports", func() bool { return true })
		if err := w.sync().PutExport(t.Context(), web); err == nil {
			t.Fatal("put, though it was cut off")
		}
		w.is("", true)
		next := w.sync()
		w.knows(next)
		if !taken {
			w.must(next.PutExport(t.Context(), web))
			w.knows(next, "k8s-shop-web[*]")
			w.is(ours, true)
			continue
		}
		w.foreign("billing.default", "north")
		w.wantForeign(next.PutExport(t.Context(), web))
		w.knows(next)
		w.is(theirs, false)
	}
}

// A process that dies after it has created and before it has said so has created it all the
// same: the next one goes on, or removes it.
func TestCrashAfterCreate(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		w := newWorld(t)
		w.on(http.MethodPost, "/v1/exports", func() bool {
			w.on(http.MethodPut, "/v1/applied/", func() bool { return true })
			return false
		})
		if err := w.sync().PutExport(t.Context(), web); err == nil {
			t.Fatal("put, though it was cut off")
		}
		w.is(ours, true)
		next := w.sync()
		w.knows(next, "k8s-shop-web[]") // to be put once more
		if wanted {
			w.must(next.PutExport(t.Context(), web))
			w.knows(next, "k8s-shop-web[*]")
			w.is(ours, true)
			continue
		}
		w.must(next.DeleteExport(t.Context(), web.Name))
		w.is("", false)
	}
}

// A process that dies after it has removed and before it has forgotten claims nothing that
// somebody else makes later.
func TestCrashAfterDelete(t *testing.T) {
	w := newWorld(t)
	f := w.sync()
	w.must(f.PutExport(t.Context(), web))
	w.on(http.MethodDelete, "/v1/applied/", func() bool { return true })
	if err := f.DeleteExport(t.Context(), web.Name); err == nil {
		t.Fatal("forgotten, though it was cut off")
	}
	w.is("", true)
	w.foreign("billing.default", "north")
	next := w.sync()
	w.knows(next)
	w.wantForeign(next.PutExport(t.Context(), web))
	w.is(theirs, false)
}
