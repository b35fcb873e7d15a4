package route_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// drill puts a drill of the given share (of 10,000) into force.
func (w *world) drill(share uint32, down ...catalog.ClusterName) *world {
	w.table.Drill = &route.Drill{ID: "d1", Down: down, Share: share, Until: epoch.Add(time.Minute), For: time.Minute}
	w.live.Drills("d1", time.Time{})
	return w
}

// sides counts decisions by their part in the drill, and where the drilled went.
func sides(p *route.Plan, n int, change func(*route.Request)) (of map[route.DrillSide]int, to map[string]int) {
	of, to = map[route.DrillSide]int{}, map[string]int{}
	for i := range n {
		r := request(i)
		if change != nil {
			change(r)
		}
		c, _ := p.Pick(r)
		of[c.Drill]++
		if c.Drill == route.Drilled {
			to[word(c)]++
		}
	}
	return of, to
}

func TestADrillRoutesItsShareAsIfAPlaceWereLost(t *testing.T) {
	w := newWorld().local("az1", 2).peer("b", "aws/us-east-1", time.Millisecond, 2, 2).peer("c", "gcp/x", 20*time.Millisecond, 2, 2)
	w.drill(500, own)
	p := w.compile()
	const calls = 40_000
	of, to := sides(p, calls, nil)
	if got := float64(of[route.Drilled]) / calls; got < 0.045 || got > 0.055 || of[route.Drilled]+of[route.DrillControl] != calls {
		t.Errorf("a share of %.3f is drilled: %v", got, of)
	}
	if to["b"] != of[route.Drilled] {
		t.Errorf("the drilled go to %v, want b, the next tier", to)
	}
	// The others are routed as ever.
	for i := range 2000 {
		c, _ := p.Pick(request(i))
		if c.Drill == route.DrillControl && c.Target.Cluster != own {
			t.Fatalf("an undrilled call goes to %s", c.Target.Cluster)
		}
	}
}

func TestADrillOfATierSharesItsLoadAsTheLossWould(t *testing.T) {
	world := func() *world {
		return newWorld().peer("b", "gcp/x", 20*time.Millisecond, 2, 4).peer("c", "gcp/x", 20*time.Millisecond, 6, 6).peer("d", "azure/y", 90*time.Millisecond, 3, 3)
	}
	for name, atOnce := range map[string]bool{"at once": true, "settled": false} {
		drilled := world().drill(10_000, "c")
		drilled.table.Drill.AtOnce = atOnce
		lost := world().down("c")
		if !atOnce {
			lost.controlLost("c", epoch.Add(-time.Hour)).link("c", func(l *route.LinkEvidence) { l.Since = epoch.Add(-time.Hour) })
		}
		_, to := sides(drilled.compile(), 20_000, nil)
		want := count(lost.compile(), 20_000, nil)
		for _, c := range []string{"b", "c", "d"} {
			if diff := to[c] - want[c]; diff < -300 || diff > 300 {
				t.Errorf("%s: %s gets %d of 20,000 drilled calls, and %d when it happens", name, c, to[c], want[c])
			}
		}
	}
}

func TestADrillOfAZone(t *testing.T) {
	w := newWorld().local("az1", 3).local("az2", 3)
	w.drill(10_000)
	w.table.Drill.Zones = []catalog.Locality{here}
	_, to := sides(w.compile(), 1000, nil)
	for id, n := range to {
		if id[:3] != "az2" {
			t.Errorf("%d drilled calls go to %s", n, id)
		}
	}
	// Half of a peer's endpoints: the tier behind takes what that means at once.
	w = newWorld().peer("b", "gcp/x", 20*time.Millisecond, 4, 4).peer("d", "azure/y", 90*time.Millisecond, 4, 4)
	w.rows("b", catalog.SummaryRow{Port: "http", Zone: "z1", Ready: 2, Total: 2}, catalog.SummaryRow{Port: "http", Zone: "z2", Ready: 2, Total: 2})
	w.drill(10_000)
	w.table.Drill.Zones, w.table.Drill.AtOnce = []catalog.Locality{{Cloud: "gcp", Region: "x", Zone: "z1"}}, true
	_, to = sides(w.compile(), 10_000, nil)
	wantShare(t, to, map[string]float64{"b": 0.7, "d": 0.3}, 0.01)
}

