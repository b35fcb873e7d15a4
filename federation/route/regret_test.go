package route_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// model chooses as a gateway does: a plan by what is told each second, and counters.
type model struct {
	w       *world
	plan    *route.Plan
	random  *rand.Rand
	unsized bool
	open    map[int64]opened
}

type opened struct {
	choice     route.Choice
	prediction route.Prediction
}

func newModel(sc *scene) *model {
	m := &model{w: newWorld(), random: rand.New(rand.NewPCG(7, 7)), unsized: sc.unsized, open: make(map[int64]opened)}
	for _, s := range sc.sites {
		m.w.peer(string(s.name), "gcp", time.Duration(s.rtt(0)*1e9), uint32(s.servers), uint32(s.servers))
	}
	return m
}

func (m *model) refresh(now float64, states []*siteState) {
	at := nanos(now)
	m.w.evidence.Now = time.Unix(0, at)
	for _, s := range states {
		m.w.link(s.name, func(l *route.LinkEvidence) {
			l.RTT, l.Distance = time.Duration(s.rtt(now)*1e9), 30*time.Millisecond
			l.BandwidthOut, l.BandwidthIn = uint64(s.known.out), uint64(s.known.in)
		})
		ours := float64(m.w.live.Target(target(s.name)).InFlight())
		s.load += (max(0, float64(s.inside(now))-ours) - s.load) / 4 // as a board does
		m.w.target(s.name, route.TargetEvidence{Processing: s.forecast.Processing(at), Others: uint64(s.load + 0.5)})
	}
	m.plan = m.w.compile()
}

func (m *model) pick(now int64, d demand, states []*siteState) int {
	r := &route.Request{Service: billing, Random: m.random.Uint64(), NowNanos: now, Bytes: int64(d.out)}
	if m.unsized {
		r.Bytes = 0
	}
	c, rec := m.plan.Pick(r)
	p := c.Predict(&rec)
	c.Begin(now, &p, &rec)
	m.open[now] = opened{c, p}
	for i, s := range states {
		if s.name == c.Target.Cluster {
			return i
		}
	}
	panic(c.Status)
}

func (m *model) end(_ int, now int64, first, whole time.Duration, d demand) {
	began := nanos(d.at)
	o := m.open[began]
	delete(m.open, began)
	o.choice.Counters.Correct(now, &o.prediction, first)
	o.choice.Forecast.Observe(now, &o.prediction, first)
	o.choice.Forecast.ObserveWhole(now, &o.prediction, whole)
	o.choice.Counters.End(now, first, true)
	o.choice.End()
	o.choice.Sizes.Observe(now, int64(d.out), int64(d.in))
}

// tower is tower's peak EWMA with the power of two choices.
type tower struct {
	counters []route.Counters
	random   *rand.Rand
}

func (t *tower) refresh(float64, []*siteState) {}

func (t *tower) pick(now int64, _ demand, states []*siteState) int {
	n := len(states)
	a := t.random.IntN(n)
	b := (a + 1 + t.random.IntN(n-1)) % n
	cost := func(i int) float64 {
		e := t.counters[i].EWMA(now)
		if t.counters[i].Requests() == 0 {
			e = 30 * time.Millisecond // Linkerd's default_rtt
		}
		return float64(e) * float64(t.counters[i].InFlight()+1)
	}
	if cost(b) < cost(a) {
		a = b
	}
	t.counters[a].Begin(now)
	return a
}

func (t *tower) end(i int, now int64, _, whole time.Duration, _ demand) {
	t.counters[i].End(now, whole, true)
}

// fixed chooses by a rule that learns nothing.
type fixed func(now float64, d demand, states []*siteState) int

func (f fixed) refresh(float64, []*siteState)                        {}
func (f fixed) end(int, int64, time.Duration, time.Duration, demand) {}
func (f fixed) pick(now int64, d demand, states []*siteState) int    { return f(d.at, d, states) }

func least(states []*siteState, of func(*siteState) float64) int {
	best := 0
	for i, s := range states {
		if of(s) < of(states[best]) {
			best = i
		}
	}
	return best
}

func always(v float64) func(float64) float64 { return func(float64) float64 { return v } }

// step is a value that changes at a time, and back.
func step(before, after, from, until float64) func(float64) float64 {
	return func(at float64) float64 {
		if at >= from && at < until {
			return after
		}
		return before
	}
}

