package health_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/health"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(id string) route.EndpointKey {
	return route.EndpointKey{Service: catalog.MustServiceName("web"), Port: "http", ID: id}
}

type change struct {
	key   route.EndpointKey
	state health.State
}

// start runs a checker and returns it with the stream of its changes.
func start(t *testing.T, o health.Options) (*health.Checker, <-chan change) {
	t.Helper()
	changes := make(chan change, 1000)
	o.Changed = func(k route.EndpointKey, s health.State) { changes <- change{k, s} }
	o.Random = rand.Uint64
	c, err := health.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return c, changes
}

func addr(t *testing.T, a net.Addr) netip.AddrPort {
	t.Helper()
	return a.(*net.TCPAddr).AddrPort()
}

// fast is a check at a pace for real servers.
func fast(kind, path string) policy.HealthCheck {
	return policy.HealthCheck{Type: kind, Path: path, IntervalMS: 10, TimeoutMS: 5000}
}

func next(t *testing.T, changes <-chan change) health.State {
	t.Helper()
	select {
	case c := <-changes:
		return c.state
	case <-time.After(30 * time.Second):
		t.Fatal("no change of state")
		return health.State{}
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := addr(t, l.Addr())
	c, changes := start(t, health.Options{})
	c.SetTargets([]health.Target{{Key: key("a"), Address: address, Check: fast("tcp", "")}})
	if s := next(t, changes); !s.Healthy || s.Reason != "" {
		t.Fatalf("a listening endpoint: %+v", s)
	}
	_ = l.Close()
	if s := next(t, changes); s.Healthy || s.Reason != "connection refused" {
		t.Fatalf("a closed endpoint: %+v", s)
	}
	if l, err = net.Listen("tcp", address.String()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if s := next(t, changes); !s.Healthy {
		t.Fatalf("an endpoint that came back: %+v", s)
	}
}

func TestHTTP(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusOK)
	var path atomic.Pointer[string]
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := r.Method + " " + r.URL.Path
		path.Store(&p)
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, "state")
	}))
	defer s.Close()
	c, changes := start(t, health.Options{})
	c.SetTargets([]health.Target{{Key: key("a"), Address: addr(t, s.Listener.Addr()), Check: fast("http", "/ready")}})
	if s := next(t, changes); !s.Healthy {
		t.Fatalf("200: %+v", s)
	}
	if got := *path.Load(); got != "GET /ready" {
		t.Errorf("asked for %q", got)
	}
	status.Store(http.StatusServiceUnavailable)
	if s := next(t, changes); s.Healthy || s.Reason != "http status 503" {
		t.Fatalf("503: %+v", s)
	}
	status.Store(http.StatusFound) // a redirect is an answer, and is not followed
	if s := next(t, changes); !s.Healthy {
		t.Fatalf("302: %+v", s)
	}
}

func TestGRPCAgainstARealServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, state := grpc.NewServer(), grpchealth.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	defer func() { server.Stop(); <-done }()
	state.SetServingStatus("shop.Billing", grpc_health_v1.HealthCheckResponse_SERVING)

	c, changes := start(t, health.Options{})
	c.SetTargets([]health.Target{{Key: key("a"), Address: addr(t, l.Addr()), Check: fast("grpc", "shop.Billing")}})
	if s := next(t, changes); !s.Healthy {
		t.Fatalf("serving: %+v", s)
	}
	state.SetServingStatus("shop.Billing", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	if s := next(t, changes); s.Healthy || s.Reason != "grpc health: serving status 2" {
		t.Fatalf("not serving: %+v", s)
	}
	c.SetTargets([]health.Target{{Key: key("b"), Address: addr(t, l.Addr()), Check: fast("grpc", "shop.Unknown")}})
	if s := next(t, changes); s.Healthy || s.Reason != `grpc health: grpc status "5"` {
		t.Fatalf("a service that the server does not know: %+v", s)
	}
	c.SetTargets([]health.Target{{Key: key("c"), Address: addr(t, l.Addr()), Check: fast("grpc", "")}})
	if s := next(t, changes); !s.Healthy {
		t.Fatalf("the server as a whole: %+v", s)
	}
}

// network answers checks by a function, on the fake clock.
type network struct{ answer func() error }

func (n network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := n.answer(); err != nil {
		if errors.Is(err, errSilent) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, err
	}
	a, b := net.Pipe()
	_ = b.Close()
	return a, nil
}

