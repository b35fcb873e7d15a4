package route

import (
	"cmp"
	"container/heap"
)

// maxTurns bounds a round-robin schedule of uneven weights: finer ratios than
// one in 4,096 are rounded.
const maxTurns = 4096

// newSchedule lays out one round of smooth weighted round robin: each index
// occurs in proportion to its weight, as evenly spread as it can be, by earliest
// deadline: the k-th turn of weight w is due at (k + 1/2)/w. The position in it
// is a counter, so that a turn costs one atomic addition.
func newSchedule(weights []uint64) []int32 {
	turns := turnsOf(weights)
	q := make(deadlines, 0, len(turns))
	var length uint64
	for i, t := range turns {
		if t > 0 {
			q = append(q, deadline{index: int32(i), turns: t})
			length += t
		}
	}
	heap.Init(&q)
	out := make([]int32, 0, length)
	for range length {
		out = append(out, q[0].index)
		q[0].done++
		heap.Fix(&q, 0)
	}
	return out
}

// turnsOf reduces weights to turns per round: exactly where a round of at most
// maxTurns can hold them, else in proportion, at least one each.
func turnsOf(weights []uint64) []uint64 {
	var divisor, sum uint64
	for _, w := range weights {
		divisor = gcd(divisor, w)
		sum += w
	}
	turns := make([]uint64, len(weights))
	if sum == 0 {
		return turns
	}
	for i, w := range weights {
		switch {
		case w == 0:
		case sum/divisor <= maxTurns:
			turns[i] = w / divisor
		default:
			turns[i] = max(uint64(float64(w)/float64(sum)*maxTurns+0.5), 1)
		}
	}
	return turns
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

type deadline struct {
	index       int32
	turns, done uint64
}

// compare orders by due time (2*done+1)/(2*turns), in whole numbers.
func (d deadline) compare(o deadline) int {
	return cmp.Or(cmp.Compare((2*d.done+1)*o.turns, (2*o.done+1)*d.turns), cmp.Compare(d.index, o.index))
}

type deadlines []deadline

func (q deadlines) Len() int           { return len(q) }
func (q deadlines) Less(i, j int) bool { return q[i].compare(q[j]) < 0 }
func (q deadlines) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *deadlines) Push(x any)        { *q = append(*q, x.(deadline)) }
func (q *deadlines) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
