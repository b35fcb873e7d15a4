package spare_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/spare"
)

var epoch = time.Unix(1_800_000_000, 0)

func wishes(wants ...uint64) (list []spare.Wish) {
	for i, w := range wants {
		list = append(list, spare.Wish{Peer: spare.Peer{Cluster: "c", Gateway: fmt.Sprint(i)}, Want: [route.Priorities]uint64{w}, Most: route.PriorityCritical})
	}
	return list
}

// plain is what is to spare for calls of every priority.
func plain(n uint64) route.Graded { return route.Graded{Any: n} }

func low(grants []route.Graded) (out []uint64) {
	for _, g := range grants {
		out = append(out, g.UpTo(route.PriorityLow))
	}
	return out
}

func TestDivideIsFair(t *testing.T) {
	for _, c := range []struct {
		spare uint64
		wants []uint64
		want  []uint64
	}{
		{90, []uint64{10, 100, 100}, []uint64{10, 40, 40}},
		{100, []uint64{0, 0}, []uint64{50, 50}},
		{100, []uint64{40, 0}, []uint64{70, 30}},
		{0, []uint64{40, 0}, []uint64{0, 0}},
		{1, []uint64{4, 4}, []uint64{0, 1}},
	} {
		var g spare.Granter
		if got := low(g.Divide(plain(c.spare), wishes(c.wants...), 1, epoch)); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%d for %v: %v, want %v", c.spare, c.wants, got, c.want)
		}
	}
}

