package breaker_test

import (
	"sync"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/flow/breaker"
	"pgregory.net/rapid"
)

// TestCountsExactly: after any course, each count is what a plain list would say, and
// none is above its bound.
func TestCountsExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.Int64Range(0, 5)
		most := breaker.Bounds{Connections: bound.Draw(t, "connections"), Requests: bound.Draw(t, "requests"), Pending: bound.Draw(t, "pending")}
		type call struct {
			kind     breaker.Kind
			answered bool
		}
		var b breaker.Breaker
		var open []*call
		count := func(k breaker.Kind) (n int64) {
			for _, c := range open {
				if c.kind == k || k == breaker.Pending && !c.answered {
					n++
				}
			}
			return n
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch step := rapid.IntRange(0, 2).Draw(t, "step"); {
			case step == 0:
				kind := rapid.SampledFrom([]breaker.Kind{breaker.Connections, breaker.Requests}).Draw(t, "kind")
				want, limit := breaker.None, most.Connections
				if kind == breaker.Requests {
					limit = most.Requests
				}
				if most.Pending > 0 && count(breaker.Pending) >= most.Pending {
					want = breaker.Pending
				}
				if limit > 0 && count(kind) >= limit {
					want = kind
				}
				if got := b.Enter(kind, most); got != want {
					t.Fatalf("over %s, want %s", got, want)
				}
				if want == breaker.None {
					open = append(open, &call{kind: kind})
				}
			case len(open) == 0:
			case step == 1 && !open[0].answered:
				open[0].answered = true
				b.Answered()
			case step == 2:
				if !open[0].answered {
					b.Answered()
				}
				b.Leave(open[0].kind)
				open = open[1:]
			}
			for _, k := range breaker.Kinds() {
				if b.Count(k) != count(k) {
					t.Fatalf("%d %s, want %d", b.Count(k), k, count(k))
				}
			}
		}
	})
}

// TestHoldsUnderConcurrency: what many take at once is never more than the bound.
func TestHoldsUnderConcurrency(t *testing.T) {
	var b breaker.Breaker
	most := breaker.Bounds{Requests: 10}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 200 {
				if b.Enter(breaker.Requests, most) != breaker.None {
					continue
				}
				b.Answered()
				b.Leave(breaker.Requests)
			}
		})
	}
	wg.Wait()
	for _, k := range breaker.Kinds() {
		if n := b.Count(k); n != 0 {
			t.Errorf("%d %s are left", n, k)
		}
	}
}
