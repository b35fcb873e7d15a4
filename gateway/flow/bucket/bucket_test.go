package bucket_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/flow/bucket"
	"pgregory.net/rapid"
)

// TestNeverMoreThanBurstAndRate: whenever calls come, in no span do more conform than
// burst + rate x span.
func TestNeverMoreThanBurstAndRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, burst := rapid.Float64Range(0.01, 5000).Draw(t, "rate"), float64(rapid.IntRange(1, 200).Draw(t, "burst"))
		limit := bucket.NewLimit(rate, burst)
		var b bucket.Bucket
		now, passed := int64(1e18), []int64{}
		for _, gap := range rapid.SliceOfN(rapid.Int64Range(0, int64(2*float64(time.Second)/rate)), 1, 400).Draw(t, "gaps") {
			now += gap
			if _, ok := b.Take(now, limit); ok {
				passed = append(passed, now)
			}
		}
		for i := range passed {
			for j := i; j < len(passed); j++ {
				span := time.Duration(passed[j] - passed[i]).Seconds()
				if n, most := float64(j-i+1), burst+rate*span+1e-6; n > most {
					t.Fatalf("%v calls in %vs, at most %v (rate %v, burst %v)", n, span, most, rate, burst)
				}
			}
		}
	})
}

// TestWaitIsExact: a call that comes when it was told to passes, and one a nanosecond
// before does not.
func TestWaitIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := bucket.NewLimit(rapid.Float64Range(0.01, 1e6).Draw(t, "rate"), float64(rapid.IntRange(1, 50).Draw(t, "burst")))
		var b bucket.Bucket
		now := int64(1e18)
		for range rapid.IntRange(51, 120).Draw(t, "calls") {
			wait, ok := b.Take(now, limit)
			if ok {
				continue
			}
			if early := b; wait > 1 {
				if _, ok := early.Take(now+int64(wait)-1, limit); ok {
					t.Fatalf("passed 1 ns before the wait of %v was over", wait)
				}
			}
			now += int64(wait)
			if _, ok := b.Take(now, limit); !ok {
				t.Fatalf("refused after the wait of %v", wait)
			}
		}
	})
}

// TestSteadyCallerIsNeverRefused: who keeps to the rate is let through for ever.
func TestSteadyCallerIsNeverRefused(t *testing.T) {
	limit := bucket.NewLimit(100, 1)
	var b bucket.Bucket
	now := int64(1e18)
	for i := range 10_000 {
		if wait, ok := b.Take(now, limit); !ok {
			t.Fatalf("call %d is refused for %v", i, wait)
		}
		now += int64(10 * time.Millisecond)
	}
	if !b.Full(now) {
		t.Error("the bucket is not full after an interval without a call")
	}
}

func TestNothingPassesWithoutARate(t *testing.T) {
	var b bucket.Bucket
	for _, l := range []bucket.Limit{{}, bucket.NewLimit(0, 10), bucket.NewLimit(-1, 10)} {
		if wait, ok := b.Take(1, l); ok || wait != bucket.MaxWait {
			t.Errorf("passed %v, wait %v", ok, wait)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	limit := bucket.NewLimit(1e6, 100)
	var k bucket.Bucket
	b.ReportAllocs()
	for i := range b.N {
		k.Take(int64(i)*500, limit)
	}
}
