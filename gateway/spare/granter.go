package spare

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
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

// Wish is what one peer's gateway wants, in calls at once. Heard is the number of the
// division that it has heard of last.
type Wish struct {
	Peer
	Want  uint64
	Heard uint64
}

// Granter holds the grants of one port. The zero value is ready.
type Granter struct{ promises map[Peer][]promise }

// promise is a grant that may still be used until then. Those of one peer are in
// order of their ends, and each is larger than those that end later.
type promise struct {
	calls uint64
	until time.Time
	seq   uint64
}

// Of is what own callers leave of slots, when so many calls at once are wanted by
// them. What they want is an average; calls come as they like, so that a standard
// deviation is left on top.
func Of(slots uint64, wanted float64) uint64 {
	if !(wanted > 0) {
		return slots
	}
	need := math.Ceil(wanted + math.Sqrt(wanted))
	if need >= float64(slots) {
		return 0
	}
	return slots - uint64(need)
}

// Divide grants parts of spare, in the order of wishes, which are sorted and without
// duplicates; seq is its number (they grow). What peers want is met evenly, the smallest wants first in full (max-min
// fair); what is left is granted evenly too, so that a peer whose calls have just begun
// to overflow need not wait for an answer.
func (g *Granter) Divide(spare uint64, wishes []Wish, seq uint64, now time.Time) []uint64 {
	target := fair(spare, wishes)
	if n := uint64(len(wishes)); n > 0 {
		left := spare
		for _, t := range target {
			left -= t
		}
		for i := range target {
			target[i] += left / n
		}
	}
	return g.promise(spare, wishes, target, seq, now)
}

// promise lowers grants at once, and raises them as far as no older promise to
// somebody else stands in the way.
func (g *Granter) promise(spare uint64, wishes []Wish, target []uint64, seq uint64, now time.Time) []uint64 {
	if g.promises == nil {
		g.promises = make(map[Peer][]promise)
	}
	for _, w := range wishes {
		// Who has heard of a division has forgotten those before it. A number of later
		// than now is one of a process that was here before.
		if list := g.promises[w.Peer]; len(list) > 0 && w.Heard < seq {
			g.promises[w.Peer] = slices.DeleteFunc(list, func(p promise) bool { return p.seq < w.Heard })
		}
	}
	var taken uint64 // promised to anybody
	for peer, list := range g.promises {
		list = slices.DeleteFunc(list, func(p promise) bool { return !now.Before(p.until) })
		if g.promises[peer] = list; len(list) == 0 {
			delete(g.promises, peer)
			continue
		}
		taken += list[0].calls
	}
	room := spare - min(taken, spare)
	var asked uint64
	for i, w := range wishes {
		asked += target[i] - min(target[i], g.held(w.Peer))
	}
	out := make([]uint64, len(wishes))
	for i, w := range wishes {
		held := g.held(w.Peer)
		out[i] = target[i]
		if target[i] > held {
			out[i] = held + part(target[i]-held, room, asked)
		}
		g.promises[w.Peer] = remember(g.promises[w.Peer], promise{out[i], now.Add(Lease + grace), seq})
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
func (g *Granter) held(peer Peer) uint64 {
	if list := g.promises[peer]; len(list) > 0 {
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
func fair(spare uint64, wishes []Wish) []uint64 {
	out := make([]uint64, len(wishes))
	order := make([]int, len(wishes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(wishes[a].Want, wishes[b].Want) })
	for k, i := range order {
		out[i] = min(wishes[i].Want, spare/uint64(len(order)-k))
		spare -= out[i]
	}
	return out
}

// SortWishes puts wishes in the order that Divide wants.
func SortWishes(wishes []Wish) {
	slices.SortFunc(wishes, func(a, b Wish) int { return a.compare(b.Peer) })
}
