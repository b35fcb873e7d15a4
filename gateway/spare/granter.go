package spare

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// Lease is how long a grant holds: three reports.
	Lease = 3 * time.Second
	// grace is how much later than here a lease may end at the peer, which counts from
	// when it heard of it.
	grace = time.Second
	// maxPromises bounds the grants of one peer that are remembered: beyond, an older
	// one counts for as long as the newer.
	maxPromises = 16
)

// Peer is a gateway of another cluster.
type Peer struct {
	Cluster catalog.ClusterName
	Gateway string
}

func (p Peer) compare(o Peer) int {
	return cmp.Or(cmp.Compare(p.Cluster, o.Cluster), cmp.Compare(p.Gateway, o.Gateway))
}

// Wish is what one peer's gateway wants, in calls at once by their priority. Most is the
// highest priority that its calls are given here. Heard is the number of the division that
// it has heard of last.
type Wish struct {
	Peer
	Want  [route.Priorities]uint64
	Most  route.Priority
	Heard uint64
}

// want is what it wants for calls that are given priority p.
func (w *Wish) want(p route.Priority) (n uint64) {
	for claimed, calls := range w.Want {
		if w.given(route.Priority(claimed)) == p {
			n += calls
		}
	}
	return n
}

func (w *Wish) given(claimed route.Priority) route.Priority {
	if claimed.Above(w.Most) {
		return w.Most
	}
	return claimed
}

// Granter holds the grants of one port. The zero value is ready.
type Granter struct{ grades [route.Priorities]pool }

// pool holds what calls of a priority and those above it may use.
type pool struct{ promises map[Peer][]promise }

// promise is a grant that may still be used until then. Those of one peer are in
// order of their ends, and each is larger than those that end later.
type promise struct {
	calls uint64
	until time.Time
	seq   uint64
}

// Of is what own callers leave of slots to calls of each priority, when so many calls at
// once are wanted by them: own calls that are less important give way. What they want is an
// average; calls come as they like, so that a standard deviation is left on top. Not so of
// critical calls: peers ask for slots for theirs with several deviations in it, which are
// seldom in use (route.Plan.Wants), and another one would leave nothing of a small service.
func Of(slots uint64, wanted route.ByPriority) route.Graded {
	critical := wanted[route.PriorityCritical]
	def := critical + wanted[route.PriorityDefault]
	return route.GradedOf(leave(slots, def+wanted[route.PriorityLow], 1), leave(slots, def, 1), leave(slots, critical, 0))
}

func leave(slots uint64, wanted, deviations float64) uint64 {
	if !(wanted > 0) {
		return slots
	}
	need := math.Ceil(wanted + deviations*math.Sqrt(wanted))
	if need >= float64(slots) {
		return 0
	}
	return slots - uint64(need)
}

// Divide grants parts of spare, in the order of wishes, which are sorted and without
// duplicates; seq is its number (they grow). What peers want is met by priority and then
// evenly, the smallest wants first in full (max-min fair): from what is for calls of any
// priority first, since own calls need not give way there. What is left is granted evenly
// too, so that a peer whose calls have just begun to overflow need not wait for an answer.
func (g *Granter) Divide(spare route.Graded, wishes []Wish, seq uint64, now time.Time) []route.Graded {
	low, def, critical := targets(spare, wishes)
	// A grade is never granted beyond the one above it, which may have to wait for a lease.
	critical = g.grades[route.PriorityCritical].promise(spare.UpTo(route.PriorityCritical), wishes, critical, seq, now)
	def = g.grades[route.PriorityDefault].promise(spare.UpTo(route.PriorityDefault), wishes, lowest(def, critical), seq, now)
	low = g.grades[route.PriorityLow].promise(spare.UpTo(route.PriorityLow), wishes, lowest(low, def), seq, now)
	out := make([]route.Graded, len(wishes))
	for i := range out {
		out[i] = route.GradedOf(low[i], def[i], critical[i])
	}
	return out
}

func lowest(a, b []uint64) []uint64 {
	for i := range a {
		a[i] = min(a[i], b[i])
	}
	return a
}

