package discovery_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// scripted is a source that does what a test tells it.
type scripted struct {
	reads chan *catalog.Snapshot
	end   chan error
	runs  atomic.Int64
}

func newScripted() *scripted {
	return &scripted{reads: make(chan *catalog.Snapshot), end: make(chan error)}
}

func (s *scripted) Run(ctx context.Context, publish discovery.Publish) error {
	s.runs.Add(1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case snap := <-s.reads:
			publish(snap)
		case err := <-s.end:
			return err
		}
	}
}

// reporting adds Reporter and Rereader.
type reporting struct {
	*scripted
	mu    sync.Mutex
	at    time.Time
	err   error
	asked int
}

func (r *reporting) LastRead() (time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at, r.err
}

func (r *reporting) Reread() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
}

func (r *reporting) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *reporting) set(at time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.err = at, err
}

// rig is a Runner in a synctest bubble and what it published.
type rig struct {
	t      *testing.T
	runner *discovery.Runner
	stop   func()

	mu        sync.Mutex
	published []world
}

func start(t *testing.T, o discovery.RunnerOptions) *rig {
	t.Helper()
	g := &rig{t: t}
	o.Name, o.Kind = "test", "scripted"
	o.Publish = func(s *catalog.Snapshot) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.published = append(g.published, show(s))
	}
	r, err := discovery.NewRunner(o)
	if err != nil {
		t.Fatal(err)
	}
	g.runner = r
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(g.stop)
	synctest.Wait()
	return g
}

func (g *rig) want(state discovery.State, published ...world) discovery.Status {
	g.t.Helper()
	synctest.Wait()
	st := g.runner.Status()
	if st.State != state {
		g.t.Errorf("state is %s (%s), want %s", st.State, st.Err, state)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := cmp.Diff(published, g.published); d != "" {
		g.t.Errorf("published: -want +got\n%s", d)
	}
	return st
}

func TestRunnerPublishesChangesAndTellsItsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScripted()
		g := start(t, discovery.RunnerOptions{Source: src})
		if st := g.want(discovery.Starting); st.Name != "test" || st.Kind != "scripted" || st.Version != 0 || !st.LastSuccess.IsZero() {
			t.Errorf("%+v", st)
		}
		one, two := world{"a": {"1"}}, world{"a": {"1", "2"}}
		src.reads <- one.snapshot(t)
		src.reads <- one.snapshot(t) // equal: published once
		g.want(discovery.OK, one)
		src.reads <- two.snapshot(t)
		time.Sleep(time.Hour) // a source that only publishes changes does not become stale
		st := g.want(discovery.OK, one, two)
		if st.Version != 2 || st.Services != 1 || st.Endpoints != 2 || st.Age != time.Hour {
			t.Errorf("%+v", st)
		}
		g.stop()
		g.runner.Release()
		g.want(discovery.OK, one, two)
	})
}

func TestRunnerStartsAnEndedSourceAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		src := newScripted()
		g := start(t, discovery.RunnerOptions{Source: src})
		one := world{"a": {"1"}}
		src.reads <- one.snapshot(t)
		src.end <- errors.New("no route to registry")
		st := g.want(discovery.Failing, one)
		if st.Err != "no route to registry" || st.Restarts != 1 || st.Endpoints != 1 {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Second) // the longest first delay
		src.end <- nil
		if st := g.want(discovery.Failing, one); src.runs.Load() != 2 || !strings.Contains(st.Err, "ended by itself") {
			t.Errorf("%d runs, %+v", src.runs.Load(), st)
		}
		time.Sleep(2 * time.Second)
		src.reads <- one.snapshot(t)
		g.want(discovery.OK, one)
		for range 20 { // it publishes and dies, again and again: the delay grows to its maximum
			src.end <- errors.New("again")
			src.reads <- one.snapshot(t)
		}
		if took := time.Since(began); took < 3*time.Minute || took > 20*time.Minute {
			t.Errorf("23 runs took %v", took)
		}
		time.Sleep(time.Minute) // this run works
		src.end <- errors.New("again")
		ended := time.Now()
		src.reads <- one.snapshot(t)
		if d := time.Since(ended); d > time.Second {
			t.Errorf("started again after %v", d)
		}
		if n := src.runs.Load(); n != 24 {
			t.Errorf("%d runs", n)
		}
	})
}

