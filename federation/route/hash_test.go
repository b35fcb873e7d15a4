package route_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

var hashes = []policy.Algorithm{policy.RingHash, policy.Maglev}

func sticky(a policy.Algorithm, change ...func(*policy.Traffic)) policy.Traffic {
	t := policy.Traffic{Algorithm: a, Sticky: []policy.StickyKey{{Header: "X-User"}}}
	for _, f := range change {
		f(&t)
	}
	return t
}

func unbounded(t *policy.Traffic) { t.Hashing = &policy.Hashing{BoundPercent: new(uint32(0))} }

// equals is n peers in one place, beside each other in one tier.
func equals(n int) *world {
	w := newWorld()
	for i := range n {
		w.peer(fmt.Sprintf("c%03d", i), "gcp/us-east4", 5*time.Millisecond, 4, 4)
	}
	return w
}

func key(n int) uint64 { return route.HashKey("header", fmt.Sprintf("user-%d", n)) }

// where is the place of each of n keys.
func where(p *route.Plan, n int, change func(*route.Request)) []string {
	out := make([]string, n)
	for i := range out {
		r := request(i)
		r.Hash = key(i)
		if change != nil {
			change(r)
		}
		c, _ := p.Pick(r)
		out[i] = word(c)
	}
	return out
}

// moved is the part of keys that changed place, without those of gone.
func moved(before, after []string, gone string) (ofOthers float64) {
	n := 0
	for i := range before {
		if before[i] != after[i] && before[i] != gone {
			n++
		}
	}
	return float64(n) / float64(len(before))
}

func tally(words []string) map[string]int {
	out := map[string]int{}
	for _, w := range words {
		out[w]++
	}
	return out
}

func TestOneKeyGoesToOnePlace(t *testing.T) {
	for _, a := range hashes {
		w := equals(7).policy(sticky(a))
		p := w.compile()
		first := where(p, 2000, nil)
		again := where(w.compile(), 2000, func(r *route.Request) { r.Random, r.NowNanos = r.Random*3, r.NowNanos+1e12 })
		if m := moved(first, again, ""); m > 0 {
			t.Errorf("%s: %.3f of keys moved without a cause", a, m)
		}
		// Another process, with counters of its own, agrees.
		w.live = route.NewLive()
		if m := moved(first, where(w.compile(), 2000, nil), ""); m > 0 {
			t.Errorf("%s: another gateway sends %.3f of keys elsewhere", a, m)
		}
	}
}

func TestKeysAreSpreadByWeights(t *testing.T) {
	const n = 200_000
	for _, a := range hashes {
		for _, clusters := range []int{2, 7, 40} {
			w := equals(clusters)
			sum := 0.0
			for i := range w.service().Remote {
				total := uint32(1 + i%3)
				w.service().Remote[i].Rows[0].Ready, w.service().Remote[i].Rows[0].Total = total, total
				sum += float64(total)
			}
			// A large table is exact, the ring's shares spread by about 1/sqrt(entries each).
			w.policy(sticky(a, unbounded, func(t *policy.Traffic) { t.Hashing.MinRingSize, t.Hashing.TableSize = 65536, 65537 }))
			got := tally(where(w.compile(), n, nil))
			for i := range w.service().Remote {
				r := w.service().Remote[i]
				want := float64(r.Rows[0].Total) / sum
				have := float64(got[string(r.Cluster)]) / n
				tolerance := 0.02*want + 3*math.Sqrt(want/n)
				if a == policy.RingHash {
					tolerance += 4 * want / math.Sqrt(want*65536)
				}
				if math.Abs(have-want) > tolerance {
					t.Errorf("%s of %d: %s has %.4f of keys, want %.4f +- %.4f", a, clusters, r.Cluster, have, want, tolerance)
				}
			}
		}
	}
}

