package attempt_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

var web = catalog.MustServiceName("web")

// fixed is a board with one plan that writes down what it is told.
type fixed struct {
	plan     *route.Plan
	live     *route.Live
	outcomes []route.Outcome
	certain  int
}

func (f *fixed) Plan() *route.Plan { return f.plan }

func (f *fixed) Observe(_ route.Target, _ *route.EndpointKey, o route.Outcome, certain bool) {
	f.outcomes = append(f.outcomes, o)
	if certain {
		f.certain++
	}
}

// newBoard has web at own endpoints and in clusters, all linked, in that order.
func newBoard(own int, clusters ...catalog.ClusterName) *fixed {
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	s := route.Service{Name: web, Ports: ports, Traffic: &policy.Traffic{
		Name: "order", Services: []policy.ServicePattern{"web.default"}, Clusters: append([]catalog.ClusterName{"own"}, clusters...),
	}}
	t := &route.Table{
		Format: route.TableFormat, Cluster: route.Cluster{Name: "own", ID: "spiffe://own.test/c/own"},
		Intentions: []policy.Intention{{Name: "all", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://own.test/*", "spiffe://peer.test/*"}, Action: policy.Allow}},
	}
	e := &route.Evidence{Now: time.Now(), Links: make(map[catalog.ClusterName]route.LinkEvidence)}
	for i := range own {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: string(rune('a' + i)), Port: "http", Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i+1)),
		})
	}
	for _, c := range clusters {
		t.Peers = append(t.Peers, route.Peer{Name: c, ID: "spiffe://" + string(c) + ".test/c", Asserts: []policy.IDPattern{policy.IDPattern("spiffe://" + string(c) + ".test/*")}, HeardAt: time.Now()})
		s.Remote = append(s.Remote, route.Remote{Cluster: c, Name: web, Ports: ports, Rows: []catalog.SummaryRow{{Port: "http", Ready: 1, Total: 1}}})
		s.ExportedTo = append(s.ExportedTo, c)
		e.Links[c] = route.LinkEvidence{Up: true, Since: time.Now().Add(-time.Hour), RTT: 10 * time.Millisecond}
	}
	t.Services = []route.Service{s}
	live := route.NewLive()
	return &fixed{plan: route.Compile(t, e, live), live: live}
}

