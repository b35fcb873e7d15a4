package route

import "math/bits"

// sampler draws an index in proportion to weights in constant time (the alias
// method: Walker 1974, in Vose's form of 1991, in whole numbers). Equal weights
// need no tables.
type sampler struct {
	n uint64
	// keep[i] is the part (of 2^64) of column i that is i's own; the rest is
	// alias[i]'s.
	keep  []uint64
	alias []int32
}

// newSampler of weights that are not all 0. A weight of 0 is never drawn.
func newSampler(weights []uint64) sampler {
	s := sampler{n: uint64(len(weights))}
	if equal(weights) {
		return s
	}
	scaled, total := columns(weights)
	s.keep = make([]uint64, len(weights))
	s.alias = make([]int32, len(weights))
	var small, large []int32
	for i, w := range scaled {
		if w < total {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		l, g := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		s.keep[l], _ = bits.Div64(scaled[l], 0, total)
		s.alias[l] = g
		if scaled[g] -= total - scaled[l]; scaled[g] < total {
			large = large[:len(large)-1]
			small = append(small, g)
		}
	}
	for _, i := range append(small, large...) { // full columns
		s.keep[i], s.alias[i] = ^uint64(0), i
	}
	return s
}

// columns scales weights so that the mean is their sum: column i is full at
// total. Large weights lose low bits first, so that nothing overflows.
func columns(weights []uint64) (scaled []uint64, total uint64) {
	n := uint64(len(weights))
	var top uint64
	for _, w := range weights {
		top = max(top, w)
	}
	shift := max(0, bits.Len64(top)+2*bits.Len64(n)-63)
	scaled = make([]uint64, len(weights))
	for i, w := range weights {
		if w > 0 {
			w = max(w>>shift, 1)
		}
		total += w
		scaled[i] = w * n
	}
	return scaled, total
}

func equal(weights []uint64) bool {
	for _, w := range weights {
		if w != weights[0] {
			return false
		}
	}
	return true
}

func (s *sampler) draw(u uint64) int {
	column, rest := bits.Mul64(u, s.n)
	if s.keep == nil || rest < s.keep[column] {
		return int(column)
	}
	return int(s.alias[column])
}
