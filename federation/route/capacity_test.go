package route_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// granted says what a peer grants of its capacity, for a second.
func (w *world) granted(c catalog.ClusterName, capacity, grant uint64) *world {
	return w.graded(c, capacity, route.Graded{Any: grant})
}

func (w *world) graded(c catalog.ClusterName, capacity uint64, all route.Graded) *world {
	te := w.evidence.Targets[target(c)]
	te.Capacity, te.Spare, te.Granted, te.GrantedUntil = capacity, all, all, epoch.Add(time.Second)
	w.evidence.Targets[target(c)] = te
	return w
}

func (w *world) wanted(own route.ByPriority) *world {
	w.evidence.Demands = map[route.PortKey]route.PortDemand{{Service: billing, Port: "http"}: {Own: own}}
	return w
}

// held begins calls until none goes through, and returns where they went.
func held(p *route.Plan, priority route.Priority, most int) (by map[string]int, last route.Choice) {
	by = make(map[string]int)
	for i := range most {
		r := request(i)
		r.Priority = priority
		if last, _ = p.Pick(r); last.Status != route.OK {
			return by, last
		}
		last.Counters.Begin(0)
		if last.ZoneCounters != nil {
			last.ZoneCounters.Begin(0)
		}
		by[string(last.Target.Cluster)]++
	}
	return by, last
}

// Nearer tiers are filled first, then the peers' grants, and what fits nowhere is shed.
func TestCallsFillWhatIsDeclaredAndGranted(t *testing.T) {
	w := newWorld().local("az1", 2).peer("b", "gcp", 5*time.Millisecond, 9, 9).peer("c", "gcp", 90*time.Millisecond, 9, 9).
		policy(policy.Traffic{Capacity: &policy.Capacity{PerEndpoint: 50}}).granted("b", 900, 30).granted("c", 900, 20)
	p := w.compile()
	by, last := held(p, route.PriorityDefault, 1000)
	if last.Status != route.Shed || by[string(own)] != 95 || by["b"] != 30 || by["c"] != 20 {
		t.Fatalf("%v, then %s", by, last.Status)
	}
	l := p.Explain(*request(1))
	if l.Status != route.Shed || !strings.Contains(l.Why, "no cluster has room for a call of priority default") || len(l.Excluded) != 3 {
		t.Errorf("%s: %s, %+v", l.Status, l.Why, l.Excluded)
	}
	for _, x := range l.Excluded {
		if x.Reason != route.AtCapacity || !strings.Contains(x.Evidence, "calls at once for priority default") {
			t.Errorf("exclusion %+v", x)
		}
	}
	if r := l.Tiers[1].Candidates[0].Room; r == nil || *r != (route.LedgerRoom{Capacity: 900, Slots: 30, Limit: 30, Limits: route.LedgerLimits{Critical: 30, Default: 30, Low: 30}, InFlight: 30, Full: true}) {
		t.Errorf("room %+v", r)
	}
	// A pin asks for slots too, and a call of a peer for those of the own endpoints.
	for _, pin := range []catalog.ClusterName{"b", own} {
		r := request(1)
		r.Pin = pin
		if c, _ := p.Pick(r); c.Status != route.Shed {
			t.Errorf("pinned to %s: %s", pin, c.Status)
		}
	}
	w.service().ExportedTo = []catalog.ClusterName{"b"}
	if c, _ := w.compile().PickLocal(request(1)); c.Status != route.Shed {
		t.Errorf("from a peer: %s", c.Status)
	}
}