func TestRunnerHoldsMassWithdrawals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScripted()
		g := start(t, discovery.RunnerOptions{Source: src})
		one, held := world{"a": {"1"}, "b": {"1"}}, world{"a": {"?1"}, "b": {"?1"}}
		src.reads <- one.snapshot(t)
		src.reads <- world{}.snapshot(t)
		st := g.want(discovery.Quarantined, one, held)
		if st.QuarantinedCount != 2 || st.Quarantined[0].Service.Name() != "a" || st.Quarantined[0].Reads != 1 {
			t.Errorf("%+v", st)
		}
		g.runner.DataPathFailed(key("a", "1"))
		g.want(discovery.Quarantined, one, held, world{"b": {"?1"}})
		// The source says nothing more: its last word is taken once more on a timer.
		time.Sleep(59 * time.Second)
		g.want(discovery.Quarantined, one, held, world{"b": {"?1"}})
		time.Sleep(21 * time.Second)
		g.want(discovery.OK, one, held, world{"b": {"?1"}}, world{})
	})
}

func TestRunnerDoesNotConfirmByASourceThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScripted()
		g := start(t, discovery.RunnerOptions{Source: src})
		one, held := world{"a": {"1"}}, world{"a": {"?1"}}
		src.reads <- one.snapshot(t)
		src.reads <- world{}.snapshot(t)
		src.end <- errors.New("dead")
		time.Sleep(time.Hour)
		g.want(discovery.Failing, one, held) // running again, and silent
		g.runner.Release()
		g.want(discovery.Failing, one, held, world{})
	})
}

func TestRunnerAsksAReaderToReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &reporting{scripted: newScripted()}
		g := start(t, discovery.RunnerOptions{Source: src, Guard: discovery.GuardOptions{Window: 3 * time.Second}})
		one, held := world{"a": {"1"}}, world{"a": {"?1"}}
		src.reads <- one.snapshot(t)
		time.Sleep(10 * time.Second)
		if n := src.count(); n != 0 {
			t.Errorf("asked %d times with nothing held", n)
		}
		src.reads <- world{}.snapshot(t)
		time.Sleep(3500 * time.Millisecond)
		g.want(discovery.Quarantined, one, held)
		if n := src.count(); n < 3 {
			t.Errorf("asked %d times", n)
		}
		src.reads <- world{}.snapshot(t)
		g.want(discovery.Quarantined, one, held)
		src.reads <- world{}.snapshot(t)
		g.want(discovery.OK, one, held, world{})
	})
}

func TestRunnerBelievesAReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &reporting{scripted: newScripted()}
		g := start(t, discovery.RunnerOptions{Source: src})
		src.set(time.Time{}, errors.New("connection refused"))
		if st := g.want(discovery.Failing); st.Err != "connection refused" {
			t.Errorf("%+v", st)
		}
		one := world{"a": {"1"}}
		src.set(time.Now(), nil)
		src.reads <- one.snapshot(t)
		g.want(discovery.OK, one)
		time.Sleep(14 * time.Minute)
		src.set(time.Now(), nil) // read again, nothing new
		time.Sleep(14 * time.Minute)
		if st := g.want(discovery.OK, one); st.Age != 14*time.Minute {
			t.Errorf("age %v", st.Age)
		}
		time.Sleep(2 * time.Minute)
		g.want(discovery.Stale, one)
		src.set(time.Now(), errors.New("no leader"))
		g.want(discovery.Failing, one)
	})
}