// What must stay as it is, whatever is drilled.
func TestWhatADrillLeavesAlone(t *testing.T) {
	peers := func() *world {
		return newWorld().local("az1", 2).peer("b", "aws/us-east-1", time.Millisecond, 2, 2).peer("c", "gcp/x", 20*time.Millisecond, 2, 2)
	}
	for _, tt := range []struct {
		name   string
		world  *world
		change func(*route.Request)
		side   route.DrillSide
		spared string
		to     string
	}{
		{name: "an armed drill", world: peers().drill(10_000, own), side: route.Drilled, to: "b"},
		{name: "not armed", world: func() *world { w := peers().drill(10_000, own); w.live.Drills("", time.Time{}); return w }(), to: string(own)},
		{name: "another is armed", world: func() *world { w := peers().drill(10_000, own); w.live.Drills("d2", time.Time{}); return w }(), to: string(own)},
		{name: "its time is over by the own clock", world: func() *world { w := peers().drill(10_000, own); w.live.Drills("d1", epoch); return w }(), to: string(own)},
		{name: "its time is over", world: peers().drill(10_000, own), change: func(r *route.Request) { r.NowNanos = epoch.Add(time.Minute).UnixNano() }, to: string(own)},
		{name: "a retry", world: peers().drill(10_000, own), change: func(r *route.Request) { r.Again = true }, to: string(own)},
		{name: "a caller's pin", world: peers().drill(10_000, own), change: func(r *route.Request) { r.Pin = own }, to: string(own)},
		{name: "a switch of the gateway", world: func() *world {
			w := peers().drill(10_000, own)
			w.evidence.Switches = route.Switches{Pin: string(own)}
			return w
		}(), to: string(own)},
		{name: "another service", world: func() *world {
			w := peers().drill(10_000, own)
			w.table.Drill.Services = []catalog.ServiceName{catalog.MustServiceName("other.x")}
			return w
		}(), to: string(own)},
		{name: "a place that has no part", world: peers().drill(10_000, "z"), to: string(own)},
		{name: "what is lost anyway", world: peers().down("b").drill(10_000, own), side: route.Drilled, to: "c"},
		{
			name: "residency", world: peers().policy(policy.Traffic{Residency: &policy.Residency{Regions: []string{"aws/us-east-1"}}}).drill(10_000, own, "b"),
			side: route.DrillSpared, spared: "residency", to: string(own),
		},
		{
			name: "a policy's pin", world: peers().policy(policy.Traffic{Pin: own}).drill(10_000, own),
			side: route.DrillSpared, spared: "no_candidate", to: string(own),
		},
		{
			name: "failover off", world: peers().policy(policy.Traffic{DisableFailover: true}).drill(10_000, own),
			side: route.DrillSpared, spared: "no_candidate", to: string(own),
		},
		{
			name: "what would be panic", world: newWorld().local("az1", 2).peer("c", "gcp/x", time.Millisecond, 1, 4).drill(10_000, own),
			side: route.DrillSpared, spared: route.SparedPanic, to: string(own),
		},
		{
			name: "what is only coming back", side: route.DrillSpared, spared: route.SparedRamp, to: string(own),
			world: newWorld().local("az1", 2).peer("c", "gcp/x", time.Millisecond, 4, 4).
				target("c", route.TargetEvidence{Withheld: 1}).drill(10_000, own),
		},
		{
			name: "no room is granted", side: route.DrillSpared, spared: "shed", to: string(own),
			world: newWorld().local("az1", 2).peer("c", "gcp/x", time.Millisecond, 4, 4).
				target("c", route.TargetEvidence{Capacity: 400, GrantedUntil: epoch.Add(time.Second)}).drill(10_000, own),
		},
		{
			name: "a sticky call", world: peers().policy(policy.Traffic{Algorithm: policy.Maglev}).drill(10_000, own),
			change: func(r *route.Request) { r.Hash = 77 }, to: string(own),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.world.compile()
			r := request(1)
			if tt.change != nil {
				tt.change(r)
			}
			c, rec := p.Pick(r)
			if c.Drill != tt.side || c.Spared != tt.spared || string(c.Target.Cluster) != tt.to {
				t.Errorf("side %q, spared %q, to %q (%s)", c.Drill, c.Spared, c.Target.Cluster, c.Status)
			}
			for what, l := range map[string]*route.Ledger{"explained": p.Explain(*r), "replayed": p.Replay(rec)} {
				if (l.Drill == nil) != (tt.side == route.NotDrilled) {
					t.Fatalf("%s: drill %+v", what, l.Drill)
				}
				if l.Drill != nil && (l.Drill.ID != "d1" || l.Drill.Side != tt.side || l.Drill.Spared != tt.spared || l.Drill.Share != 100) {
					t.Errorf("%s: drill %+v", what, l.Drill)
				}
				if l.Choice == nil || string(l.Choice.Cluster) != tt.to {
					t.Errorf("%s: %+v", what, l.Choice)
				}
			}
		})
	}
	// Calls that peers bring are theirs to drill.
	w := peers().drill(10_000, own)
	w.service().ExportedTo = []catalog.ClusterName{"b"}
	if c, _ := w.compile().PickLocal(request(0)); c.Status != route.OK || c.Drill != route.NotDrilled {
		t.Errorf("a peer's call: %s, %q", c.Status, c.Drill)
	}
}