func scenes() []scene {
	const ms, mb = 1e-3, 1e6
	near := func(name string) site {
		return site{name: catalog.ClusterName(name), rtt: always(30 * ms), out: always(50 * mb), in: always(50 * mb), processing: always(12 * ms), servers: 8, others: 150}
	}
	with := func(s site, change func(*site)) site { change(&s); return s }
	small := func(r *rand.Rand) float64 { return heavy(r, 600, 20e3) }
	return []scene{
		{
			name: "heavy-tailed sizes, one thin link", rate: 60, seconds: 120,
			out: func(r *rand.Rand) float64 { return heavy(r, 2e3, 4e6) }, in: small,
			sites: []site{
				with(near("b"), func(s *site) { s.rtt, s.out = always(20*ms), always(2*mb) }),
				with(near("c"), func(s *site) { s.rtt = always(38 * ms) }),
			},
		},
		{
			name: "changing round trips", rate: 100, seconds: 120, out: small, in: small,
			sites: []site{
				with(near("b"), func(s *site) { s.rtt = step(20*ms, 90*ms, 30, 70) }),
				with(near("c"), func(s *site) { s.rtt = step(40*ms, 25*ms, 50, 100) }),
				with(near("d"), func(s *site) { s.rtt = always(45 * ms) }),
			},
		},
		{
			name: "a link that congests, answers of 300 kB", rate: 40, seconds: 120, out: small,
			in: func(r *rand.Rand) float64 { return heavy(r, 100e3, 3e6) },
			sites: []site{
				with(near("b"), func(s *site) { s.in = step(60*mb, 8*mb, 40, 80) }),
				with(near("c"), func(s *site) { s.rtt = always(45 * ms) }),
			},
		},
		{
			name: "processing slows down at one cluster", rate: 150, seconds: 120, out: small, in: small,
			sites: []site{
				with(near("b"), func(s *site) { s.rtt, s.processing = always(20*ms), step(10*ms, 40*ms, 40, 80) }),
				near("c"),
				with(near("d"), func(s *site) { s.rtt = always(40 * ms) }),
			},
		},
		{
			name: "others fill the nearest", rate: 100, seconds: 120, out: small, in: small,
			sites: []site{
				with(near("b"), func(s *site) { s.rtt, s.others = always(10*ms), 430 }),
				with(near("c"), func(s *site) { s.rtt = always(35 * ms) }),
				with(near("d"), func(s *site) { s.rtt, s.servers, s.others = always(25*ms), 3, 150 }),
			},
		},
		{
			name: "sizes that requests do not tell", rate: 60, seconds: 120, unsized: true,
			out: func(r *rand.Rand) float64 { return heavy(r, 20e3, 1e6) }, in: small,
			sites: []site{
				with(near("b"), func(s *site) { s.rtt, s.out = always(15*ms), always(3*mb) }),
				with(near("c"), func(s *site) { s.rtt = always(40 * ms) }),
			},
		},
	}
}

// mostRegret is what the mission allows.
const mostRegret = 0.10

// mostUnsized is what is allowed where requests do not say their size, beyond what the
// best choice for a call of mean size has.
const mostUnsized = 0.12

// TestRegret: the delay model against an oracle that knows what each choice would
// take in the same state, on the scenes above. Run it with -v for the table:
//
//	go test ./federation/route -run TestRegret -v
func TestRegret(t *testing.T) {
	names := []string{"model", "peak EWMA, two choices", "round robin", "nearest"}
	for _, sc := range scenes() {
		t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) {
			const seeds = 3
			mean := make([]verdict, len(names))
			for seed := range uint64(seeds) {
				turn := 0
				for k, c := range []chooser{
					newModel(&sc),
					&tower{counters: make([]route.Counters, len(sc.sites)), random: rand.New(rand.NewPCG(seed, 3))},
					fixed(func(_ float64, _ demand, s []*siteState) int { turn++; return turn % len(s) }),
					fixed(func(now float64, _ demand, s []*siteState) int {
						return least(s, func(x *siteState) float64 { return x.rtt(now) })
					}),
				} {
					v := sc.run(seed, c)
					mean[k].regret, mean[k].mean = mean[k].regret+v.regret/seeds, mean[k].mean+v.mean/seeds
					mean[k].blind += v.blind / seeds
					mean[k].worst = max(mean[k].worst, v.worst)
				}
			}
			var table strings.Builder
			for k, name := range names {
				fmt.Fprintf(&table, "; %s: regret %.1f %%, mean %.1f ms", name, 100*mean[k].regret, 1e3*mean[k].mean)
			}
			t.Logf("figure: %s: blind regret %.1f %%%s", sc.name, 100*mean[0].blind, table.String())
			// What a request does not say, the oracle knows and nobody else.
			regret, most := mean[0].regret, mostRegret
			if sc.unsized {
				regret, most = (1+regret)/(1+mean[0].blind)-1, mostUnsized
			}
			if regret > most {
				t.Errorf("a regret of %.1f %%, at most %.0f %% are allowed", 100*regret, 100*most)
			}
			for k := 1; k < len(names); k++ {
				if mean[0].mean > mean[k].mean*1.02 {
					t.Errorf("%s is faster: %.1f ms, the model takes %.1f", names[k], 1e3*mean[k].mean, 1e3*mean[0].mean)
				}
			}
		})
	}
}
