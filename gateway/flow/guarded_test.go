package flow_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/flow"
)

// TestNoMetastableFailureByDefault: what TestNoMetastableFailure asks of a limit that a
// policy sets holds without any policy.
func TestNoMetastableFailureByDefault(t *testing.T) {
	for _, c := range []struct {
		what    string
		workers int
		takes   time.Duration
		timeout time.Duration
		tries   int
		during  float64 // of what it can do, that callers get in the overload at least
	}{
		{"a service", 20, 40 * time.Millisecond, time.Second, 3, 0.85},
		{"a small one", 4, 40 * time.Millisecond, time.Second, 1, 0.8},
		{"a small one whose callers try again", 4, 40 * time.Millisecond, time.Second, 3, 0.8},
		// Who waits long finds out late.
		{"workers that take long", 2, 200 * time.Millisecond, 5 * time.Second, 3, 0.4},
		{"callers with patience", 20, 40 * time.Millisecond, 5 * time.Second, 2, 0.5},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, registry := newController(t, nil)
				b := newBackend(c.workers, c.takes)
				var wg sync.WaitGroup
				before := arrive(&wg, f, b, 0.8*b.can(), 20*time.Second, c.timeout, c.tries)
				during := arrive(&wg, f, b, 2*b.can(), 30*time.Second, c.timeout, c.tries)
				var after []*outcome
				for range 8 {
					after = append(after, arrive(&wg, f, b, 0.8*b.can(), 5*time.Second, c.timeout, c.tries))
				}
				wg.Wait()
				b.wg.Wait()
				within := make([]float64, len(after))
				for i, o := range after {
					if within[i] = float64(o.good) / float64(o.calls); i >= 6 && within[i] < 0.99 {
						t.Errorf("goodput %.3f %d s after the overload", within[i], 5*i)
					}
				}
				use := float64(during.good) / 30 / b.can()
				t.Logf("figure: %s, without a policy: goodput %.3f before; during twice what it can do %.3f of it; in each 5 s after it, at 0.8: %.3f",
					c.what, float64(before.good)/float64(before.calls), use, within)
				if use < c.during {
					t.Errorf("%.3f of what it can do was of use in the overload, want %.2f", use, c.during)
				}
				if begun, ended := overloads(t, registry, "begun"), overloads(t, registry, "ended"); begun == 0 || ended < begun-1 {
					t.Errorf("%v overloads begun, %v ended", begun, ended)
				}
			})
		})
	}
}

// TestWhatIsSlowByNatureIsNotThrottled: long polls that their callers give up, watches
// without a first word, streams, reports, and more of them from one moment to the next.
func TestWhatIsSlowByNatureIsNotThrottled(t *testing.T) {
	type kind struct {
		rate     float64
		answer   time.Duration // when the first word comes; 0 is never
		patience time.Duration
		open     time.Duration // after the first word
	}
	quick := kind{rate: 200, answer: 5 * time.Millisecond, patience: time.Second}
	for _, c := range []struct {
		what  string
		first []kind // for two minutes
		then  []kind
	}{
		{"long polls that are given up", []kind{{rate: 20, patience: 25 * time.Second}, {rate: 2, answer: 10 * time.Second, patience: 25 * time.Second}}, []kind{{rate: 60, patience: 25 * time.Second}, {rate: 2, answer: 10 * time.Second, patience: 25 * time.Second}}},
		{"quick requests, and five times the long polls", []kind{quick, {rate: 5, patience: 25 * time.Second}}, []kind{quick, {rate: 25, patience: 25 * time.Second}}},
		{"quick requests, and then long polls only", []kind{quick, {rate: 20, patience: 25 * time.Second}}, []kind{{rate: 20, patience: 25 * time.Second}}},
		{"watches", []kind{quick}, []kind{quick, {rate: 50, patience: time.Hour}}},
		{"streams", []kind{quick}, []kind{quick, {rate: 50, answer: 5 * time.Millisecond, patience: time.Second, open: time.Hour}}},
		{"reports whose callers are patient", []kind{quick}, []kind{quick, {rate: 400, answer: 3 * time.Second, patience: 10 * time.Second}}},
		{"callers that go at once", []kind{quick}, []kind{quick, {rate: 400, answer: 5 * time.Millisecond, patience: time.Millisecond}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, registry := newController(t, nil)
				ctx, stop := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				var refusals atomic.Int64
				run := func(k kind, length time.Duration) {
					random := rand.New(rand.NewPCG(1, uint64(k.patience)))
					for end := time.Now().Add(length); time.Now().Before(end); {
						wg.Go(func() {
							p, refused := f.Enter(ctx, &flow.Try{Service: pay, Cluster: "west", Own: true, Request: true})
							if refused != nil {
								refusals.Add(1)
								return
							}
							defer p.End()
							if k.answer == 0 || k.answer > k.patience {
								sleep(ctx, k.patience)
								return
							}
							sleep(ctx, k.answer)
							p.Answered(true)
							sleep(ctx, k.open)
						})
						time.Sleep(time.Duration(random.ExpFloat64() / k.rate * float64(time.Second)))
					}
				}
				for _, kinds := range [][]kind{c.first, c.then} {
					var phase sync.WaitGroup
					for _, k := range kinds {
						phase.Go(func() { run(k, 2*time.Minute) })
					}
					phase.Wait()
				}
				stop()
				wg.Wait()
				if n := overloads(t, registry, "begun"); n != 0 || refusals.Load() != 0 {
					t.Errorf("%v overloads were seen, %d requests refused", n, refusals.Load())
				}
			})
		})
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// TestALimitByPolicyTakesThePlaceOfTheGuard, and the guard its, when the policy goes.
func TestALimitByPolicyTakesThePlaceOfTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newController(t, nil)
		enter := func(n int) (passes []flow.Pass) {
			for range n {
				if p, refused := c.Enter(t.Context(), &flow.Try{Service: pay, Cluster: "west", Own: true, Request: true}); refused == nil {
					passes = append(passes, p)
				}
			}
			return passes
		}
		end := func(passes []flow.Pass) {
			for i := range passes {
				passes[i].End()
			}
		}
		free := enter(100)
		c.SetTable(table(&policy.Limits{Concurrency: &policy.Concurrency{Max: 2}, Queue: &policy.Queue{NoWait: true}}))
		bound := enter(100)
		end(free) // they count nowhere any more
		more := enter(1)
		if len(free) != 100 || len(bound) != 2 || len(more) != 0 {
			t.Errorf("%d pass without a limit, %d with one of 2, %d more", len(free), len(bound), len(more))
		}
		c.SetTable(table(nil))
		again := enter(100)
		if len(again) != 100 {
			t.Errorf("%d pass without a limit", len(again))
		}
		end(bound)
		end(again)
	})
}
