package simulation

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/drill"
)

// drillSlack is how late a drill may end at a gateway that is not told to: the interval at
// which it looks, after a stall.
const drillSlack = 4 * time.Second

// drills orders one now and then, beside the faults: it is none.
func (f *faults) drills() {
	if f.healed {
		return
	}
	f.drill()
	f.s.after(f.s.between(time.Second, 6*time.Second), f.drills)
}

// drill has a federation order one; it forgets it with its process, as the product does.
func (f *faults) drill() {
	s := f.s
	fed := pick(&s.engine, s.clusters).fed
	lost, share := pick(&s.engine, s.clusters).name, pick(&s.engine, []uint32{500, 2000, 10_000})
	lasts := s.between(2*time.Second, 12*time.Second)
	if !fed.up || fed.drill != nil || fed.table == nil {
		return
	}
	f.serial++
	d := &route.Drill{
		ID: fmt.Sprintf("d%d", f.serial), Down: []catalog.ClusterName{lost}, AtOnce: s.chance(0.5), Share: share,
		Until: fed.clock().Add(lasts), For: lasts,
	}
	for _, g := range fed.fresh() {
		if g.up {
			d.Members = append(d.Members, route.DrillMember{Gateway: g.short, StartedAt: g.startedAt()})
		}
	}
	fed.drill = d
	fed.touch()
	f.until(lasts, func() {
		if fed.drill == d {
			fed.drill = nil
			fed.touch()
		}
	})
}

// startedAt names this life of the process.
func (g *gateway) startedAt() time.Time { return zero.Add(g.born) }

func (g *gateway) newDrill() *drill.Monitor {
	m, err := drill.New(drill.Options{
		Gateway: g.short, StartedAt: g.startedAt(), Now: g.clock,
		Drills: func(id string, until time.Time) { g.s.seams.drills(g, id, until) },
	})
	if err != nil {
		panic(err)
	}
	return m
}

// followDrill looks after a drill that has begun, as package gateway does.
func (g *gateway) followDrill() {
	select {
	case <-g.drill.Started():
	default:
		return
	}
	g.watch.drill = drillWatch{drill: g.table.Drill, began: g.now}
	g.note(g.name, "drills", uint64(g.table.Drill.Share))
	g.judgeDrill()
}

func (g *gateway) judgeDrill() {
	if g.drill.Judge(drill.Conditions{Heard: g.heard, Evidence: g.board.Evidence()}) {
		g.after(drill.Interval, g.judgeDrill)
	}
}

// drillWatch is what the oracle keeps of a gateway's last drill.
type drillWatch struct {
	drill        *route.Drill
	began        time.Duration
	calls, moved int
}

// drills checks a call that a drill has a part in: I15.
func (o *oracle) drills(c *call, a *attempt.Attempt) {
	g, side := c.at, a.Choice.Drill
	if side == route.NotDrilled || c.local { // that it is asked at all there, is for I9
		return
	}
	w := &g.watch.drill
	if w.drill == nil || c.sequence.Attempts() > 1 {
		o.violated(Drilled, "%s gives call %d the side %q of a drill that does not concern it", g.name, c.id, side)
		return
	}
	w.calls++
	switch side {
	case route.Drilled:
		o.s.stats.Drilled++
	case route.DrillSpared:
		o.s.stats.Spared++
	default:
		return
	}
	w.moved++
	expected := float64(w.drill.Share) / 10_000 * float64(w.calls)
	if most := expected + 5*math.Sqrt(expected) + 5; float64(w.moved) > most {
		o.violated(Drilled, "%s has drilled %d of %d calls, of a share of %d/10,000", g.name, w.moved, w.calls, w.drill.Share)
	}
	if side == route.Drilled && slices.Contains(w.drill.Down, a.Choice.Target.Cluster) {
		o.violated(Drilled, "%s sends drilled call %d to %s, which counts as lost", g.name, c.id, a.Choice.Target.Cluster)
	}
	if r := g.drill.Report(); r == nil || !r.Running {
		o.violated(Drilled, "%s drills call %d after the drill has ended: %+v", g.name, c.id, r)
	}
	if age := o.s.now - w.began; age > w.drill.For+lookEvery {
		o.violated(Drilled, "%s drills call %d %v after it began with a drill of %v", g.name, c.id, age, w.drill.For)
	}
	if silent := g.clock().Sub(g.heard); silent > route.DrillLease+drillSlack {
		o.violated(Drilled, "%s drills call %d, its federation has been silent for %v", g.name, c.id, silent)
	}
}
