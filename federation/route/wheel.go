package route

import (
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// wheel draws one of its items by an algorithm: a candidate of a tier, or an
// endpoint of a zone. It is immutable but for the round-robin position.
type wheel struct {
	algorithm policy.Algorithm
	// by is how pick goes about it.
	by       by
	items    []item
	sampler  sampler
	schedule []int32 // round robin only
	rotation *atomic.Uint64
	// hash is set where calls are drawn by their keys.
	hash *hashing
	// slow is set where items are new.
	slow *slowStart
	// sound are the healthy items where not all are (panic).
	sound []int32
	// sizes are those of the service's requests; of candidates only.
	sizes *Sizes
	// small: all items are compared, not two of them.
	small bool
	// gated: an item may have no slot left.
	gated bool
}

// by is an algorithm in one byte.
type by uint8

const (
	byCompletion by = iota
	byLeastRequest
	byTurns
	byWeight
	byKey
)

func byOf(a policy.Algorithm) by {
	switch a {
	case policy.RoundRobin:
		return byTurns
	case policy.Random, policy.Weighted:
		return byWeight
	case policy.LeastRequest:
		return byLeastRequest
	case policy.RingHash, policy.Maglev:
		return byKey
	case policy.P2C:
	}
	return byCompletion
}

// maxCompared is the most items of a tier of which all are compared: with three
// clusters the best is not among two that are drawn in every third decision.
// Beyond, the power of two choices keeps many gateways from following one figure
// that is a second old.
const maxCompared = 4

// item holds what a draw reads, side by side in memory.
type item struct {
	counters *Counters
	// backlog is what is on its way there, of a peer; terms are what is known of its delay.
	backlog *Backlog
	terms   terms
	weight  uint64
	// held is the part that a ramp holds back, in units of 1/whole.
	held uint64
	// cluster and endpoint ("" for a peer) are what Tried remembers.
	cluster  catalog.ClusterName
	endpoint string
	// inner draws the endpoint where the item is of the own cluster.
	inner *wheel
	// index is that of the candidate in its layout, or of the member in its set.
	index int32
	sound bool
	// gate bounds the calls to the candidate, where its capacity is known.
	gate gate
	// since when it is in service (Unix nanoseconds), where that is known and counts.
	since int64
	// id is the hash of its name, where keys are drawn by.
	id uint64
}

func (w *wheel) add(it item) { w.items = append(w.items, it) }

// finish builds the tables; no item is added afterwards.
func (w *wheel) finish(c *compiler) {
	w.by = byOf(w.algorithm)
	if len(w.items) == 0 {
		return
	}
	weights, sum, sound := c.weights[:0], uint64(0), 0
	for i := range w.items {
		weights = append(weights, w.items[i].weight)
		sum += w.items[i].weight
		sound += truth(w.items[i].sound)
		w.gated = w.gated || w.items[i].gate.counters != nil
	}
	if sum == 0 { // all held back by ramps: there is nothing better
		for i := range w.items {
			w.items[i].weight, weights[i] = 1, 1
		}
	}
	if sound > 0 && sound < len(w.items) {
		for i := range w.items {
			if w.items[i].sound {
				w.sound = append(w.sound, int32(i))
			}
		}
	}
	w.sampler = newSampler(weights)
	if w.algorithm == policy.RoundRobin {
		w.schedule = newSchedule(weights)
	}
	c.weights = weights
}

// rotate gives the wheel its round-robin position.
func (w *wheel) rotate(c *compiler, key rotationKey) { w.rotation = obtain(c.live.rotations, key) }

// pick returns the index of the drawn item, -1 if all were tried.
func (w *wheel) pick(rec *Record, d *draws, t *turn) int {
	if len(w.items) == 0 {
		return -1
	}
	switch w.by {
	case byTurns:
		if w.lacks(rec) && w.exhausted(rec) {
			return -1 // before a turn is taken
		}
		return w.next(rec, d, t)
	case byWeight:
		t.first = w.draw(d, rec, -1)
		return t.first
	case byKey:
		if w.lacks(rec) && w.exhausted(rec) {
			return -1
		}
		return w.hashed(rec, d, t)
	case byCompletion, byLeastRequest:
	}
	return w.better(rec, d, t)
}

// lacks reports whether there may be items that this request cannot have.
func (w *wheel) lacks(rec *Record) bool { return w.gated || rec.request.Tried.last != nil }

// turn is what a draw did, for the ledger: the one or two items drawn, and what
// was read of them.
type turn struct {
	first, second int
	a, b          reading
	costA, costB  float64
	position      uint64 // in the round robin
	rotated       bool
	// hashed: drawn by the point of a key, from the entry at position.
	hashed bool
	point  uint64
	hash   hashDraw
	// rest are those of a small tier that were compared, and cost more than both.
	// What was read of them is in the record.
	rest     [maxCompared - 2]int32
	order    [maxCompared]int32 // of the readings
	restCost [maxCompared - 2]float64
	others   int
}

// next takes the next turn of the schedule, passing over what was tried.
func (w *wheel) next(rec *Record, d *draws, t *turn) int {
	t.position, t.rotated = rec.turn(w.rotation), true
	n := uint64(len(w.schedule))
	at := t.position % n
	for range n {
		if i := int(w.schedule[at]); !w.skip(i, rec) && !w.cold(i, rec, d) {
			t.first = i
			return i
		}
		if at++; at == n {
			at = 0
		}
	}
	// What a ramp holds back has no turn, but may be all that is left.
	t.first = w.scan(d.next(), rec, -1)
	return t.first
}

// better draws two and returns the one of lower cost: the power of two choices
// (Mitzenmacher 2001). At equal cost the first stays, so that weights decide.
//
// In panic the second is drawn from the healthy: a dead endpoint is then left as
// soon as it has failed once, while an overloaded healthy one still gives way.
//
// What a ramp holds back is a second choice as rarely as it is to be used: of two
// items one is always the second, and who comes back is idle, so that it would win.
func (w *wheel) better(rec *Record, d *draws, t *turn) int {
	t.first = w.draw(d, rec, -1)
	if t.first < 0 || len(w.items) == 1 {
		return t.first
	}
	if len(w.sound) > 0 {
		t.second = w.drawSound(d, rec, t.first)
	} else {
		t.second = w.draw(d, rec, t.first)
	}
	if t.second < 0 {
		return t.first
	}
	a, b := &w.items[t.first], &w.items[t.second]
	if b.held > a.held && scale(d.next(), whole) < b.held {
		t.second = -1
		return t.first
	}
	s := rec.size(w.sizes)
	rec.look(a, &t.a)
	rec.look(b, &t.b)
	t.costA, t.costB = w.costs(a, b, &t.a, &t.b, s)
	if w.small && len(w.items) > 2 {
		w.compareRest(rec, d, t, s)
	}
	if t.costB < t.costA {
		return t.second
	}
	return t.first
}

// compareRest compares the items that were not drawn; the two that cost least stay
// in the turn.
func (w *wheel) compareRest(rec *Record, d *draws, t *turn, s *sizing) {
	first, second := t.first, t.second
	t.order[0], t.order[1] = int32(first), int32(second)
	for i := range w.items {
		x := &w.items[i]
		if i == first || i == second || t.others == len(t.rest) || w.skip(i, rec) {
			continue
		}
		if x.held > w.items[first].held && scale(d.next(), whole) < x.held {
			continue
		}
		var r reading
		rec.look(x, &r)
		t.order[t.others+2] = int32(i)
		best, read := t.first, &t.a
		if t.costB < t.costA {
			best, read = t.second, &t.b
		}
		costBest, costX := w.costs(&w.items[best], x, read, &r, s)
		switch {
		case costX >= costBest && costX >= max(t.costA, t.costB):
			t.pass(i, costX)
		case best == t.first:
			t.pass(t.second, t.costB)
			t.second, t.b, t.costA, t.costB = i, r, costBest, costX
		default:
			t.pass(t.first, t.costA)
			t.first, t.a, t.costA, t.costB = i, r, costX, costBest
		}
	}
}

// pass puts an item behind the two that cost least.
func (t *turn) pass(i int, cost float64) {
	t.rest[t.others], t.restCost[t.others] = int32(i), cost
	t.others++
}

// maxRedraws bounds the draws that meet a tried item, or one in its slow start, before
// a full count.
const maxRedraws = 6

// draw returns an item by weight, neither tried nor not; -1 if there is none.
func (w *wheel) draw(d *draws, rec *Record, not int) int {
	if len(w.items) == 1 {
		if not == 0 || w.skip(0, rec) {
			return -1
		}
		return 0
	}
	if not >= 0 && len(w.items) == 2 {
		if i := 1 - not; !w.skip(i, rec) && !w.cold(i, rec, d) {
			return i
		}
		return -1
	}
	for range maxRedraws {
		if i := w.sampler.draw(d.next()); i != not && !w.skip(i, rec) && !w.cold(i, rec, d) {
			return i
		}
	}
	return w.scan(d.next(), rec, not)
}

// scan is draw by counting: exact, and as long as the wheel.
func (w *wheel) scan(u uint64, rec *Record, not int) int {
	now := rec.request.NowNanos
	weight := func(i int) uint64 {
		if w.slow == nil {
			return w.items[i].weight
		}
		return w.items[i].weight * w.part(i, now)
	}
	var sum uint64
	spare := -1 // of weight 0
	for i := range w.items {
		if i == not || w.skip(i, rec) {
			continue
		}
		if sum += weight(i); spare < 0 {
			spare = i
		}
	}
	if sum == 0 {
		return spare
	}
	x := scale(u, sum)
	for i := range w.items {
		if i == not || w.skip(i, rec) {
			continue
		}
		if x < weight(i) {
			return i
		}
		x -= weight(i)
	}
	return spare
}

func (w *wheel) drawSound(d *draws, rec *Record, not int) int {
	n := uint64(len(w.sound))
	at := scale(d.next(), n)
	for range n {
		if i := int(w.sound[at]); i != not && !w.skip(i, rec) {
			return i
		}
		if at++; at == n {
			at = 0
		}
	}
	return -1
}

// skip reports whether item i was tried by this request (of the own cluster, whether
// all of its endpoints were), or has no slot left for it.
func (w *wheel) skip(i int, rec *Record) bool {
	it := &w.items[i]
	if it.gate.counters != nil && rec.full(&it.gate, int(it.index)) {
		return true
	}
	tried := &rec.request.Tried
	if tried.last == nil {
		return false
	}
	if it.inner == nil {
		return tried.has(it.cluster, it.endpoint)
	}
	return tried.has(it.cluster, "") || it.inner.exhausted(rec)
}

// exhausted reports whether nothing is left to draw.
func (w *wheel) exhausted(rec *Record) bool {
	for i := range w.items {
		if !w.skip(i, rec) {
			return false
		}
	}
	return true
}