func newRouter(t *testing.T, b attempt.Board, reachable bool) *attempt.Router {
	t.Helper()
	r, err := attempt.New(attempt.Options{
		Board: b, Random: rand.New(rand.NewPCG(3, 4)).Uint64, Reachable: func(catalog.ClusterName) bool { return reachable },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func refused(s wire.Status) error {
	return &tunnel.RefusedError{Cluster: "x", Gateway: "gw", Status: s}
}

func connectFailed() error { return &retry.ConnectError{Endpoint: "e", Err: syscall.ECONNREFUSED} }

// run fails each attempt with what fail returns for its cluster, until one is let
// through (nil) or the sequence ends. It returns where the attempts went.
func run(t *testing.T, r *attempt.Router, c attempt.Call, replay attempt.Replay, fail func(a *attempt.Attempt) error) (went []string, err error) {
	t.Helper()
	s, err := r.Start(c)
	if err != nil {
		return nil, err
	}
	for {
		a, err := s.Next()
		if err != nil {
			return went, err
		}
		where := string(a.Choice.Target.Cluster)
		if a.Choice.Endpoint != nil {
			where += "/" + a.Choice.Endpoint.ID
		}
		went = append(went, where)
		if a.Number != len(went)-1 || s.Attempts() != len(went) {
			t.Errorf("attempt %d of %d calls itself %d", len(went), s.Attempts(), a.Number)
		}
		failure := fail(a)
		if failure == nil {
			a.Answered(true)
			a.End()
			return went, nil
		}
		if err := a.Fail(t.Context(), failure, replay); err != nil {
			return went, err
		}
	}
}

var call = attempt.Call{Service: web, Caller: "spiffe://own.test/w"}

func TestWhereRetriesGo(t *testing.T) {
	linkDied := &tunnel.LinkError{Cluster: "x", Gateway: "gw", Status: wire.LinkDead, Delivered: true}
	noLink := &tunnel.LinkError{Cluster: "x", Status: wire.Unreachable}
	always := func(err error) func(*attempt.Attempt) error { return func(*attempt.Attempt) error { return err } }
	tests := []struct {
		name      string
		own       int
		clusters  []catalog.ClusterName
		reachable bool
		replay    attempt.Replay
		fail      func(*attempt.Attempt) error
		want      []string
		reason    string
		undeliv   bool
	}{
		{"refused goes on, never back", 0, []catalog.ClusterName{"b", "c", "d"}, true, attempt.IfUndelivered, always(refused(wire.Refused)), []string{"b", "c", "d"}, "refused", true},
		{"two extra attempts at most", 0, []catalog.ClusterName{"b", "c", "d", "e"}, true, attempt.IfUndelivered, always(refused(wire.NoEndpoint)), []string{"b", "c", "d"}, "no_endpoint", true},
		{"denied is final", 0, []catalog.ClusterName{"b", "c"}, true, attempt.Always, always(refused(wire.Denied)), []string{"b"}, "denied", true},
		{"delivered and not idempotent is final", 0, []catalog.ClusterName{"b", "c"}, true, attempt.IfUndelivered, always(linkDied), []string{"b"}, "link_dead", false},
		{"delivered and idempotent goes elsewhere first", 0, []catalog.ClusterName{"b", "c"}, true, attempt.Always, always(linkDied), []string{"b", "c", "b"}, "link_dead", false},
		{"a dead link of the only cluster: its other gateway", 0, []catalog.ClusterName{"b"}, true, attempt.Always, always(linkDied), []string{"b", "b"}, "link_dead", false},
		{"the only link died: not there again", 0, []catalog.ClusterName{"b"}, false, attempt.Always, always(linkDied), []string{"b"}, "link_dead", false},
		{"no link at all: not there again", 0, []catalog.ClusterName{"b"}, true, attempt.IfUndelivered, always(noLink), []string{"b"}, "unreachable", true},
		{"one gateway drains: the other one", 0, []catalog.ClusterName{"b", "c"}, true, attempt.IfUndelivered, always(refused(wire.Draining)), []string{"b", "b", "c"}, "draining", true},
		{"what is not kept is not sent again", 0, []catalog.ClusterName{"b", "c"}, true, attempt.Never, always(refused(wire.Refused)), []string{"b"}, "refused", true},
		{"endpoint broke after it was asked", 1, nil, true, attempt.IfUndelivered, always(io.ErrUnexpectedEOF), []string{"own/a"}, "reset", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(tt.own, tt.clusters...)
				went, err := run(t, newRouter(t, b, tt.reachable), call, tt.replay, tt.fail)
				e, ok := errors.AsType[*attempt.Error](err)
				if !slices.Equal(went, tt.want) || !ok || e.Reason != tt.reason || e.Undelivered != tt.undeliv || e.Attempts != len(tt.want) {
					t.Fatalf("went to %v, %+v; want %v, %s, undelivered %v", went, e, tt.want, tt.reason, tt.undeliv)
				}
				for _, c := range append(tt.clusters, "own") {
					if n := b.live.Target(route.Target{Service: web, Port: "http", Cluster: c}).InFlight(); n != 0 {
						t.Errorf("%d calls to %s are still counted in flight", n, c)
					}
				}
			})
		})
	}
}

func TestDeadOwnEndpointsDoNotUseUpTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, clusters := range [][]catalog.ClusterName{{"b"}, nil} {
			b := newBoard(4, clusters...)
			went, err := run(t, newRouter(t, b, true), call, attempt.IfUndelivered, func(a *attempt.Attempt) error {
				if a.Choice.Endpoint != nil {
					return connectFailed()
				}
				return nil
			})
			if len(went) != 3 || (clusters != nil && (err != nil || went[2] != "b")) || (clusters == nil && err == nil) {
				t.Errorf("with %v elsewhere: went to %v, %v", clusters, went, err)
			}
			if b.certain < 2 || slices.Contains(b.outcomes, route.LinkFailure) {
				t.Errorf("observed %v, %d certain", b.outcomes, b.certain)
			}
		}
	})
}