func TestRunnerRefusesAddressesAndGoesOnWithTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScripted()
		g := start(t, discovery.RunnerOptions{Source: src})
		bad := func(address string, ids ...string) *catalog.Snapshot {
			s := world{"a": ids}.snapshot(t).Get(catalog.MustServiceName("a")).Clone()
			s.Endpoints[0].Address = netip.MustParseAddrPort(address)
			s.Endpoints[0].Quarantined = true // no source may set it
			next, err := world{"b": {"1"}}.snapshot(t).With([]*catalog.Service{s}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return next
		}
		src.reads <- bad("169.254.169.254:80", "1", "2")
		want := world{"a": {"2"}, "b": {"1"}}
		st := g.want(discovery.OK, want)
		if d := cmp.Diff(map[discovery.Refusal]int{discovery.Metadata: 1}, st.Refused); d != "" {
			t.Error(d)
		}
		src.reads <- bad("127.0.0.1:80", "1", "2")
		if st := g.want(discovery.OK, want); st.Refused[discovery.Loopback] != 1 || st.Refused[discovery.Metadata] != 0 {
			t.Errorf("%v", st.Refused)
		}
		src.reads <- bad("10.1.1.1:80", "1", "2")
		if st := g.want(discovery.OK, want, world{"a": {"1", "2"}, "b": {"1"}}); st.Refused != nil {
			t.Errorf("%v", st.Refused)
		}
		src.reads <- world{"b": {"1"}, "a": {"1", "2"}}.snapshot(t)
	})
}

func TestRunnerRefusesAnotherSourcesName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScripted()
		g := start(t, discovery.RunnerOptions{Source: src})
		other, err := catalog.NewSnapshot("other", nil)
		if err != nil {
			t.Fatal(err)
		}
		src.reads <- other
		src.reads <- nil
		g.want(discovery.Failing)
	})
}

func TestRunnerStartsFromDisk(t *testing.T) {
	dir := t.TempDir()
	one, held := world{"a": {"1"}, "b": {"1"}}, world{"a": {"1"}, "b": {"?1"}}
	run := func(f func(*rig, *scripted)) {
		synctest.Test(t, func(t *testing.T) {
			src := newScripted()
			g := start(t, discovery.RunnerOptions{Source: src, Store: newStore(t, dir)})
			f(g, src)
			g.stop()
		})
	}
	run(func(g *rig, src *scripted) {
		g.want(discovery.Starting)
		src.reads <- one.snapshot(t)
		g.want(discovery.OK, one)
		time.Sleep(10 * time.Second)
	})
	run(func(g *rig, src *scripted) {
		if st := g.want(discovery.Stale, one); st.LastSuccess.IsZero() {
			t.Errorf("%+v", st)
		}
		src.reads <- world{"a": {"1"}}.snapshot(t) // guarded against what was on disk
		g.want(discovery.Quarantined, one, held)
	})
	synctest.Test(t, func(t *testing.T) { // the ranges have become narrower
		ranges := discovery.NewRanges(netip.MustParsePrefix("192.0.2.0/24"))
		g := start(t, discovery.RunnerOptions{Source: newScripted(), Store: newStore(t, dir), Ranges: ranges})
		g.want(discovery.Stale, world{"a": {}, "b": {}})
		g.stop()
	})
	newest := slices.Max(saved(t, dir))
	if err := os.WriteFile(newest, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(func(g *rig, _ *scripted) {
		st := g.want(discovery.Stale, one) // the one before
		if !strings.Contains(st.StoreErr, filepath.Base(newest)) {
			t.Errorf("%+v", st)
		}
	})
}

func TestRunnerGoesOnWithAFullDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		src := newScripted()
		g := start(t, discovery.RunnerOptions{Source: src, Store: store})
		one := world{"a": {"1"}}
		src.reads <- one.snapshot(t)
		time.Sleep(time.Second)
		if st := g.want(discovery.OK, one); st.StoreErr == "" {
			t.Error("the failure to save is not told")
		}
		if err := os.MkdirAll(dir, 0o700); err != nil { // there is room again
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if st := g.want(discovery.OK, one); st.StoreErr != "" || len(saved(t, dir)) != 1 {
			t.Errorf("%+v, %v", st, saved(t, dir))
		}
	})
}

func TestRunnerMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m, err := discovery.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		src := newScripted()
		g := start(t, discovery.RunnerOptions{Source: src, Metrics: m})
		src.reads <- world{"a": {"1"}, "b": {"1", "2"}}.snapshot(t)
		src.reads <- world{"b": {"1", "2"}}.snapshot(t)
		src.end <- errors.New("x")
		synctest.Wait()
		const want = `
# HELP isthmus_source_endpoints Endpoints of a source that are in force, quarantined ones included.
# TYPE isthmus_source_endpoints gauge
isthmus_source_endpoints{source="test"} 3
# HELP isthmus_source_failures_total Failures of a source, by what failed.
# TYPE isthmus_source_failures_total counter
isthmus_source_failures_total{reason="end",source="test"} 1
# HELP isthmus_source_last_success_timestamp_seconds When the last complete read of a source ended, in Unix seconds; 0 before the first.
# TYPE isthmus_source_last_success_timestamp_seconds gauge
isthmus_source_last_success_timestamp_seconds{source="test"} 9.466848e+08
# HELP isthmus_source_quarantined_endpoints Endpoints that a source has withdrawn and the guard holds.
# TYPE isthmus_source_quarantined_endpoints gauge
isthmus_source_quarantined_endpoints{source="test"} 1
# HELP isthmus_source_services Services of a source that are in force.
# TYPE isthmus_source_services gauge
isthmus_source_services{source="test"} 2
# HELP isthmus_source_updates_total Snapshots of a source that changed what is in force.
# TYPE isthmus_source_updates_total counter
isthmus_source_updates_total{source="test"} 2
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "isthmus_source_endpoints", "isthmus_source_failures_total",
			"isthmus_source_last_success_timestamp_seconds", "isthmus_source_quarantined_endpoints", "isthmus_source_services", "isthmus_source_updates_total"); err != nil {
			t.Error(err)
		}
		g.stop()
	})
	if n := testutil.CollectAndCount(m); n != 0 {
		t.Errorf("%d series are left of a source that is gone", n)
	}
}

func TestNewRunnerReportsAllProblems(t *testing.T) {
	_, err := discovery.NewRunner(discovery.RunnerOptions{Name: "A B", Guard: discovery.GuardOptions{Share: 2}})
	for _, want := range []string{"name", "source", "publish", "guard"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

// Where the subscriber gathers, a burst of a source is one change, which is judged
// when it is taken; what came in between is never seen.
func TestABurstIsJudgedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newScripted()
		gathered := 0
		g := start(t, discovery.RunnerOptions{Source: src, Gather: func() { gathered++ }})
		g.runner.Take() // nothing is there
		for n := range 20 {
			src.reads <- world{"web": ids("e", 10+n)}.snapshot(t)
		}
		synctest.Wait()
		if st := g.runner.Status(); gathered != 20 || len(g.published) != 0 || st.Version != 0 {
			t.Errorf("gathered %d times, published %d times, version %d", gathered, len(g.published), st.Version)
		}
		g.runner.Take()
		g.runner.Take()
		if st := g.runner.Status(); len(g.published) != 1 || st.Version != 1 || st.Endpoints != 29 {
			t.Errorf("published %d times, %+v", len(g.published), st)
		}
		// A mass withdrawal that is taken is held, as one that is judged at once.
		src.reads <- world{"web": ids("e", 2)}.snapshot(t)
		synctest.Wait()
		g.runner.Take()
		if st := g.runner.Status(); st.QuarantinedCount != 27 {
			t.Errorf("%d endpoints are held, want 27", st.QuarantinedCount)
		}
		g.stop()
		g.runner.Take()
	})
}