// Of n places one is taken away: a ring moves that one's keys and no others; maglev
// moves a few more (Eisenbud et al., figure 12: below 3 % for tables a hundred times
// the places).
func TestRemovalDisruptsLittle(t *testing.T) {
	const n = 50_000
	for _, clusters := range []int{3, 10, 50} {
		for _, a := range hashes {
			policyOf := sticky(a, unbounded, func(t *policy.Traffic) { t.Hashing.MinRingSize = 16384 })
			before := where(equals(clusters).policy(policyOf).compile(), n, nil)
			less := equals(clusters).policy(policyOf)
			gone := string(less.service().Remote[1].Cluster)
			less.service().Remote = append(less.service().Remote[:1:1], less.service().Remote[2:]...)
			after := where(less.compile(), n, nil)
			others := moved(before, after, gone)
			all := moved(before, after, "")
			t.Logf("figure: %s, 1 of %d taken away: %.2f %% of keys moved, %.2f %% of those of others", a, clusters, 100*all, 100*others)
			most := 0.0
			if a == policy.Maglev {
				most = 0.03
			}
			// A ring's size follows the number of places: that of the rest is the same here.
			if others > most+0.0001 {
				t.Errorf("%s of %d: %.4f of the others' keys moved, want at most %.4f", a, clusters, others, most)
			}
			if limit := 1/float64(clusters) + 0.02 + most; all > limit {
				t.Errorf("%s of %d: %.4f of keys moved, want at most %.4f", a, clusters, all, limit)
			}
		}
	}
}

// Who is out keeps its keys: only they move, and they come back.
func TestSicknessMovesOnlyTheKeysOfTheSick(t *testing.T) {
	const n = 20_000
	for _, a := range hashes {
		w := newWorld().local("az1", 4).local("az2", 4).policy(sticky(a))
		before := where(w.compile(), n, nil)
		w.sick("az1-2")
		during := where(w.compile(), n, nil)
		if m := moved(before, during, "az1-2"); m > 0 {
			t.Errorf("%s: %.4f of the others' keys moved", a, m)
		}
		if tally(during)["az1-2"] > 0 {
			t.Errorf("%s: the sick one is chosen", a)
		}
		// Its keys are spread over all the others.
		extra := map[string]int{}
		for i := range before {
			if before[i] == "az1-2" {
				extra[during[i]]++
			}
		}
		if len(extra) != 7 {
			t.Errorf("%s: its keys went to %v", a, extra)
		}
		delete(w.evidence.Endpoints, endpointKey("az1-2"))
		if m := moved(before, where(w.compile(), n, nil), ""); m > 0 {
			t.Errorf("%s: %.4f of keys did not come back", a, m)
		}

		c := equals(6).policy(sticky(a))
		before = where(c.compile(), n, nil)
		c.down("c003")
		if m := moved(before, where(c.compile(), n, nil), "c003"); m > 0 {
			t.Errorf("%s: %.4f of the other clusters' keys moved", a, m)
		}
	}
}

// The others of a cluster take over for an endpoint that it has lost, so that the keys of
// those stay. Only when more than that are lost do some of its keys leave.
func TestKeysStayWhileAClusterIsNearlyWhole(t *testing.T) {
	const n = 20_000
	for _, a := range hashes {
		w := equals(4).policy(sticky(a))
		before := where(w.compile(), n, nil)
		for ready, leave := range map[uint32]float64{3: 0, 2: 0.3, 1: 0.65} {
			w.target("c001", route.TargetEvidence{Reported: true, Ready: ready, Total: 4, ReportedAt: epoch})
			after := where(w.compile(), n, nil)
			if m := moved(before, after, "c001"); m > 0 {
				t.Errorf("%s: %.4f of the other clusters' keys moved", a, m)
			}
			was, is := tally(before)["c001"], tally(after)["c001"]
			if got := 1 - float64(is)/float64(was); math.Abs(got-leave) > 0.02 {
				t.Errorf("%s: with %d of 4 ready %.3f of its keys leave, want %.2f", a, ready, got, leave)
			}
		}
	}
}

