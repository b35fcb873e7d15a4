package route_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func sighting(caller string, peer catalog.ClusterName, path string, at time.Time) route.Sighting {
	ask := &route.Ask{Service: billing, Caller: caller}
	if path != "" {
		r := policy.NewHTTPRequest("GET", path, nil)
		ask.HTTP = &r
	}
	return route.Sighting{SightingKey: route.SightingOf(peer, ask, route.Verdict{Allowed: true, Reason: route.ReasonAllowed, Rule: "r"}), Count: 1, LastSeen: at}
}

func TestPathsOfSightingsAreBounded(t *testing.T) {
	long := "/" + strings.Repeat("x", 300)
	for path, want := range map[string]struct {
		path   string
		prefix bool
	}{
		"/": {"/", false}, "/a": {"/a", false}, "/a/": {"/a/", false}, "/a/b": {"/a/b", false}, "/a/b/": {"/a/b/", false},
		"/a/b/c": {"/a/b/", true}, "/a/b/c/d": {"/a/b/", true}, "/pkg.Service/Method": {"/pkg.Service/Method", false},
		long: {"/", true}, "/a" + long: {"/a/", true}, "/a/b" + long: {"/a/b/", true},
	} {
		k := sighting("spiffe://b.test/web", "b", path, epoch).SightingKey
		if k.Path != want.path || k.Prefix != want.prefix {
			t.Errorf("%.20s: %q, prefix %v", path, k.Path, k.Prefix)
		}
	}
}

func TestSightingsCountAndAge(t *testing.T) {
	s := route.NewSightings(time.Hour, 100)
	for i := range 60 {
		s.Add(sighting("spiffe://b.test/web", "b", "/a", epoch.Add(time.Duration(i)*time.Minute)))
	}
	s.Add(sighting("spiffe://b.test/old", "b", "/a", epoch))
	now := epoch.Add(59 * time.Minute)
	all := s.Since(now, time.Hour)
	if len(all) != 2 || all[1].Count < 55 || all[1].Count > 60 || !all[1].LastSeen.Equal(now) {
		t.Errorf("%+v", all)
	}
	if some := s.Since(now, 10*time.Minute); len(some) != 1 || some[0].Count < 6 || some[0].Count > 15 {
		t.Errorf("the last ten minutes: %+v", some)
	}
	if left := s.Since(epoch.Add(90*time.Minute), time.Hour); len(left) != 1 || s.Len() != 1 {
		t.Errorf("half an hour later: %+v", left)
	}
	if left := s.Since(epoch.Add(3*time.Hour), time.Hour); len(left) != 0 || s.Len() != 0 {
		t.Errorf("hours later: %+v", left)
	}
	// A gateway's clock that is behind moves nothing back.
	s.Add(sighting("spiffe://b.test/web", "b", "/a", now))
	s.Add(sighting("spiffe://b.test/web", "b", "/a", now.Add(-24*time.Hour)))
	if got := s.Since(now, time.Hour); len(got) != 1 || got[0].Count != 1 {
		t.Errorf("a late report: %+v", got)
	}
}

func TestOnePeerCannotPushTheOthersOut(t *testing.T) {
	s := route.NewSightings(time.Hour, 1000)
	for i := range 10 {
		s.Add(sighting(fmt.Sprintf("spiffe://b.test/%d", i), "b", "", epoch))
	}
	for i := range 5000 {
		s.Add(sighting(fmt.Sprintf("spiffe://c.test/%d", i), "c", "", epoch))
	}
	if s.Len() != 1000 || s.Dropped() != 4010 {
		t.Errorf("%d entries, %d dropped", s.Len(), s.Dropped())
	}
	kept := 0
	for _, e := range s.Since(epoch, time.Hour) {
		if e.Peer == "b" {
			kept++
		}
	}
	if kept != 10 {
		t.Errorf("%d of the quiet peer's 10 are kept", kept)
	}
}

func TestManyPathsOfOneCallerFold(t *testing.T) {
	s := route.NewSightings(time.Hour, 10_000)
	for i := range 5000 {
		s.Add(sighting("spiffe://b.test/web", "b", fmt.Sprintf("/orders/%d", i), epoch))
	}
	s.Add(sighting("spiffe://b.test/other", "b", "/orders/1", epoch))
	if n := s.Len(); n != 66 {
		t.Errorf("%d entries, want 64 paths, their fold and another caller's", n)
	}
	var calls uint64
	for _, e := range s.Since(epoch, time.Hour) {
		calls += e.Count
	}
	if calls != 5001 {
		t.Errorf("%d calls are counted", calls)
	}
	for i := range 5000 {
		s.Add(sighting("spiffe://b.test/web", "b", fmt.Sprintf("/%d/x", i), epoch))
	}
	if n := s.Len(); n > 66+2*64 {
		t.Errorf("%d entries", n)
	}
}

func TestTakenSightingsAreGone(t *testing.T) {
	s := route.NewSightings(time.Hour, 100)
	for i := range 5 {
		s.Add(sighting(fmt.Sprintf("spiffe://b.test/%d", i), "b", "/a", epoch))
		s.Add(sighting("spiffe://b.test/0", "b", "/a", epoch))
	}
	first := s.Take(3)
	if len(first) != 3 || s.Len() != 2 {
		t.Errorf("%+v", first)
	}
	var calls uint64
	for _, e := range append(first, s.Take(100)...) {
		calls += e.Count
	}
	if calls != 10 || s.Len() != 0 || len(s.Take(1)) != 0 {
		t.Errorf("%d calls, %d left", calls, s.Len())
	}
}

func TestSightingsOutOfBoundsAreDropped(t *testing.T) {
	s := route.NewSightings(time.Hour, 100)
	long := strings.Repeat("x", 3000)
	for _, spoil := range []func(*route.Sighting){
		func(e *route.Sighting) { e.Service = catalog.ServiceName{} }, func(e *route.Sighting) { e.Caller = long },
		func(e *route.Sighting) { e.Peer = catalog.ClusterName(long) }, func(e *route.Sighting) { e.Method = long },
		func(e *route.Sighting) { e.Path = long }, func(e *route.Sighting) { e.Reason = long }, func(e *route.Sighting) { e.Rule = long },
	} {
		e := sighting("spiffe://b.test/web", "b", "/a", epoch)
		spoil(&e)
		s.Add(e)
	}
	if s.Len() != 0 || s.Dropped() != 7 {
		t.Errorf("%d entries, %d dropped", s.Len(), s.Dropped())
	}
}
