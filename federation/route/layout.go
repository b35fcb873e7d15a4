package route

import (
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// layout is the candidates of one port in tiers, with what Pick needs.
type layout struct {
	// candidates are in order of their tiers.
	candidates []candidate
	tiers      []tier
	// probes are those on probation, in order of their tiers.
	probes []probe
	// loaded is the last tier with load, -1 if none has.
	loaded int
	// hashes: calls of one key are to be drawn alike.
	hashes bool
	// mode is SuspectSelf where the last weights are kept.
	mode Mode
	// sizes are those of the port's requests.
	sizes *Sizes
}

// tier is candidates of equal place.
type tier struct {
	first, last int // candidates[first:last]
	level       level
	loaded
	// refuse is set instead of panic by a fail-closed policy.
	refuse bool
	wheel  *wheel
}

// probe is a candidate, or one endpoint of an own candidate, whose probation has
// begun or begins at since: a plan need not be compiled anew for that.
type probe struct {
	tier, candidate int
	member          int // -1: the candidate as a whole
	counters        *Counters
	since           int64 // Unix nanoseconds
}

// maxProbes bounds the probations that one decision looks at.
const maxProbes = 8

func (c *compiler) layout(sp *servicePlan, port catalog.Port, side string, all []candidate) *layout {
	c.gates(PortKey{sp.service.Name, port.Name}, all)
	for i := range all {
		c.priced(sp, &all[i])
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return a.compare(&b) })
	l := &layout{
		candidates: all, loaded: -1, hashes: sp.traffic.Algorithm.Hashes(),
		sizes: obtain(c.live.sizes, Target{Service: sp.service.Name, Port: port.Name}),
	}
	side += c.subset.name()
	places := 0
	for i := range all {
		places += truth(i == 0 || all[i].place != all[i-1].place)
	}
	l.tiers = make([]tier, 0, places)
	for i := range all {
		if i == 0 || all[i].place != all[i-1].place {
			l.tiers = append(l.tiers, tier{first: i, last: i})
		}
		l.tiers[len(l.tiers)-1].last = i + 1
		all[i].tier = len(l.tiers) - 1
	}
	if !l.weigh(sp.traffic) && c.plan.alone && !sp.traffic.FailClosed {
		l.keepLastWeights(sp.traffic)
	}
	for i := range l.tiers {
		t := &l.tiers[i]
		if t.load > 0 {
			l.loaded = i
		}
		t.refuse = t.panic && sp.traffic.FailClosed
		t.wheel = c.tierWheel(sp, l, t, side+" tier "+strconv.Itoa(i))
		if t.wheel.algorithm == policy.RoundRobin {
			t.wheel.rotate(c, rotationKey{
				target: Target{Service: sp.service.Name, Port: port.Name},
				list:   side + " tier " + strconv.Itoa(i),
			})
		}
	}
	l.findProbes()
	return l
}

// weigh gives every tier its health and load; false if nothing can be used.
func (l *layout) weigh(t *policy.Traffic) bool {
	levels := make([]level, len(l.tiers))
	for i := range l.tiers {
		levels[i].gated = true
		for k := l.tiers[i].first; k < l.tiers[i].last; k++ {
			levels[i].add(&l.candidates[k])
		}
	}
	usable := false
	for i, r := range loadsOf(levels, uint64(*t.PanicThreshold)) {
		l.tiers[i].level, l.tiers[i].loaded = levels[i], r
		usable = usable || r.load > 0
	}
	return usable
}

func (l *level) add(c *candidate) {
	ready := uint64(c.ready)
	l.ready += ready
	l.total += uint64(c.total)
	if l.gated = l.gated && (ready == 0 || c.room.known); c.room.known {
		l.slots = l.slots.Plus(c.room.slots)
	}
	if c.share == whole {
		l.steady += ready
	} else {
		l.ramping += ready
		l.ramped += ready * c.share
	}
	l.reachable = l.reachable || c.reachable()
}

// keepLastWeights makes the candidates behind dead links usable again: every
// link died at once and nothing else is left, so the fault is more likely here
// than everywhere.
func (l *layout) keepLastWeights(t *policy.Traffic) {
	for i := range l.candidates {
		if c := &l.candidates[i]; c.reason.down() && c.known > 0 {
			c.ready, c.clusterReady = c.known, c.known
			l.mode = SuspectSelf
		}
	}
	if l.mode == SuspectSelf {
		l.weigh(t)
	}
}

// tierWheel holds the tier's usable candidates; in panic all that can be
// reached.
func (c *compiler) tierWheel(sp *servicePlan, l *layout, t *tier, list string) *wheel {
	byHealth := !t.panic || t.refuse
	w := &wheel{algorithm: sp.traffic.Algorithm, items: make([]item, 0, t.last-t.first)}
	w.sizes, w.small = l.sizes, w.algorithm == policy.P2C && t.last-t.first <= maxCompared && !t.panic
	sums := countSplits(l.candidates[t.first:t.last])
	for i := t.first; i < t.last; i++ {
		cand := &l.candidates[i]
		if byHealth && !cand.usable() || !byHealth && !cand.reachable() && !cand.usable() {
			continue
		}
		if cand.listed && !l.hashes {
			w.algorithm = policy.Weighted // the policy's split is exact
		}
		it := item{
			counters: cand.counters, backlog: cand.backlog, weight: cand.load(byHealth, sums), terms: cand.delay(),
			cluster: cand.target.Cluster, index: int32(i), sound: cand.usable(), gate: cand.gate,
		}
		if byHealth {
			it.held = whole - cand.share
		}
		if cand.own() {
			it.inner = cand.endpoints.wheel(byHealth)
		}
		w.add(it)
	}
	w.finish(c)
	if l.hashes {
		who := make([]belonging, 0, t.last-t.first)
		for i := t.first; i < t.last; i++ {
			cand := &l.candidates[i]
			who = append(who, belonging{name: cand.hashName(), weight: max(cand.load(false, sums), 1), part: cand.keys(byHealth)})
		}
		if c.subset != nil {
			list = ""
		}
		c.hashOf(w, sp.traffic, saltCluster, who, func(it *item) int { return int(it.index) - t.first }, list, Target{Service: sp.service.Name})
	}
	return w
}

func (l *layout) findProbes() {
	for i := range l.candidates {
		c := &l.candidates[i]
		if c.reason == OnProbation || c.reason == Ejected {
			counters := c.counters
			if c.probing != nil {
				counters = c.probing
			}
			l.probes = append(l.probes, probe{
				tier: c.tier, candidate: i, member: -1, counters: counters, since: c.until.UnixNano(),
			})
		}
		if !c.own() {
			continue
		}
		for k := range c.endpoints.members {
			if m := &c.endpoints.members[k]; m.reason == OnProbation || m.reason == Ejected {
				l.probes = append(l.probes, probe{
					tier: c.tier, candidate: i, member: k, counters: m.counters, since: m.until.UnixNano(),
				})
			}
		}
	}
	if len(l.probes) > maxProbes {
		l.probes = l.probes[:maxProbes:maxProbes]
	}
}
