package route

import "math"

// fade is exp(-steps/Decay), steps being units of stamps, about a millisecond each. A
// decision needs it several times, and a product of two tables takes a fraction of what
// the exponential function does.
func fade(steps uint32) float64 {
	if steps >= 1<<(fineBits+coarseBits) {
		return 0
	}
	return coarseFade[steps>>fineBits] * fineFade[steps&(1<<fineBits-1)]
}

// The tables reach 2^18 ms, some 27 times Decay: nothing is left then.
const (
	fineBits   = 9
	coarseBits = 9
)

var fineFade, coarseFade = fades(1<<fineBits, 1), fades(1<<coarseBits, 1<<fineBits)

func fades(n int, step float64) []float64 {
	const unit = float64(int64(1)<<stampShift) / float64(Decay)
	list := make([]float64, n)
	for i := range list {
		list[i] = math.Exp(-float64(i) * step * unit)
	}
	return list
}
