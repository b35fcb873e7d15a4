package route

import (
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// hashing is what a wheel has to draw by keys.
type hashing struct {
	table *hashTable
	// items are the wheel's of those who belong to the table, -1 of who cannot be used.
	items []int32
	salt  uint64
	// accept are, in units of 1/whole, the parts of their keys that the items take now:
	// less than all where they are ramping or have lost endpoints. nil is all.
	accept []uint32
	// bound is the most load in percent of the average, 0 for none; sum that of weights.
	bound, sum uint64
	// least is what is never too many.
	least int64
	// crowd counts the calls in progress of many items together; nil where there are few.
	crowd *atomic.Int64
}

// maxWalk bounds the entries that one draw looks at. With half of all items out, the
// first that can be used is 11 entries away once in 2,000 draws.
const maxWalk = 1024

// manyItems is from where a draw does not add up the calls in progress itself.
const manyItems = 64

// hashed draws by the call's key: from the entry that it falls on, the first whose item
// can be used, takes this key and is not full ("consistent hashing with bounded loads":
// Mirrokni, Thorup, Zadimoghaddam 2016).
func (w *wheel) hashed(rec *Record, d *draws, t *turn) int {
	h := w.hash
	point := rec.point(h.salt, d)
	start := h.table.at(point)
	t.hashed, t.point, t.position = true, point, uint64(start)
	if rec.state == replaying {
		t.hash = rec.hashTaken()
		t.first, _, _ = w.walk(rec, point, start, &t.hash)
		return t.first
	}
	t.hash.total = w.inProgress()
	i, walked, pass := w.walk(rec, point, start, &t.hash)
	t.hash.taken, t.hash.walked, t.hash.pass = int32(i), uint32(walked), pass
	if i >= 0 {
		t.hash.load = w.items[i].counters.InFlight()
	}
	rec.tookHash(t.hash)
	t.first = i
	return i
}

// The passes of a draw, each of which asks for less.
const (
	passAll     uint8 = iota
	passBounded       // any item that is not full
	passAny
)

// walk repeats itself in a replay, but for the loads: who was passed over for nothing
// else was full.
func (w *wheel) walk(rec *Record, point uint64, start int, is *hashDraw) (item, walked int, pass uint8) {
	h, again := w.hash, rec.state == replaying
	full := func(i, walked int, pass uint8) bool {
		if again {
			return is.pass != pass || int(is.taken) != i || pass == passAll && int(is.walked) != walked
		}
		return w.full(i, is.total)
	}
	entries := h.table.entries
	for at := start; walked < min(len(entries), maxWalk); walked++ {
		i := h.items[entries[at]]
		if i >= 0 && h.takes(int(i), point, w, rec.request.NowNanos) && !w.skip(int(i), rec) && !full(int(i), walked, passAll) {
			return int(i), walked, passAll
		}
		if at++; at == len(entries) {
			at = 0
		}
	}
	first := int(scale(point, uint64(len(w.items))))
	for _, pass = range [...]uint8{passBounded, passAny} {
		for k := range w.items {
			i := (first + k) % len(w.items)
			if !w.skip(i, rec) && (pass == passAny || !full(i, walked, pass)) {
				return i, walked, pass
			}
		}
	}
	return -1, walked, pass
}

// takes reports whether an item takes this key now. It is the key that decides, not
// chance: who ramps up gets the same keys back, and more of them with each step.
func (h *hashing) takes(i int, point uint64, w *wheel, now int64) bool {
	part := w.part(i, now)
	if h.accept != nil {
		part = part * uint64(h.accept[i]) / whole
	}
	return part >= whole || scale(mix(point^w.items[i].id), whole) < part
}

// full reports whether one call more would be above the item's part of the bound:
// ceil(bound x (calls in progress + 1) x weight / sum of weights).
func (w *wheel) full(i int, total int64) bool {
	h := w.hash
	if h.bound == 0 {
		return false
	}
	return w.items[i].counters.InFlight() >= h.capOf(total, w.items[i].weight)
}

func (h *hashing) capOf(total int64, weight uint64) int64 {
	return max(capOf(h.bound, uint64(max(total, 0))+1, weight, h.sum), h.least)
}

func capOf(bound, calls, weight, sum uint64) int64 {
	hi, lo := bits.Mul64(bound*calls, weight)
	if sum == 0 || hi >= 100*sum {
		return 1<<62 - 1
	}
	q, r := bits.Div64(hi, lo, 100*sum)
	if r > 0 {
		q++
	}
	return int64(max(min(q, 1<<62), 1))
}

// inProgress is how many calls the items carry together.
func (w *wheel) inProgress() int64 {
	h := w.hash
	switch {
	case h.bound == 0:
		return 0
	case h.crowd != nil:
		return h.crowd.Load()
	}
	var sum int64
	for i := range w.items {
		sum += w.items[i].counters.InFlight()
	}
	return sum
}

// hashOf gives a wheel that draws by keys its table: who are all that belong to it,
// in order, and index is where an item is among them. Weights of items are what
// bounds go by.
func (c *compiler) hashOf(w *wheel, t *policy.Traffic, salt uint64, who []belonging, index func(*item) int, crowd string, target Target) {
	if len(w.items) == 0 {
		return
	}
	h := &hashing{table: c.hashTable(t, who), salt: salt, bound: uint64(*t.Hashing.BoundPercent), least: int64(t.Hashing.BoundLeast)}
	h.items = make([]int32, len(who))
	for i := range h.items {
		h.items[i] = -1
	}
	var best float64
	parts := make([]float64, len(w.items))
	for i := range w.items {
		it := &w.items[i]
		k := index(it)
		h.items[k] = int32(i)
		h.sum += it.weight
		it.id = hashText(who[k].name)
		parts[i] = float64(it.weight) / float64(who[k].weight)
		if who[k].part > 0 {
			parts[i] = float64(who[k].part) / whole
		}
		best = max(best, parts[i])
	}
	if slices.ContainsFunc(parts, func(p float64) bool { return p < best }) {
		h.accept = make([]uint32, len(parts))
		for i, p := range parts {
			h.accept[i] = uint32(p / best * whole)
		}
	}
	if h.bound > 0 && len(w.items) > manyItems && crowd != "" {
		h.crowd = obtain(c.live.crowds, rotationKey{target: target, list: crowd})
		var sum int64
		for i := range w.items {
			w.items[i].counters.crowd.Store(h.crowd)
			sum += w.items[i].counters.InFlight()
		}
		// What a call counts that begins or ends in this moment is put right with the
		// next plan.
		h.crowd.Store(sum)
	}
	w.hash = h
}