// What peers want is met by its priority; critical calls get what own calls of lower
// priority have to give way to.
func TestDivideByPriority(t *testing.T) {
	const critical, def, lowest = route.PriorityCritical, route.PriorityDefault, route.PriorityLow
	type calls = [route.Priorities]uint64
	for name, c := range map[string]struct {
		spare  route.Graded
		wishes []spare.Wish
		want   []route.Graded
	}{
		"critical calls before another's low ones": {
			route.Graded{Any: 10},
			[]spare.Wish{{Want: calls{lowest: 50}, Most: critical}, {Want: calls{critical: 8}, Most: critical}},
			[]route.Graded{{Any: 2}, {Any: 8}},
		},
		"critical calls get what low ones do not": {
			route.Graded{Any: 4, Default: 6, Critical: 30},
			[]spare.Wish{{Want: calls{lowest: 50}, Most: critical}, {Want: calls{critical: 20}, Most: critical}},
			[]route.Graded{{Critical: 10}, {Any: 4, Default: 6, Critical: 20}},
		},
		"default ones not all": {
			route.Graded{Any: 4, Default: 6, Critical: 30},
			[]spare.Wish{{Want: calls{def: 50}, Most: critical}},
			[]route.Graded{{Any: 4, Default: 6, Critical: 30}},
		},
		"a peer of no more than default claims critical calls": {
			route.Graded{Any: 4, Default: 6, Critical: 30},
			[]spare.Wish{{Want: calls{critical: 50}, Most: def}, {Want: calls{critical: 5}, Most: critical}},
			[]route.Graded{{Default: 5}, {Any: 4, Default: 1, Critical: 30}},
		},
		"a peer that is served last": {
			route.Graded{Any: 4, Default: 6, Critical: 30},
			[]spare.Wish{{Want: calls{critical: 50}, Most: lowest}, {Want: calls{def: 2}, Most: critical}},
			[]route.Graded{{Any: 2}, {Any: 2, Default: 6, Critical: 30}},
		},
	} {
		var g spare.Granter
		for i := range c.wishes {
			c.wishes[i].Gateway = fmt.Sprint(i)
		}
		if got := g.Divide(c.spare, c.wishes, 1, epoch); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Whatever peers want and whatever the own callers leave: what all peers together may
// use at a moment for calls of a priority and those above is never more than what there
// was to spare for them, and no grade is above the next.
func TestNoSlotIsGrantedTwice(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var g spare.Granter
		type grant struct {
			calls route.Graded
			until time.Time
		}
		usable := make([]grant, 5)
		hears := make([]uint64, 5)
		now := epoch
		room, seq := route.Graded{Any: uint64(rnd.IntN(1000)), Default: uint64(rnd.IntN(300)), Critical: uint64(rnd.IntN(300))}, uint64(0)
		for range 300 {
			now = now.Add(time.Duration(rnd.IntN(1200)) * time.Millisecond)
			list := wishes(make([]uint64, 5)...)
			for i := range list {
				for p := range list[i].Want {
					list[i].Want[p] = uint64(rnd.IntN(400)) * uint64(rnd.IntN(2))
				}
				list[i].Most = route.Priority(rnd.IntN(route.Priorities))
				if rnd.IntN(2) > 0 { // what it says of what it heard may be lost, too
					list[i].Heard = hears[i]
				}
			}
			seq++
			for i, got := range g.Divide(room, list, seq, now) {
				// A load may be lost: the older grant stands until its lease ends.
				if rnd.IntN(4) > 0 {
					usable[i], hears[i] = grant{got, now.Add(spare.Lease)}, seq
				}
			}
			for p := range route.Priority(route.Priorities) {
				var all uint64
				for _, u := range usable {
					if now.Before(u.until) {
						all += u.calls.UpTo(p)
					}
				}
				if all > room.UpTo(p) {
					t.Fatalf("seed %d: %d may be used of %d by %s", seed, all, room.UpTo(p), p)
				}
			}
		}
	}
}

func TestAGrantComesBackWithItsLease(t *testing.T) {
	var g spare.Granter
	first := low(g.Divide(plain(100), wishes(100, 0), 1, epoch))
	second := low(g.Divide(plain(100), wishes(0, 100), 2, epoch.Add(time.Second)))
	if first[0] != 100 || second[0] != 0 || second[1] != 0 {
		t.Fatalf("%v, then %v", first, second)
	}
	if third := low(g.Divide(plain(100), wishes(0, 100), 3, epoch.Add(spare.Lease+time.Second))); third[1] != 100 {
		t.Errorf("after the lease: %v", third)
	}
	// Who has heard of the division without it holds it no longer.
	var h spare.Granter
	h.Divide(plain(100), wishes(100, 0), 1, epoch)
	h.Divide(plain(100), wishes(0, 100), 2, epoch)
	list := wishes(0, 100)
	list[0].Heard = 2
	if got := low(h.Divide(plain(100), list, 3, epoch)); got[1] != 100 {
		t.Errorf("after it was heard: %v", got)
	}
	// A peer that is gone holds what it was promised, and no longer.
	if got := low(g.Divide(plain(100), wishes(100), 4, epoch.Add(time.Hour))); got[0] != 100 {
		t.Errorf("%v", got)
	}
}

func TestOf(t *testing.T) {
	for _, c := range []struct {
		wanted route.ByPriority
		want   route.Graded
	}{
		{route.ByPriority{}, route.Graded{Any: 95}},
		{route.ByPriority{49}, route.Graded{Any: 39, Critical: 56}},
		{route.ByPriority{route.PriorityLow: 200}, route.Graded{Default: 95}},
		{route.ByPriority{route.PriorityCritical: 16, route.PriorityDefault: 20, route.PriorityLow: 28}, route.Graded{Any: 23, Default: 30, Critical: 26}},
		{route.ByPriority{route.PriorityCritical: 200}, route.Graded{}},
	} {
		if got := spare.Of(95, c.wanted); got != c.want {
			t.Errorf("95 slots, %v wanted: %+v, want %+v", c.wanted, got, c.want)
		}
	}
}

// Demand counts what is refused as if it had been served: half of the calls are shed,
// and the demand is that of all.
func TestDemandCountsWhatIsShed(t *testing.T) {
	var m route.Meter
	var d spare.Demand
	now := epoch
	d.Observe(&m, now)
	const takes, rate = 20, 10 // calls that last 2 s come 10 in 100 ms
	var open []int
	var got route.PortDemand
	for step := range 200 {
		now = now.Add(100 * time.Millisecond)
		for len(open) > 0 && open[0] <= step {
			m.End(route.PriorityLow, false)
			open = open[1:]
		}
		for range rate / 2 {
			m.Begin(route.PriorityLow, false)
			open = append(open, step+takes)
			m.Shed(route.PriorityLow, false)
		}
		got = d.Observe(&m, now)
	}
	if w := got.Own[route.PriorityLow]; w < 180 || w > 220 {
		t.Errorf("wanted %.1f at once, 200 are", w)
	}
	if r, s := got.Rate.Sum(), got.Shed.Sum(); r < 95 || r > 105 || s < 47 || s > 53 {
		t.Errorf("rate %.1f, shed %.1f a second", r, s)
	}
	// A surge is seen in a second or two, its end believed later.
	for range 200 {
		m.Begin(route.PriorityCritical, false)
	}
	for range 20 {
		now = now.Add(100 * time.Millisecond)
		got = d.Observe(&m, now)
	}
	if w := got.Own[route.PriorityCritical]; w < 120 {
		t.Errorf("two seconds after a surge of 200: %.1f", w)
	}
	for range 200 {
		m.End(route.PriorityCritical, false)
	}
	got = d.Observe(&m, now.Add(time.Second))
	if w := got.Own[route.PriorityCritical]; w < 100 {
		t.Errorf("a second after its end: %.1f", w)
	}
	for range 600 {
		now = now.Add(100 * time.Millisecond)
		d.Observe(&m, now)
	}
	for range open {
		m.End(route.PriorityLow, false)
	}
	for range 600 {
		now = now.Add(100 * time.Millisecond)
		d.Observe(&m, now)
	}
	if !d.Idle() {
		t.Error("not idle after a minute without calls")
	}
}