// A ramp gives back the keys that were there before, and with each step more of them.
func TestARampGivesKeysBackStepByStep(t *testing.T) {
	const n = 20_000
	for _, a := range hashes {
		w := equals(5).policy(sticky(a, unbounded))
		home := where(w.compile(), n, nil)
		var last []string
		for _, withheld := range []float64{1, 0.9, 0.5, 0.1, 0} {
			w.target("c002", route.TargetEvidence{Withheld: withheld})
			now := where(w.compile(), n, nil)
			back := 0
			for i := range now {
				if now[i] == "c002" && home[i] != "c002" {
					t.Fatalf("%s: a key of %s went to the one that ramps", a, home[i])
				}
				if home[i] == "c002" && now[i] == "c002" {
					back++
				} else if last != nil && last[i] == "c002" {
					t.Fatalf("%s: a key left while the ramp went up", a)
				}
			}
			want := (1 - withheld) * float64(tally(home)["c002"])
			if math.Abs(float64(back)-want) > 0.03*float64(tally(home)["c002"])+1 {
				t.Errorf("%s: at %.0f %% of the ramp %d keys are back, want %.0f", a, 100*(1-withheld), back, want)
			}
			last = now
		}
	}
}

// Of the same key the cluster that hosts the service chooses the same endpoint,
// whether its own caller asks or a peer's, in whatever zone the gateway is.
func TestBothEndsAgreeOnTheEndpoint(t *testing.T) {
	for _, a := range hashes {
		w := newWorld().local("az1", 5).local("az2", 5).peer("b", "gcp/us-east4", time.Millisecond, 0, 1).policy(sticky(a))
		w.service().ExportedTo = []catalog.ClusterName{"b"}
		near := w.compile()
		w.evidence.Self = here.WithZone("az2")
		other := w.compile()
		for i := range 2000 {
			r := request(i)
			r.Hash = key(i)
			c1, _ := near.Pick(r)
			c2, _ := near.PickLocal(r)
			c3, _ := other.PickLocal(r)
			if c1.Endpoint == nil || c1.Endpoint != c2.Endpoint || c1.Endpoint.ID != c3.Endpoint.ID {
				t.Fatalf("%s, key %d: %v, %v, %v", a, i, word(c1), word(c2), word(c3))
			}
		}
	}
	// A cluster whose own policy hashes nothing keeps the calls of peers together anyway.
	w := newWorld().local("az1", 5).local("az2", 5).peer("b", "gcp/us-east4", time.Millisecond, 0, 1)
	w.service().ExportedTo = []catalog.ClusterName{"b"}
	p := w.compile()
	used := map[string]int{}
	for i := range 1000 {
		r := request(i)
		r.Hash = key(i % 100)
		c, rec := p.PickLocal(r)
		again, _ := p.PickLocal(&route.Request{Service: billing, Hash: key(i % 100), Random: 1, NowNanos: r.NowNanos})
		if word(c) != word(again) {
			t.Fatalf("key %d: %s, then %s", i%100, word(c), word(again))
		}
		if l := p.Replay(rec); l.Choice == nil || l.Choice.Endpoint != word(c) {
			t.Fatalf("replayed %+v", l.Choice)
		}
		used[word(c)]++
	}
	if len(used) != 10 {
		t.Errorf("used %v", used)
	}
}

// No place has more than ceil(bound x average) calls in progress, whatever the keys.
func TestBoundedLoads(t *testing.T) {
	for _, a := range hashes {
		for _, places := range []int{3, 20, 200} { // 200 are counted together
			for _, bound := range []uint32{101, 125, 200} {
				w := newWorld().local("az1", places).policy(sticky(a, func(t *policy.Traffic) {
					t.Hashing = &policy.Hashing{BoundPercent: &bound, BoundLeast: 1, TableSize: 65537}
				}))
				p := w.compile()
				for i := range 1000 { // calls that have ended count no more, however they did
					c, _ := p.Pick(request(i))
					c.EndpointCounters.Begin(0)
					end := []func(){
						func() { c.EndpointCounters.End(0, time.Millisecond, true) },
						func() { c.EndpointCounters.End(0, time.Millisecond, false) },
						func() { c.EndpointCounters.Refuse(0, time.Millisecond, 0) },
						c.EndpointCounters.Cancel,
					}
					end[i%len(end)]()
				}
				loads := map[string]int64{}
				var open []*route.Counters
				for i := range 3000 {
					r := request(i)
					r.Hash = key(i % 5) // five keys for all
					c, rec := p.Pick(r)
					if c.Status != route.OK {
						t.Fatal(c.Status)
					}
					c.EndpointCounters.Begin(r.NowNanos)
					c.Counters.Begin(r.NowNanos)
					loads[c.Endpoint.ID]++
					open = append(open, c.EndpointCounters)
					most := int64(math.Ceil(float64(bound) / 100 * float64(len(open)) / float64(places)))
					if n := c.EndpointCounters.InFlight(); n > most {
						t.Fatalf("%s, %d places, bound %d: %s has %d of %d calls, at most %d", a, places, bound, c.Endpoint.ID, n, len(open), most)
					}
					if i%500 == 0 {
						if l := p.Replay(rec); l.Choice == nil || l.Choice.Endpoint != c.Endpoint.ID {
							t.Fatalf("replayed %+v, was %s", l.Choice, c.Endpoint.ID)
						}
					}
				}
				for _, c := range open {
					c.Cancel()
				}
			}
		}
	}
}