// targets is what each wish is to get, up to each priority.
func targets(spare route.Graded, wishes []Wish) (low, def, critical []uint64) {
	var wants [route.Priorities][]uint64 // not met yet
	for p := range wants {
		wants[p] = make([]uint64, len(wishes))
		for i := range wishes {
			wants[p][i] = wishes[i].want(route.Priority(p))
		}
	}
	all := func(*Wish) bool { return true }
	low = grade(spare.Any, wishes, all, wants[route.PriorityCritical], wants[route.PriorityDefault], wants[route.PriorityLow])
	def = plus(low, grade(spare.Default, wishes, func(w *Wish) bool { return w.Most != route.PriorityLow },
		wants[route.PriorityCritical], wants[route.PriorityDefault]))
	critical = plus(def, grade(spare.Critical, wishes, func(w *Wish) bool { return w.Most == route.PriorityCritical },
		wants[route.PriorityCritical]))
	return low, def, critical
}

func plus(a, b []uint64) []uint64 {
	for i := range b {
		b[i] += a[i]
	}
	return b
}

// grade divides what is for calls of some priorities, whose wants are in their order and
// are lowered by what is met.
func grade(spare uint64, wishes []Wish, may func(*Wish) bool, wants ...[]uint64) []uint64 {
	out := make([]uint64, len(wishes))
	for _, want := range wants {
		var met uint64
		for i, n := range fair(spare, want) {
			out[i] += n
			want[i] -= n
			met += n
		}
		spare -= met
	}
	var n uint64
	for i := range wishes {
		if may(&wishes[i]) {
			n++
		}
	}
	for i := range wishes {
		if may(&wishes[i]) {
			out[i] += spare / n
		}
	}
	return out
}

// promise lowers grants at once, and raises them as far as no older promise to
// somebody else stands in the way.
func (b *pool) promise(spare uint64, wishes []Wish, target []uint64, seq uint64, now time.Time) []uint64 {
	if b.promises == nil {
		b.promises = make(map[Peer][]promise)
	}
	for _, w := range wishes {
		// Who has heard of a division has forgotten those before it. A number of later
		// than now is one of a process that was here before.
		if list := b.promises[w.Peer]; len(list) > 0 && w.Heard < seq {
			b.promises[w.Peer] = slices.DeleteFunc(list, func(p promise) bool { return p.seq < w.Heard })
		}
	}
	var taken uint64 // promised to anybody
	for peer, list := range b.promises {
		list = slices.DeleteFunc(list, func(p promise) bool { return !now.Before(p.until) })
		if b.promises[peer] = list; len(list) == 0 {
			delete(b.promises, peer)
			continue
		}
		taken += list[0].calls
	}
	room := spare - min(taken, spare)
	var asked uint64
	for i, w := range wishes {
		asked += target[i] - min(target[i], b.held(w.Peer))
	}
	out := make([]uint64, len(wishes))
	for i, w := range wishes {
		held := b.held(w.Peer)
		out[i] = target[i]
		if target[i] > held {
			out[i] = held + part(target[i]-held, room, asked)
		}
		b.promises[w.Peer] = remember(b.promises[w.Peer], promise{out[i], now.Add(Lease + grace), seq})
	}
	return out
}

// part of room that falls to one of those who ask for more than there is.
func part(want, room, asked uint64) uint64 {
	if asked <= room {
		return want
	}
	return uint64(float64(want) * float64(room) / float64(asked))
}

// held is the most that peer may still use.
func (b *pool) held(peer Peer) uint64 {
	if list := b.promises[peer]; len(list) > 0 {
		return list[0].calls
	}
	return 0
}

func remember(list []promise, p promise) []promise {
	for len(list) > 0 && list[len(list)-1].calls <= p.calls {
		list = list[:len(list)-1]
	}
	if len(list) == maxPromises {
		list[maxPromises-2].until = list[maxPromises-1].until
		list = list[:maxPromises-1]
	}
	return append(list, p)
}

// fair divides spare: everybody gets what they want, or as much as anybody else gets.
func fair(spare uint64, wants []uint64) []uint64 {
	out := make([]uint64, len(wants))
	order := make([]int, len(wants))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(wants[a], wants[b]) })
	for k, i := range order {
		out[i] = min(wants[i], spare/uint64(len(order)-k))
		spare -= out[i]
	}
	return out
}

// SortWishes puts wishes in the order that Divide wants.
func SortWishes(wishes []Wish) {
	slices.SortFunc(wishes, func(a, b Wish) int { return a.compare(b.Peer) })
}