// A peer grants more to calls that are more important than its own.
func TestGrantsAreFilledByPriority(t *testing.T) {
	w := newWorld().peer("b", "gcp", 5*time.Millisecond, 9, 9).graded("b", 900, route.Graded{Any: 5, Default: 10, Critical: 15})
	p := w.compile()
	for _, c := range []struct {
		priority route.Priority
		more     int
	}{{route.PriorityLow, 5}, {route.PriorityDefault, 10}, {route.PriorityLow, 0}, {route.PriorityCritical, 15}, {route.PriorityDefault, 0}} {
		if by, last := held(p, c.priority, 100); by["b"] != c.more || last.Status != route.Shed {
			t.Errorf("%d more of priority %s, want %d, then %s", by["b"], c.priority, c.more, last.Status)
		}
	}
	r := *request(1)
	r.Priority = route.PriorityDefault
	room := p.Explain(r).Tiers[0].Candidates[0].Room
	if want := (route.LedgerRoom{Capacity: 900, Slots: 30, Limit: 15, Limits: route.LedgerLimits{Critical: 30, Default: 15, Low: 5}, InFlight: 30, Full: true}); room == nil || *room != want {
		t.Errorf("room %+v, want %+v", room, want)
	}
	// What is to be expected follows the grades, too.
	l := w.wanted(route.ByPriority{route.PriorityCritical: 4, route.PriorityDefault: 8, route.PriorityLow: 20}).compile().Explain(r)
	if l.Demand == nil || l.Demand.Taken[0] != 12 || l.Demand.ExpectedShed != (route.ByPriority{route.PriorityLow: 20}) {
		t.Errorf("demand %+v", l.Demand)
	}
}

// Wants say what fits nowhere nearer by its priority, and of critical calls with as much
// beyond their average as nearly all of them find room in.
func TestWantsAreByPriority(t *testing.T) {
	w := newWorld().local("az1", 1).peer("b", "gcp", 5*time.Millisecond, 9, 9).peer("c", "gcp", 90*time.Millisecond, 9, 9).
		policy(policy.Traffic{Capacity: &policy.Capacity{PerEndpoint: 20}}).
		graded("b", 900, route.Graded{Any: 10, Default: 10, Critical: 10}).granted("c", 900, 0).
		wanted(route.ByPriority{route.PriorityCritical: 16, route.PriorityDefault: 10, route.PriorityLow: 30})
	got := make(map[catalog.ClusterName][route.Priorities]uint64)
	for want := range w.compile().Wants() {
		got[want.Cluster] = want.Calls
	}
	// 19 slots here, for 17.6 critical calls and 1.4 of the 11 default ones. Nearly all
	// critical ones find room in 16 + 4 x 4 + 2. In b 9.6 default ones and 0.4 low ones
	// would find some.
	if want := [route.Priorities]uint64{route.PriorityCritical: 15, route.PriorityDefault: 10, route.PriorityLow: 33}; got["b"] != want {
		t.Errorf("of b %v, want %v", got["b"], want)
	}
	if want := [route.Priorities]uint64{route.PriorityLow: 33}; got["c"] != want {
		t.Errorf("of c %v, want %v", got["c"], want)
	}
}

func TestGraded(t *testing.T) {
	g := route.GradedOf(5, 3, 9) // who is above may fill no less
	if g != (route.Graded{Any: 5, Critical: 4}) || g.UpTo(route.PriorityDefault) != 5 {
		t.Errorf("%+v", g)
	}
	h := route.Graded{Any: 2, Default: 5}
	if got := g.AtLeast(h); got != (route.Graded{Any: 5, Default: 2, Critical: 2}) || !got.Covers(g) || !got.Covers(h) || g.Covers(h) {
		t.Errorf("%+v", got)
	}
	if got := (route.Graded{Any: math.MaxUint64, Default: 1}).Plus(h); got.UpTo(route.PriorityCritical) != math.MaxUint64 {
		t.Errorf("%+v", got)
	}
	if got := (route.Graded{Any: 10, Default: 4, Critical: 1}).Times(0.5); got != (route.Graded{Any: 5, Default: 2}) {
		t.Errorf("%+v", got)
	}
}

func TestAZoneIsFilledBeforeTheNext(t *testing.T) {
	w := newWorld().local("az1", 1).local("az2", 1).policy(policy.Traffic{Capacity: &policy.Capacity{PerEndpoint: 40}})
	w.service().Endpoints[1].Labels = map[string]string{catalog.CapacityLabel: "20"}
	p := w.compile()
	zones := make(map[string]int)
	for i := range 1000 {
		c, _ := p.Pick(request(i))
		if c.Status != route.OK {
			break
		}
		c.Counters.Begin(0)
		c.ZoneCounters.Begin(0)
		zones[c.Endpoint.Locality.Zone]++
	}
	if zones["az1"] != 38 || zones["az2"] != 19 {
		t.Errorf("%v", zones)
	}
}

