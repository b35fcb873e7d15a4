package simulation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Gray failures: what fails or crawls in part only is noticed within 10 s, and has lost
// nine tenths of its share of the calls within 15 s; only that one is left.
const (
	grayNoticed = 10 * time.Second
	grayShed    = 15 * time.Second
	grayLeft    = 0.1
	grayRate    = 100 // calls a second
)

func TestGrayFailure(t *testing.T) {
	const quick = 20 * time.Millisecond
	for _, tc := range []struct {
		name      string
		algorithm policy.Algorithm
		instances int // of the own cluster; 0: it is the nearer of two peers that is sick
		fails     float64
		takes     time.Duration
		shed      bool // by what calls cost, without an ejection
	}{
		{name: "an instance fails half", algorithm: policy.RoundRobin, instances: 5, fails: 0.5},
		{name: "an instance fails a fifth", algorithm: policy.Random, instances: 5, fails: 0.2},
		{name: "one of two fails a third", algorithm: policy.RoundRobin, instances: 2, fails: 0.33},
		{name: "an instance fails half, by least request", algorithm: policy.LeastRequest, instances: 5, fails: 0.5, shed: true},
		{name: "an instance fails half, by completion", algorithm: policy.P2C, instances: 5, fails: 0.5, shed: true},
		{name: "the nearer cluster fails a third", algorithm: policy.P2C, fails: 0.33},
		{name: "the nearer cluster fails a sixth", algorithm: policy.P2C, fails: 0.17},
		{name: "an instance crawls", algorithm: policy.P2C, instances: 5, takes: 2 * time.Second, shed: true},
		{name: "an instance crawls, by least request", algorithm: policy.LeastRequest, instances: 5, takes: 2 * time.Second, shed: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t, 3, &policy.Traffic{Name: "web", Services: []policy.ServicePattern{"*"}, Algorithm: tc.algorithm})
			s.own = tc.instances
			if tc.instances == 0 {
				s.ready = map[string]int{"near": 3, "far": 3}
			}
			var since time.Time // when it falls sick
			sick := func(c *route.Choice) bool {
				return c.Endpoint != nil && c.Endpoint.ID == "web-00" || c.Target.Cluster == "near"
			}
			s.serve = func(s *stage, c *route.Choice) (time.Duration, bool) {
				switch {
				case since.IsZero() || s.now.Before(since) || !sick(c):
					return quick, true
				case tc.takes > 0:
					return tc.takes, true
				default:
					return quick, s.rng.Float64() >= tc.fails
				}
			}
			s.table()
			const step = time.Second / grayRate
			run := func(d time.Duration, each func(route.Choice, bool)) {
				for until := s.now.Add(d); s.now.Before(until); s.now = s.now.Add(step) {
					each(s.call())
				}
			}
			before, all := 0, 0
			run(30*time.Second, func(c route.Choice, _ bool) {
				all++
				if sick(&c) {
					before++
				}
			})
			fair := float64(before) / float64(all)
			since = s.now
			var noticed time.Duration
			after, rest, lost := 0, 0, 0
			run(time.Minute, func(c route.Choice, l bool) {
				if noticed == 0 && len(s.ejected()) > 0 {
					noticed = s.now.Sub(since)
				}
				if l {
					lost++
				}
				if s.now.Sub(since) < grayShed {
					return
				}
				rest++
				if sick(&c) {
					after++
				}
			})
			left := float64(after) / float64(rest) / fair
			t.Logf("figure: gray failure, %s: ejected after %v; its share was %.3f, of which %.3f is left after 15 s; %d calls lost with one attempt elsewhere",
				tc.name, noticed, fair, left, lost)
			if !tc.shed && (noticed == 0 || noticed > grayNoticed) {
				t.Errorf("noticed after %v, want %v at most", noticed, grayNoticed)
			}
			if left > grayLeft {
				t.Errorf("%.3f of its share is left", left)
			}
			if out := s.ejected(); len(out) > 1 {
				t.Errorf("ejected: %v", out)
			}
		})
	}
}

