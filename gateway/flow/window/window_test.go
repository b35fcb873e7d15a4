package window_test

import (
	"math"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/flow/window"
	"pgregory.net/rapid"
)

// TestIsTheMovingAverageOfTwoWindows compares with the definition, evaluated over a log
// of every call that passed.
func TestIsTheMovingAverageOfTwoWindows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := window.Limit{Calls: float64(rapid.IntRange(1, 40).Draw(t, "calls")), Width: time.Duration(rapid.IntRange(10, 2000).Draw(t, "width")) * time.Millisecond}
		width := int64(l.Width)
		var w window.Window
		now, passed := width*1000, []int64{}
		for _, gap := range rapid.SliceOfN(rapid.Int64Range(0, width/4), 1, 300).Draw(t, "gaps") {
			now += gap
			var current, previous float64
			for _, at := range passed {
				switch now/width - at/width {
				case 0:
					current++
				case 1:
					previous++
				}
			}
			want := previous*(1-float64(now%width)/float64(width)) + current
			if got := w.Estimate(now, l.Width); math.Abs(got-want) > 1e-6 {
				t.Fatalf("estimate %v, want %v", got, want)
			}
			_, ok := w.Take(now, l)
			if should := want+1 <= l.Calls+1e-9; ok != should {
				t.Fatalf("passed %v at an estimate of %v with a limit of %v", ok, want, l.Calls)
			}
			if ok {
				passed = append(passed, now)
			}
		}
		inSpan(t, passed, width, 2*l.Calls)
		byWindow := make(map[int64]float64)
		for _, at := range passed {
			if byWindow[at/width]++; byWindow[at/width] > l.Calls {
				t.Fatalf("a window has more than %v calls", l.Calls)
			}
		}
	})
}

func inSpan(t *rapid.T, passed []int64, width int64, most float64) {
	for i, first := range passed {
		n := 0.0
		for _, at := range passed[i:] {
			if at-first < width {
				n++
			}
		}
		if n > most {
			t.Fatalf("%v calls in one width, at most %v", n, most)
		}
	}
}

// TestWaitIsEnough: who waits as long as told, and no shorter than a ten thousandth of
// the width less, gets through.
func TestWaitIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := window.Limit{Calls: float64(rapid.IntRange(1, 40).Draw(t, "calls")), Width: time.Second}
		var w window.Window
		now := int64(1e18)
		for _, gap := range rapid.SliceOfN(rapid.Int64Range(0, int64(l.Width)/10), 1, 200).Draw(t, "gaps") {
			now += gap
			wait, ok := w.Take(now, l)
			if ok {
				continue
			}
			if wait <= 0 || wait > 2*l.Width {
				t.Fatalf("wait %v", wait)
			}
			early, late := w, w
			if _, ok := early.Take(now+int64(wait)-int64(l.Width/10_000), l); ok && wait > l.Width/5_000 {
				t.Fatalf("passed before the wait of %v was over", wait)
			}
			if _, ok := late.Take(now+int64(wait), l); !ok {
				t.Fatalf("refused after the wait of %v", wait)
			}
		}
	})
}

func TestForgetsWhatIsOver(t *testing.T) {
	l := window.Limit{Calls: 2, Width: time.Second}
	var w window.Window
	now := int64(1e18)
	for range 2 {
		if _, ok := w.Take(now, l); !ok {
			t.Fatal("refused within the limit")
		}
	}
	if w.Empty(now+int64(l.Width), l.Width) || !w.Empty(now+int64(2*l.Width), l.Width) {
		t.Error("a window is remembered for two widths, no less and no more")
	}
	if _, ok := w.Take(now-int64(time.Hour), l); ok {
		t.Error("a clock that goes back lets calls through")
	}
	if _, ok := w.Take(now, window.Limit{Calls: 0.5, Width: time.Second}); ok {
		t.Error("half a call is let through")
	}
}

func BenchmarkTake(b *testing.B) {
	l := window.Limit{Calls: 1e6, Width: time.Second}
	var w window.Window
	b.ReportAllocs()
	for i := range b.N {
		w.Take(int64(i)*500, l)
	}
}
