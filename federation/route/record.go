package route

import (
	"math"
	"sync/atomic"
)

// Record holds what a decision read besides its plan: the request, with its
// random number, and the counters. Plan.Replay repeats the decision from it
// exactly, at any later time. It is of use only with the plan that made it.
type Record struct {
	request Request
	local   bool
	state   recordState
	// reads are the counters that were read, in order.
	reads      [maxReads]reading
	read, seen uint8 // how many were read, and how many a replay has used
	// sizing is what the request's size was taken for, once it was asked.
	sizing sizing
	sized  bool
	// turns are the round-robin positions that were taken.
	turns        [maxTurnsTaken]uint64
	turned, back uint8
	// hashes are what was drawn by keys.
	hashes             [maxTurnsTaken]hashDraw
	hashed, hashedBack uint8
	// probe is the index plus one of the probation that was taken.
	probe uint8
	// drill is the part in a drill, spared why the call was spared.
	drill  DrillSide
	spared sparing
	// fulls are the answers to "is there no slot left?", in order, as bits; asked is
	// how many there are, answered how many a replay has used. met says that one was
	// yes.
	fulls           [maxAsked / 64]uint64
	asked, answered uint16
	met             bool
	// crowded are the candidates (the first 64) that were found without a slot.
	crowded uint64
}

const (
	// maxReads: the candidates of a small tier, or two, and two endpoints.
	maxReads = maxCompared + 2
	// maxTurnsTaken: one among candidates and one among endpoints.
	maxTurnsTaken = 2
	// maxAsked bounds the looks at slots; what is not looked at counts as free.
	maxAsked = 256
)

// recordState is what reading means.
type recordState uint8

const (
	taking    recordState = iota // Pick: reads counters, takes turns and probations
	peeking                      // Explain: reads without taking
	replaying                    // Replay: reads from the record
)

// reading is one look at a target's or endpoint's counters.
type reading struct {
	ewma float32 // nanoseconds, decayed
	// bias and penalty are what the delay model adds, in nanoseconds.
	bias, penalty float32
	// link is how long calls occupy the links yet, busy how long the target and back how
	// long their answers the links, by what was predicted; in nanoseconds.
	link, busy, back float32
	inFlight         int32
	known            bool // false before the first sample
}

func (r *reading) look(c *Counters, backlog *Backlog, nowNanos int64, perByte float32) {
	r.link, r.back, r.busy = backlog.ahead(nowNanos, perByte), backlog.behind(nowNanos), float32(max(c.busy.Load()-nowNanos, 0))
	r.ewma, r.known = c.ewma.estimate(nowNanos)
	r.inFlight = int32(min(c.InFlight(), math.MaxInt32))
	r.bias = c.bias.faded(nowNanos)
	r.penalty, _ = c.penalty.estimate(nowNanos)
}

// size is what the request's size is taken for: its own where it is told, else the
// mean of the service's.
func (r *Record) size(s *Sizes) *sizing {
	if r.sized || r.state == replaying || s == nil {
		return &r.sizing
	}
	out, in := s.Means(r.request.NowNanos)
	r.sizing, r.sized = sizing{out: out, in: in, mean: out}, true
	if r.request.Bytes > 0 {
		r.sizing.out = float64(r.request.Bytes)
	}
	return &r.sizing
}

func (r *Record) look(it *item, into *reading) {
	if r.state == replaying {
		if r.seen < r.read { // else a record of another plan
			*into = r.reads[r.seen]
			r.seen++
		}
		return
	}
	into.look(it.counters, it.backlog, r.request.NowNanos, it.terms.out)
	if r.read < maxReads {
		r.reads[r.read] = *into
		r.read++
	}
}

// turn is the round-robin position of this decision.
func (r *Record) turn(c *atomic.Uint64) uint64 {
	var at uint64
	switch r.state {
	case replaying:
		if r.back < r.turned {
			r.back++
			return r.turns[r.back-1]
		}
		return 0 // a record of another plan
	case taking:
		at = c.Add(1) - 1
	case peeking:
		at = c.Load()
	}
	if r.turned < maxTurnsTaken {
		r.turns[r.turned] = at
		r.turned++
	}
	return at
}

// hashDraw is one draw by a key: the item, how many entries were passed over before it,
// which pass found it, and what was read of loads.
type hashDraw struct {
	taken       int32
	walked      uint32
	pass        uint8
	total, load int64
}

func (r *Record) tookHash(h hashDraw) {
	if r.hashed < maxTurnsTaken {
		r.hashes[r.hashed] = h
		r.hashed++
	}
}

// hashTaken is the next draw of a record that is replayed.
func (r *Record) hashTaken() hashDraw {
	if r.hashedBack >= r.hashed {
		return hashDraw{} // a record of another plan
	}
	r.hashedBack++
	return r.hashes[r.hashedBack-1]
}

// takeProbe reports whether probation i of a layout falls to this decision.
func (r *Record) takeProbe(i int, p *probe) bool {
	now := r.request.NowNanos
	var ok bool
	switch r.state {
	case replaying:
		return int(r.probe) == i+1
	case taking:
		ok = p.counters.takeProbe(p.since, now)
	case peeking:
		ok = p.counters.mayProbe(p.since, now)
	}
	if ok {
		r.probe = uint8(i + 1)
	}
	return ok
}

// Request is what was asked.
func (r *Record) Request() Request { return r.request }