func TestLedgerOfAKey(t *testing.T) {
	w := newWorld().local("az1", 3).policy(sticky(policy.Maglev, func(t *policy.Traffic) { t.Hashing = &policy.Hashing{BoundLeast: 1} }))
	p := w.compile()
	r := request(1)
	r.Hash = key(1)
	home, _ := p.Pick(r)
	for range 5 { // its home is full
		home.EndpointCounters.Begin(r.NowNanos)
	}
	w.sick() // no change
	c, rec := p.Pick(r)
	l := p.Replay(rec)
	if c.Endpoint.ID == home.Endpoint.ID || l.Choice.Endpoint != c.Endpoint.ID {
		t.Fatalf("chose %s, replayed %s, home %s", c.Endpoint.ID, l.Choice.Endpoint, home.Endpoint.ID)
	}
	h := l.Draws[len(l.Draws)-1].Hash
	if h == nil || !h.Keyed || h.Walked == 0 || len(h.Passed) == 0 || h.Passed[0] != (route.LedgerPass{Name: home.Endpoint.ID, Reason: route.PassedFull}) ||
		h.InProgress != 5 || h.Bound != 3 || h.Entries != 2039 {
		t.Errorf("%+v", h)
	}
	if l.Request.Hash != r.Hash || l.Policy.Hashing == nil || len(l.Policy.Sticky) != 1 {
		t.Errorf("%+v, %+v", l.Request, l.Policy)
	}
	w.sick(home.Endpoint.ID)
	l = w.compile().Explain(*r)
	if h := l.Draws[len(l.Draws)-1].Hash; len(h.Passed) == 0 || h.Passed[0].Reason != route.PassedOut {
		t.Errorf("%+v", h)
	}
}

// Calls without a key are spread by weights, and bounded like the others.
func TestCallsWithoutAKey(t *testing.T) {
	for _, a := range hashes {
		w := newWorld().local("az1", 4).policy(sticky(a, func(t *policy.Traffic) { t.Hashing = &policy.Hashing{MinRingSize: 65536, TableSize: 65537} }))
		w.service().Endpoints[0].Weight = 5
		wantShare(t, count(w.compile(), 50_000, nil), map[string]float64{"az1-0": 0.625, "az1-1": 0.125, "az1-2": 0.125, "az1-3": 0.125}, 0.015)
	}
}

// The load of tiers is a matter of keys too: with a tier half gone, the same keys go
// to the next one.
func TestTiersAreDrawnByKeys(t *testing.T) {
	w := newWorld().local("az1", 4).peer("b", "gcp/us-east4", time.Millisecond, 4, 4).policy(sticky(policy.Maglev)).sick("az1-0", "az1-1")
	p := w.compile()
	first := where(p, 5000, nil)
	if m := moved(first, where(p, 5000, func(r *route.Request) { r.Random++ }), ""); m > 0 {
		t.Errorf("%.3f of keys moved", m)
	}
	if got := float64(tally(first)["b"]) / 5000; math.Abs(got-0.3) > 0.03 {
		t.Errorf("%.3f of keys went to the next tier", got)
	}
	w.sick("az1-2") // health falls: keys leave, none comes
	for i, now := range where(w.compile(), 5000, nil) {
		if first[i] == "b" && now != "b" {
			t.Fatalf("key %d came back to a tier that got worse", i)
		}
	}
}