func TestTheLedgerNamesTheDrill(t *testing.T) {
	w := newWorld().local("az1", 2).peer("b", "aws/us-east-1", time.Millisecond, 2, 2).drill(10_000, own)
	l := w.compile().Explain(*request(0))
	if got := reasons(l); got[string(own)] != route.InDrill {
		t.Errorf("the own cluster is excluded by %q", got[string(own)])
	}
	const want = "; drill d1 routes it as if aws-east were lost"
	if len(l.Why) < len(want) || l.Why[len(l.Why)-len(want):] != want {
		t.Errorf("why: %s", l.Why)
	}
}

func TestADrillsLimits(t *testing.T) {
	good := route.Drill{ID: "d", Down: []catalog.ClusterName{"b"}, Share: 500, Until: epoch, For: time.Minute}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*route.Drill){
		"no id":      func(d *route.Drill) { d.ID = "" },
		"nothing":    func(d *route.Drill) { d.Down = nil },
		"no share":   func(d *route.Drill) { d.Share = 0 },
		"more":       func(d *route.Drill) { d.Share = 10_001 },
		"no end":     func(d *route.Drill) { d.Until = time.Time{} },
		"no length":  func(d *route.Drill) { d.For = 0 },
		"too long":   func(d *route.Drill) { d.For = 25 * time.Hour },
		"half zone":  func(d *route.Drill) { d.Zones = []catalog.Locality{{Cloud: "aws"}} },
		"many":       func(d *route.Drill) { d.Down = make([]catalog.ClusterName, route.MaxDrilled+1) },
		"a long id":  func(d *route.Drill) { d.ID = string(make([]byte, 65)) },
		"many gates": func(d *route.Drill) { d.Members = make([]route.DrillMember, 257) },
	} {
		bad := good
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s is valid", name)
		}
		table := *newWorld().table
		table.Drill = &bad
		if table.Validate() == nil {
			t.Errorf("a table with a drill of %s is valid", name)
		}
	}
	started := epoch.Add(-time.Hour)
	good.Members = []route.DrillMember{{Gateway: "gw-1", StartedAt: started}}
	if !good.Has("gw-1", started.Local()) || good.Has("gw-1", started.Add(1)) || good.Has("gw-2", started) {
		t.Error("who takes part is not who was named")
	}
	if d := route.DiffTables(&route.Table{}, &route.Table{Drill: &good}); !d.Drill || d.IsEmpty() {
		t.Error("a drill that begins is no difference between tables")
	}
}

