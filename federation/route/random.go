package route

import "math/bits"

// draws derives as many draws as a decision needs from its one random number
// (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014). The same number gives the same draws, which is
// what makes a decision replayable.
type draws struct{ state uint64 }

func (d *draws) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	z := d.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// scale maps a draw to [0, n) (multiply and keep the high half: without a
// division, and with a bias below n/2^64).
func scale(u, n uint64) uint64 {
	hi, _ := bits.Mul64(u, n)
	return hi
}