var errSilent = errors.New("no answer")

func TestFallRiseAndPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers atomic.Pointer[error]
		var calls atomic.Int64
		set := func(err error) { answers.Store(&err) }
		set(nil)
		n := network{answer: func() error { calls.Add(1); return *answers.Load() }}
		c, changes := start(t, health.Options{Dial: n.dial})
		c.SetTargets([]health.Target{{Key: key("a"), Address: netip.MustParseAddrPort("127.0.0.1:1")}})
		if s := next(t, changes); !s.Healthy || calls.Load() != 1 {
			t.Fatalf("the first good result: %+v after %d checks", s, calls.Load())
		}
		calls.Store(0)
		time.Sleep(100 * time.Second)
		if n := calls.Load(); n < 90 || n > 110 {
			t.Errorf("%d checks in 100 s, want about 100", n)
		}
		set(syscall.ECONNREFUSED)
		calls.Store(0)
		if s := next(t, changes); s.Healthy || calls.Load() != 3 {
			t.Fatalf("fall: %+v after %d checks, want 3", s, calls.Load())
		}
		set(nil)
		calls.Store(0)
		if s := next(t, changes); !s.Healthy || calls.Load() != 2 {
			t.Fatalf("rise: %+v after %d checks, want 2", s, calls.Load())
		}
		set(errSilent)
		before := time.Now()
		if s := next(t, changes); s.Healthy || s.Reason != "timeout" {
			t.Fatalf("silence: %+v", s)
		}
		if d := time.Since(before); d < 2*time.Second || d > 4*time.Second {
			t.Errorf("silence was noticed after %v, want about 3 s", d)
		}
	})
}

func TestOneFailureChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		n := network{answer: func() error {
			if calls.Add(1)%3 == 0 { // never three in a row
				return nil
			}
			return syscall.ECONNREFUSED
		}}
		c, changes := start(t, health.Options{Dial: n.dial})
		c.SetTargets([]health.Target{{Key: key("a"), Address: netip.MustParseAddrPort("127.0.0.1:1")}})
		if s := next(t, changes); !s.Healthy {
			t.Fatalf("%+v", s)
		}
		time.Sleep(time.Minute)
		if len(changes) != 0 {
			t.Fatalf("changed to %+v", (<-changes).state)
		}
	})
}

func TestManyDeadEndpointsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inFlight, most atomic.Int64
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			for n := inFlight.Add(1); n > most.Load(); {
				most.Store(n)
			}
			defer inFlight.Add(-1)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		registry := prometheus.NewRegistry()
		c, _ := start(t, health.Options{Dial: dial, Registerer: registry})
		var targets []health.Target
		for i := range 1000 {
			targets = append(targets, health.Target{Key: key(string(rune('a'+i%26)) + string(rune('a'+i/26))), Address: netip.MustParseAddrPort("127.0.0.1:1")})
		}
		c.SetTargets(targets)
		time.Sleep(time.Minute)
		if most.Load() > health.MaxConcurrent {
			t.Errorf("%d checks at once", most.Load())
		}
		if got := len(c.States()); got != 1000 {
			t.Errorf("%d of 1000 endpoints have a state", got)
		}
		c.SetTargets(nil)
		if got := len(c.States()); got != 0 {
			t.Errorf("%d states are left of no endpoints", got)
		}
	})
}

func TestATargetThatStaysKeepsItsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, changes := start(t, health.Options{Dial: network{answer: func() error { return nil }}.dial})
		a := health.Target{Key: key("a"), Address: netip.MustParseAddrPort("127.0.0.1:1")}
		none := health.Target{Key: key("n"), Address: netip.MustParseAddrPort("127.0.0.1:9"), Check: policy.HealthCheck{Type: "none"}}
		c.SetTargets([]health.Target{a, none})
		next(t, changes)
		since := c.States()[key("a")].Since
		c.SetTargets([]health.Target{a, none})
		if got := c.States(); len(got) != 1 || got[key("a")].Since != since {
			t.Fatalf("after the same set: %+v", got)
		}
		a.Address = netip.MustParseAddrPort("127.0.0.1:2")
		c.SetTargets([]health.Target{a})
		if got := c.States(); len(got) != 0 {
			t.Fatalf("a new address inherited %+v", got)
		}
	})
}