// Whatever the world is: a drill takes no call away, sends none where rules forbid it, none
// to what counts as lost, none beyond a closed gate, moves nothing that is not of its
// share, and every decision can be repeated.
func TestDrillProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		before := route.Compile(w.table, w.evidence, w.live)
		names := []catalog.ClusterName{own}
		for i := range w.table.Peers {
			names = append(names, w.table.Peers[i].Name)
		}
		down := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 2, func(c catalog.ClusterName) catalog.ClusterName { return c }).
			Filter(func(l []catalog.ClusterName) bool { return len(l) > 0 }).Draw(t, "down")
		share := rapid.Uint32Range(1, 10_000).Draw(t, "share")
		w.drill(share, down...)
		w.table.Drill.AtOnce = rapid.Bool().Draw(t, "at once")
		p := w.compile()
		const calls = 150
		of := 0
		for i := range calls {
			r := request(i)
			plain := before.Explain(*r) // which takes no turn and no probation
			c, rec := p.Pick(r)
			switch c.Drill {
			case route.Drilled:
				of++
				if c.Status != route.OK || c.Mode != route.Normal {
					t.Fatalf("a drilled call ends with %s, mode %v", c.Status, c.Mode)
				}
				if slices.Contains(down, c.Target.Cluster) {
					t.Fatalf("a drilled call goes to %s, which counts as lost", c.Target.Cluster)
				}
				traffic := p.Traffic(billing)
				if traffic.Pin != "" && c.Target.Cluster != traffic.Pin {
					t.Fatalf("a drilled call goes to %s, and the policy pins to %s", c.Target.Cluster, traffic.Pin)
				}
			case route.DrillSpared:
				of++
				fallthrough
			default:
				if plain.Status != c.Status || c.Status == route.OK && plain.Choice.Cluster != c.Target.Cluster {
					t.Fatalf("side %q: %s %s, and without a drill %s %+v", c.Drill, c.Status, c.Target.Cluster, plain.Status, plain.Choice)
				}
			}
			l := p.Replay(rec)
			if l.Status != c.Status || l.Mode != c.Mode || c.Status == route.OK && (l.Choice.Cluster != c.Target.Cluster || c.Endpoint != nil && l.Choice.Endpoint != c.Endpoint.ID) {
				t.Fatalf("side %q: chose %s %s, its replay %s %+v", c.Drill, c.Status, c.Target.Cluster, l.Status, l.Choice)
			}
		}
		// Four standard deviations, and a call.
		if most := float64(share)/10_000*calls + 4*6.2 + 1; float64(of) > most {
			t.Fatalf("%d of %d calls are of a share of %d/10,000", of, calls, share)
		}
	})
}

func BenchmarkPickInADrill(b *testing.B) {
	w := newWorld().local("az1", 20).peer("b", "aws/us-east-1", time.Millisecond, 2, 2).peer("c", "gcp/x", 20*time.Millisecond, 2, 2).drill(500, own)
	p := w.compile()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := request(i)
		p.Pick(r)
	}
}

func TestPickInADrillAllocatesNothing(t *testing.T) {
	p := newWorld().local("az1", 2).peer("b", "aws/us-east-1", time.Millisecond, 2, 2).drill(5000, own).compile()
	r := request(0)
	if n := testing.AllocsPerRun(2000, func() { r.Random += 0x9e3779b97f4a7c15; p.Pick(r) }); n > 0 {
		t.Errorf("%.1f allocations a decision", n)
	}
}