// Where nothing is known of a capacity, Envoy's maths stands: a grant whose lease is
// over, an endpoint without a figure beside one that has.
func TestUnknownCapacityIsNotBounded(t *testing.T) {
	for name, w := range map[string]*world{
		"lease over": newWorld().peer("b", "gcp", 5*time.Millisecond, 9, 9).target("b", route.TargetEvidence{
			Capacity: 9, GrantedUntil: epoch.Add(-time.Millisecond),
		}),
		"half declared": func() *world {
			w := newWorld().local("az1", 2)
			w.service().Endpoints[0].Labels = map[string]string{catalog.CapacityLabel: "1"}
			return w
		}(),
		"no number": func() *world {
			w := newWorld().local("az1", 1)
			w.service().Endpoints[0].Labels = map[string]string{catalog.CapacityLabel: "many"}
			return w
		}(),
	} {
		if by, last := held(w.compile(), route.PriorityLow, 200); last.Status != route.OK {
			t.Errorf("%s: %v, then %s", name, by, last.Status)
		}
	}
	// A tier of unknown capacity takes what overflows.
	w := newWorld().local("az1", 1).peer("b", "gcp", 5*time.Millisecond, 9, 9).policy(policy.Traffic{Capacity: &policy.Capacity{PerEndpoint: 10}})
	if by, last := held(w.compile(), route.PriorityDefault, 100); by[string(own)] != 9 || by["b"] != 91 || last.Status != route.OK {
		t.Errorf("%v, then %s", by, last.Status)
	}
}

