package route

import (
	"math"
	"testing"
)

// TestFade: the tables say what the exponential function does, and never more for a
// longer time.
func TestFade(t *testing.T) {
	last := 1.0
	for steps := range uint32(1 << 19) {
		got := fade(steps)
		want := math.Exp(-float64(steps) * float64(int64(1)<<stampShift) / float64(Decay))
		if math.Abs(got-want) > 1e-11 {
			t.Fatalf("fade(%d) = %v, want %v", steps, got, want)
		}
		if got > last {
			t.Fatalf("fade(%d) = %v is more than before: %v", steps, got, last)
		}
		last = got
	}
}
