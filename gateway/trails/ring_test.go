package trails_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/trails"
	"github.com/prometheus/client_golang/prometheus"
)

var db = catalog.MustServiceName("db")

// board compiles a plan for every call: each is a plan of its own.
type board struct{ table *route.Table }

func (b board) Plan() *route.Plan {
	return route.Compile(b.table, &route.Evidence{Now: time.Now()}, route.NewLive())
}
func (b board) Observe(route.Target, *route.EndpointKey, route.Outcome, bool) {}

func boardOf(endpoints int) board {
	s := route.Service{Name: db, Ports: []catalog.Port{{Name: "main", Protocol: catalog.TCP}}}
	for i := range endpoints {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: fmt.Sprint("e-", i), Port: "main", Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80),
		})
	}
	return board{&route.Table{Format: route.TableFormat, Cluster: route.Cluster{Name: "own", ID: "spiffe://mesh.test/c/own"}, Services: []route.Service{s}}}
}

type stand struct {
	ring     *trails.Ring
	account  *account.Account
	router   *attempt.Router
	registry *prometheus.Registry
}

func newStand(t *testing.T, b board, o trails.Options) *stand {
	t.Helper()
	s := &stand{registry: prometheus.NewRegistry()}
	n := uint64(0)
	o.Cluster, o.Gateway, o.Registerer = "own", "gw", s.registry
	o.Random = func() uint64 { n += 0x9e3779b97f4a7c15; return n }
	var err error
	if s.ring, err = trails.New(o); err != nil {
		t.Fatal(err)
	}
	if s.account, err = account.New(account.Options{Ended: s.ring.Ended}); err != nil {
		t.Fatal(err)
	}
	if s.router, err = attempt.New(attempt.Options{Board: b, Random: o.Random}); err != nil {
		t.Fatal(err)
	}
	return s
}

// call makes one call whose entry may be changed before it ends.
func (s *stand) call(t *testing.T, change func(*account.Entry)) {
	t.Helper()
	e := s.account.Begin(account.WayTCP)
	e.Service = db
	sequence, err := s.router.Start(attempt.Call{Service: db})
	if err != nil {
		t.Fatal(err)
	}
	a, err := sequence.Next()
	if err != nil {
		t.Fatal(err)
	}
	a.Answered(true)
	a.End()
	e.Answered()
	e.Sequence, e.Attempts = sequence, sequence.Attempts()
	change(e)
	e.End()
}

func TestWhatIsKept(t *testing.T) {
	s := newStand(t, boardOf(3), trails.Options{Records: 1000, Slow: time.Hour})
	for name, change := range map[string]func(*account.Entry){
		"failed":  func(e *account.Entry) { e.Reason, e.Err = "reset", errors.New("x") },
		"retried": func(e *account.Entry) { e.Attempts = 2 },
		"traced":  func(e *account.Entry) { e.Trace.Sampled = true },
		"sampled": func(e *account.Entry) { e.Sampled, e.Trace.Sampled = true, true },
		"":        func(*account.Entry) {},
		"control": func(e *account.Entry) { e.Way, e.Reason = account.WayControl, "reset" },
	} {
		s.call(t, func(e *account.Entry) { e.RequestID = "r-" + name; change(e) })
		found := s.ring.Find(trails.Query{RequestID: "r-" + name}).Trails
		if name == "" || name == "control" {
			if len(found) != 0 {
				t.Errorf("%q was kept: %+v", name, found)
			}
			continue
		}
		if len(found) != 1 || string(found[0].Kept) != name || len(found[0].Attempts) != 1 || !found[0].Attempts[0].Exact {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// TestFloodsKeepWithinTheirBounds: neither the number nor the memory of what is kept
// grows, failures do not push out what is sampled, and the oldest go first.
func TestFloodsKeepWithinTheirBounds(t *testing.T) {
	s := newStand(t, boardOf(2000), trails.Options{Records: 5000})
	s.call(t, func(e *account.Entry) { e.RequestID, e.Sampled = "the-sampled-one", true })
	const n = 200
	for i := range n {
		s.call(t, func(e *account.Entry) { e.RequestID, e.Reason = fmt.Sprint("failed-", i), "reset" })
	}
	bytes := value(t, s.registry, "isthmus_gateway_trails_plan_bytes")
	dropped := value(t, s.registry, "isthmus_gateway_trails_dropped_total")
	if bytes > trails.MaxPlanBytes || dropped == 0 {
		t.Errorf("%v bytes are held, %v dropped", bytes, dropped)
	}
	page := s.ring.Find(trails.Query{Limit: 5})
	found, before := page.Trails, page.Before
	if len(found) != 5 || found[0].RequestID != fmt.Sprint("failed-", n-1) || before == 0 {
		t.Errorf("%d found, the latest %s, before %d", len(found), found[0].RequestID, before)
	}
	next := s.ring.Find(trails.Query{Limit: 5, Before: before}).Trails
	if len(next) != 5 || next[0].RequestID != fmt.Sprint("failed-", n-6) {
		t.Errorf("the next page begins with %+v", next[0].RequestID)
	}
	if old := s.ring.Find(trails.Query{RequestID: "failed-0"}).Trails; len(old) != 0 {
		t.Error("the oldest is still there although bytes were short")
	}

	small := newStand(t, boardOf(2), trails.Options{Records: 20})
	small.call(t, func(e *account.Entry) { e.RequestID, e.Sampled = "the-sampled-one", true })
	for range 100 {
		small.call(t, func(e *account.Entry) { e.Reason = "reset" })
	}
	if kept := small.ring.Find(trails.Query{RequestID: "the-sampled-one"}).Trails; len(kept) != 1 {
		t.Error("failures pushed out what was sampled")
	}
	if all := small.ring.Find(trails.Query{}).Trails; len(all) > 4 {
		t.Errorf("%d were kept within about a second, a twentieth of 20 is allowed", len(all))
	}
}

func TestTheShare(t *testing.T) {
	for share, want := range map[float64]int{0: 0, 0.1: 1000, 1: 10_000} {
		s := newStand(t, boardOf(1), trails.Options{Records: 10, Share: share})
		got := 0
		for range 10_000 {
			if s.ring.Sample() {
				got++
			}
		}
		if got < want*98/100 || got > want*102/100 {
			t.Errorf("a share of %v sampled %d of 10000", share, got)
		}
	}
	for _, bad := range []float64{-0.1, 1.1} {
		if _, err := trails.New(trails.Options{Records: 1, Share: bad, Random: func() uint64 { return 0 }}); err == nil {
			t.Errorf("a share of %v passes", bad)
		}
	}
}

func value(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// BenchmarkACallThatIsNotKept: what nearly every call pays.
func BenchmarkACallThatIsNotKept(b *testing.B) {
	ring, err := trails.New(trails.Options{Records: 10, Share: 0.01, Random: func() uint64 { return 1 << 63 }})
	if err != nil {
		b.Fatal(err)
	}
	e := &account.Entry{Way: account.WayHTTP, Service: db, Reason: account.ReasonOK, Attempts: 1}
	b.ReportAllocs()
	for b.Loop() {
		if ring.Sample() {
			b.Fatal("sampled")
		}
		ring.Ended(e, time.Millisecond)
	}
}