// The last slots are kept for calls of higher priority, as many as their demand needs.
func TestLowerPrioritiesLeaveSlotsFree(t *testing.T) {
	w := newWorld().local("az1", 1).policy(policy.Traffic{Capacity: &policy.Capacity{PerEndpoint: 1000}}).
		wanted(route.ByPriority{route.PriorityCritical: 95, route.PriorityDefault: 380, route.PriorityLow: 800})
	p := w.compile()
	low, _ := held(p, route.PriorityLow, 2000)
	def, _ := held(p, route.PriorityDefault, 2000)
	critical, last := held(p, route.PriorityCritical, 2000)
	// ln(1e-3)/ln(475/950) = 9.97, ln(1e-3)/ln(95/950) = 3.
	if low[string(own)] != 950-10 || def[string(own)] != 7 || critical[string(own)] != 3 || last.Status != route.Shed {
		t.Errorf("low %v, default %v, critical %v, then %s", low, def, critical, last.Status)
	}
	l := p.Explain(route.Request{Service: billing, Priority: route.PriorityLow})
	if l.Demand == nil || l.Demand.ExpectedShed != (route.ByPriority{route.PriorityLow: 325}) || l.Demand.Taken[0] != 950 {
		t.Errorf("demand %+v", l.Demand)
	}
	if text, err := json.Marshal(l.Request); err != nil || !strings.Contains(string(text), `"priority":"low"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// A decision that met full candidates is repeated exactly, long after they have room.
func TestReplayOfADecisionThatMetFullCandidates(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, alg := range []policy.Algorithm{policy.P2C, policy.RoundRobin, policy.Random, policy.LeastRequest} {
		w := newWorld().local("az1", 2).policy(policy.Traffic{Algorithm: alg, Capacity: &policy.Capacity{PerEndpoint: 20}})
		for i := range 12 {
			c := catalog.ClusterName(fmt.Sprintf("p%d", i))
			w.peer(string(c), "gcp", time.Millisecond, 3, 3).graded(c, 30, route.Graded{Any: uint64(rnd.IntN(5)), Default: uint64(rnd.IntN(3)), Critical: uint64(rnd.IntN(3))})
		}
		p := w.compile()
		type decision struct {
			choice route.Choice
			record route.Record
		}
		var made []decision
		for range 400 {
			r := request(rnd.Int())
			r.Priority = route.Priority(rnd.IntN(route.Priorities))
			c, rec := p.Pick(r)
			made = append(made, decision{c, rec})
			if c.Status == route.OK && rnd.IntN(3) > 0 {
				c.Counters.Begin(0)
				if c.ZoneCounters != nil {
					c.ZoneCounters.Begin(0)
				}
			}
		}
		shed := 0
		for _, d := range made {
			l := p.Replay(d.record)
			if l.Status != d.choice.Status || d.choice.Status == route.OK && l.Choice.Cluster != d.choice.Target.Cluster {
				t.Fatalf("%s: chose %s %s, replayed as %s %+v", alg, d.choice.Status, d.choice.Target.Cluster, l.Status, l.Choice)
			}
			if d.choice.Status == route.Shed {
				shed++
			}
		}
		if shed == 0 {
			t.Errorf("%s: nothing was shed", alg)
		}
	}
}

func TestExpected(t *testing.T) {
	demand := route.ByPriority{route.PriorityCritical: 50, route.PriorityDefault: 60, route.PriorityLow: 30}
	taken, shed := route.Expected(demand, []route.TierRoom{{Slots: route.Graded{Any: 80}}, {}, {Slots: route.Graded{Any: 25}}})
	if taken[0] != 80 || taken[1] != 0 || taken[2] != 25 || shed != (route.ByPriority{route.PriorityDefault: 5, route.PriorityLow: 30}) {
		t.Errorf("%v, %v", taken, shed)
	}
	if taken, shed = route.Expected(demand, []route.TierRoom{{Slots: route.Graded{Any: 10}}, {Unknown: true}}); taken[1] != 130 || shed.Sum() != 0 {
		t.Errorf("unknown behind: %v, %v", taken, shed)
	}
}

func BenchmarkPickGated(b *testing.B) {
	for _, full := range []bool{false, true} {
		b.Run(fmt.Sprintf("full=%v", full), func(b *testing.B) {
			w := thousand("clusters", policy.P2C)
			for i := range w.table.Peers {
				w.granted(w.table.Peers[i].Name, 100, map[bool]uint64{false: 50, true: 0}[full])
			}
			p := w.compile()
			r := request(0)
			b.ReportAllocs()
			for b.Loop() {
				r.Random++
				p.Pick(r)
			}
		})
	}
}

// What a gateway reports of its slots lets its federation explain as the gateway does.
func TestReportCarriesCapacities(t *testing.T) {
	w := newWorld().local("az1", 1).local("az2", 1).peer("b", "gcp", 5*time.Millisecond, 9, 9).
		policy(policy.Traffic{Capacity: &policy.Capacity{PerEndpoint: 20}}).graded("b", 900, route.Graded{Any: 7, Default: 2, Critical: 4}).wanted(route.ByPriority{1, 9, 90})
	te := w.evidence.Targets[target(own)]
	te.Share = 0.5
	w.evidence.Targets[target(own)] = te
	p := w.compile()
	for i := range 24 {
		c, _ := p.Pick(request(i))
		if c.Status != route.OK {
			break
		}
		c.Counters.Begin(0)
		if c.ZoneCounters != nil {
			c.ZoneCounters.Begin(0)
			c.EndpointCounters.Begin(0)
		}
		var r route.Report
		r.At, r.Locality = w.evidence.Now, w.evidence.Self
		r.Fill(w.evidence, w.live, epoch.UnixNano())
		wire, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		var back route.Report
		if err := json.Unmarshal(wire, &back); err != nil {
			t.Fatal(err)
		}
		e, live := route.EvidenceFromReport(&back)
		here, _ := json.Marshal(p.Explain(*request(i + 1)))
		there, _ := json.Marshal(route.Compile(w.table, e, live).Explain(*request(i + 1)))
		if string(here) != string(there) {
			t.Fatalf("after %d calls the gateway says\n%s\nits federation\n%s", i+1, here, there)
		}
	}
}
