package stand

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Result is one call of a Load: when it began, how long it took, who answered.
type Result struct {
	Start time.Time
	Took  time.Duration
	// Who is what the call returned: a cluster, an instance.
	Who string
	Err error
}

// Load calls at a steady rate, whatever the answers do: a call that hangs holds
// none of the later ones back.
type Load struct {
	mu      sync.Mutex
	results []Result
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// StartLoad calls perSecond times a second until Stop, each call with its own
// timeout.
func StartLoad(ctx context.Context, perSecond int, timeout time.Duration, call func(context.Context) (who string, err error)) *Load {
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{cancel: cancel}
	l.wg.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		begin, sent := time.Now(), 0
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// a late ticker sends what is due, so that the rate holds
			for due := int(time.Since(begin).Seconds() * float64(perSecond)); sent < due; sent++ {
				l.wg.Go(func() { l.one(context.WithoutCancel(ctx), timeout, call) })
			}
		}
	})
	return l
}

func (l *Load) one(ctx context.Context, timeout time.Duration, call func(context.Context) (string, error)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := Result{Start: time.Now()}
	r.Who, r.Err = call(ctx)
	r.Took = time.Since(r.Start)
	l.mu.Lock()
	l.results = append(l.results, r)
	l.mu.Unlock()
}

// Stop ends the load, waits for the calls that are under way, and returns all
// results in the order of their start.
func (l *Load) Stop() Results {
	l.cancel()
	l.wg.Wait()
	return l.Sofar()
}

// Sofar is what has been answered until now, in the order of the start.
func (l *Load) Sofar() Results {
	l.mu.Lock()
	defer l.mu.Unlock()
	rs := slices.Clone(l.results)
	slices.SortFunc(rs, func(a, b Result) int { return a.Start.Compare(b.Start) })
	return rs
}

// Results are calls in the order of their start.
type Results []Result

// Between keeps the calls that began in [from, to).
func (rs Results) Between(from, to time.Time) Results {
	var out Results
	for _, r := range rs {
		if !r.Start.Before(from) && r.Start.Before(to) {
			out = append(out, r)
		}
	}
	return out
}

// Failed keeps the calls that failed.
func (rs Results) Failed() Results {
	var out Results
	for _, r := range rs {
		if r.Err != nil {
			out = append(out, r)
		}
	}
	return out
}

// Success is the share of calls that were answered, 0 to 1.
func (rs Results) Success() float64 {
	if len(rs) == 0 {
		return 0
	}
	return 1 - float64(len(rs.Failed()))/float64(len(rs))
}

// LongestGap is the longest time in which no call was answered, between the
// first and the last answer.
func (rs Results) LongestGap() time.Duration {
	var answers []time.Time
	for _, r := range rs {
		if r.Err == nil {
			answers = append(answers, r.Start.Add(r.Took))
		}
	}
	slices.SortFunc(answers, time.Time.Compare)
	var gap time.Duration
	for i := 1; i < len(answers); i++ {
		gap = max(gap, answers[i].Sub(answers[i-1]))
	}
	return gap
}

// Who counts the answers by who gave them.
func (rs Results) Who() map[string]int {
	out := map[string]int{}
	for _, r := range rs {
		if r.Err == nil {
			out[r.Who]++
		}
	}
	return out
}

// Quantile of the time that answered calls took; q from 0 to 1.
func (rs Results) Quantile(q float64) time.Duration {
	var took []time.Duration
	for _, r := range rs {
		if r.Err == nil {
			took = append(took, r.Took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[min(len(took)-1, int(q*float64(len(took))))]
}

// Errors counts the failures by their text.
func (rs Results) Errors() string {
	counts := map[string]int{}
	for _, r := range rs.Failed() {
		counts[r.Err.Error()]++
	}
	var lines []string
	for text, n := range counts {
		lines = append(lines, fmt.Sprintf("%d x %s", n, text))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Figure prints a measured value in the form that the test run collects.
func Figure(t testing.TB, format string, args ...any) {
	t.Helper()
	t.Logf("figure: %s: %s", t.Name(), fmt.Sprintf(format, args...))
}

// Eventually polls check until it returns nil; within is generous, since it is
// real time on a shared machine.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