// ejected names who is ejected, or on probation.
func (s *stage) ejected() (out []string) {
	for k, e := range s.board.Evidence().Endpoints {
		if !e.EjectedUntil.IsZero() {
			out = append(out, k.ID)
		}
	}
	for k, e := range s.board.Evidence().Targets {
		if !e.EjectedUntil.IsZero() {
			out = append(out, string(k.Cluster))
		}
	}
	return out
}

// A zone of the own cluster that fails a part of its calls is left as a whole, and
// nothing else with it, by own callers and by peers; the counts that peers are told leave
// it out. It comes back when it is well.
func TestAGrayZone(t *testing.T) {
	s := newStage(t, 5, &policy.Traffic{Name: "web", Services: []policy.ServicePattern{"*"}, Algorithm: policy.RoundRobin})
	s.own, s.zones, s.ready = 9, 3, map[string]int{"far": 3}
	sick := false
	inZone := func(c *route.Choice) bool { return c.Endpoint != nil && c.Endpoint.Locality.Zone == "a" }
	s.serve = func(s *stage, c *route.Choice) (time.Duration, bool) {
		return 20 * time.Millisecond, !sick || !inZone(c) || s.rng.Float64() >= 0.3
	}
	s.table()
	run := func(d time.Duration) (share float64) {
		all, in := 0, 0
		for until := s.now.Add(d); s.now.Before(until); s.now = s.now.Add(time.Second / grayRate) {
			c, _ := s.call()
			all++
			if inZone(&c) {
				in++
			}
		}
		return float64(in) / float64(all)
	}
	zoneOut := func() bool {
		for range s.board.Evidence().ZonesOut {
			return true
		}
		return false
	}
	fair := run(20 * time.Second)
	sick = true
	began := s.now
	for !zoneOut() && s.now.Sub(began) < time.Minute {
		run(100 * time.Millisecond)
	}
	noticed := s.now.Sub(began)
	run(grayShed - noticed)
	left := run(20*time.Second) / fair
	t.Logf("figure: gray failure, a zone fails a third: ejected after %v; its share was %.3f, of which %.3f is left after 15 s", noticed, fair, left)
	if noticed > grayNoticed || left > grayLeft {
		t.Errorf("noticed after %v, %.3f is left", noticed, left)
	}
	if out := s.ejected(); len(out) > 0 {
		t.Errorf("ejected besides: %v", out)
	}
	for r := range s.board.Plan().Readiness() {
		if r.Ready != 6 || r.Total != 9 {
			t.Errorf("peers are told of %d ready of %d, want 6 of 9", r.Ready, r.Total)
		}
	}
	for i := range 1000 {
		c, _ := s.board.Plan().PickLocal(&route.Request{Service: stageService, Random: s.rng.Uint64(), NowNanos: s.now.UnixNano()})
		if c.Mode != route.Probation && inZone(&c) {
			t.Fatalf("call %d of a peer goes to the zone that is out", i)
		}
	}
	sick = false
	run(2 * time.Minute)
	if back := run(20 * time.Second); zoneOut() || back < 0.9*fair {
		t.Errorf("when it is well it has %.3f of the calls, out %v", back, zoneOut())
	}
}

// What all instances have is nobody's fault: a failure of what they rest on ejects none.
func TestACommonFailureEjectsNobody(t *testing.T) {
	s := newStage(t, 4, nil)
	s.own, s.ready = 5, map[string]int{"far": 3}
	s.serve = func(s *stage, _ *route.Choice) (time.Duration, bool) {
		return 20 * time.Millisecond, s.rng.Float64() >= 0.25
	}
	s.table()
	for range 60 * grayRate {
		s.call()
		s.now = s.now.Add(time.Second / grayRate)
		for k, e := range s.board.Evidence().Endpoints {
			if strings.Contains(e.Reason, "elsewhere") {
				t.Fatalf("%s is ejected: %s", k.ID, e.Reason)
			}
		}
	}
}
