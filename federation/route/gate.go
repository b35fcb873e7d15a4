package route

import (
	"math"
	"slices"
)

// Priority says which calls are refused last where not all fit. The numbers are
// those of the wire: the zero value is that of a call of which nothing is said.
type Priority uint8

// The priorities, from the first to be served: critical, default, low.
const (
	PriorityDefault Priority = iota
	PriorityCritical
	PriorityLow
	// Priorities is how many there are.
	Priorities = 3
)

var priorityText = [Priorities]string{PriorityDefault: "default", PriorityCritical: "critical", PriorityLow: "low"}

// String is the priority's word.
func (p Priority) String() string {
	if int(p) < len(priorityText) {
		return priorityText[p]
	}
	return "invalid"
}

// MarshalText is String.
func (p Priority) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is that of Status.
func (p *Priority) UnmarshalText(b []byte) error {
	*p = Priority(indexOf(priorityText[:], string(b)))
	return nil
}

// Above reports whether p is served before o.
func (p Priority) Above(o Priority) bool {
	return slices.Index(servedFirst[:], p) < slices.Index(servedFirst[:], o)
}

// servedFirst are the priorities in the order in which they are served.
var servedFirst = [Priorities]Priority{PriorityCritical, PriorityDefault, PriorityLow}

// ByPriority is a figure for each priority, indexed by it.
type ByPriority [Priorities]float64

// Sum is that over all priorities.
func (b ByPriority) Sum() float64 { return b[0] + b[1] + b[2] }

// gate bounds the calls at once to one candidate. Without counters it is open: the
// capacity is not known.
type gate struct {
	counters *Counters
	// limit is what each priority may fill up to.
	limit [Priorities]int64
}

// lost is how rarely, at most, a call may find nothing free because of calls of a
// lower priority.
const lost = 1e-3

// newGate divides slots between priorities by trunk reservation, which telephony
// uses for the same end: calls of a priority are let in only while some more slots
// are free, so that those above it find one. With above calls at once wanted by the
// higher priorities, each slot that is kept free lowers the chance that they find
// none by about above/slots. For critical calls that is done in full, up to half of the
// slots or what they want; for default calls against low ones no more than a standard deviation of what is
// in use is kept free, or most of the slots would stand empty where they want most.
//
// Where slots are graded, each priority also stays within its own grade.
//
// It needs no view of the future and no message: it works from the first call of a
// surge on.
func newGate(c *Counters, graded Graded, demand *ByPriority) gate {
	slots := graded.UpTo(PriorityCritical)
	g := gate{counters: c}
	critical := reserve(demand[PriorityCritical], slots)
	above := reserve(demand[PriorityCritical]+demand[PriorityDefault], slots)
	deviation := uint64(math.Ceil(math.Sqrt(float64(slots))))
	g.limit[PriorityCritical] = int64(min(slots, math.MaxInt64))
	g.limit[PriorityDefault] = within(g.limit[PriorityCritical]-int64(critical), graded.UpTo(PriorityDefault))
	g.limit[PriorityLow] = within(g.limit[PriorityDefault]-int64(min(above-min(critical, above), deviation)), graded.UpTo(PriorityLow))
	return g
}

func within(limit int64, grade uint64) int64 {
	return min(limit, int64(min(grade, math.MaxInt64)))
}

func reserve(above float64, slots uint64) uint64 {
	if !(above > 0) || slots < 2 { // also NaN
		return 0
	}
	ratio := above / float64(slots)
	if ratio >= 1 {
		return slots // those above need them all
	}
	most := max(slots/2, uint64(math.Ceil(above)))
	return min(uint64(math.Ceil(math.Log(lost)/math.Log(ratio))), most)
}

// full asks, and remembers for a replay, whether a call of this request finds no
// slot of g, which is candidate i's.
func (r *Record) full(g *gate, i int) bool {
	if g.counters == nil {
		return false
	}
	var is bool
	switch {
	case r.asked >= maxAsked:
		return false
	case r.state == replaying:
		if r.answered >= r.asked {
			return false // a record of another plan
		}
		is = r.fulls[r.answered/64]>>(r.answered%64)&1 == 1
		r.answered++
	default:
		is = g.counters.InFlight() >= g.limit[min(r.request.Priority, Priorities-1)]
		if is {
			r.fulls[r.asked/64] |= 1 << (r.asked % 64)
		}
		r.asked++
	}
	if is {
		r.met = true
		if i < 64 {
			r.crowded |= 1 << i
		}
	}
	return is
}