func TestTheBudgetIsPerService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, newBoard(0, "b", "c", "d"), true)
		attempts := 0
		for range 100 {
			went, _ := run(t, r, call, attempt.IfUndelivered, func(*attempt.Attempt) error { return refused(wire.Refused) })
			attempts += len(went)
		}
		if most := 100 + 20 + 3; attempts > most {
			t.Errorf("100 calls made %d attempts, at most %d", attempts, most)
		}
	})
}

func TestTheDeadlineEndsTheRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(t, newBoard(0, "b", "c"), true)
		s, err := r.Start(call)
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		time.Sleep(time.Millisecond)
		err = a.Fail(ctx, refused(wire.Refused), attempt.Always)
		if e, ok := errors.AsType[*attempt.Error](err); !ok || e.Reason != "deadline_exceeded" {
			t.Fatal(err)
		}
		h := a.Header("", time.Now().Add(-time.Second))
		if h.Deadline != time.Millisecond || h.Service != "web.default" || h.Port != "http" || h.Caller != call.Caller || h.Assurance != wire.AssuranceListener {
			t.Errorf("%+v", h)
		}
	})
}

func TestRefusedBeforeAnyAttempt(t *testing.T) {
	b := newBoard(1, "b")
	tests := map[string]struct {
		start  func(r *attempt.Router) error
		reason string
		denied bool
	}{
		"unknown service": {func(r *attempt.Router) error {
			_, err := r.Start(attempt.Call{Service: catalog.MustServiceName("nobody"), Caller: call.Caller})
			return err
		}, "unknown_service", false},
		"own intention": {func(r *attempt.Router) error {
			_, err := r.Start(attempt.Call{Service: web, Caller: "spiffe://other.test/w"})
			return err
		}, "default_deny", true},
		"peer that may not assert": {func(r *attempt.Router) error {
			_, err := r.StartInbound(attempt.Call{Service: web, Caller: call.Caller}, "b")
			return err
		}, "caller_not_asserted", true},
		"no such peer": {func(r *attempt.Router) error {
			_, err := r.StartInbound(attempt.Call{Service: web, Caller: call.Caller}, "z")
			return err
		}, "unknown_peer", true},
	}
	for name, tt := range tests {
		err := tt.start(newRouter(t, b, true))
		if e, ok := errors.AsType[*attempt.Error](err); !ok || e.Reason != tt.reason || e.Denied != tt.denied {
			t.Errorf("%s: %+v", name, err)
		}
	}
	if _, err := newRouter(t, new(fixed), true).Start(call); err == nil {
		t.Error("a call without a table was begun")
	}
}

func TestALongLivedConnectionIsNoSampleOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(0, "b")
		r := newRouter(t, b, true)
		counters := b.live.Target(route.Target{Service: web, Port: "http", Cluster: "b"})
		hold := func(open time.Duration) {
			s, err := r.Start(call)
			if err != nil {
				t.Fatal(err)
			}
			a, err := s.Next()
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			a.Answered(true)
			time.Sleep(open)
			if counters.InFlight() != 1 {
				t.Error("an open connection is not in flight")
			}
			a.End()
			a.End()
		}
		hold(time.Hour)
		if d := counters.EWMA(time.Now().UnixNano()); d != 0 {
			t.Errorf("an hour-old connect counts as %v", d)
		}
		hold(0)
		if d := counters.EWMA(time.Now().UnixNano()); d < 45*time.Millisecond || d > 55*time.Millisecond || counters.InFlight() != 0 {
			t.Errorf("estimate %v, %d in flight", d, counters.InFlight())
		}
	})
}
