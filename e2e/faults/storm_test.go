package faults_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// The promise of the retry budget, over any ten seconds, and of the end of a storm.
const (
	window    = 10 * time.Second
	ratio     = 1.2
	floor     = 3
	goodput   = 0.99
	recoverIn = 30 * time.Second
	stormFor  = 5 * time.Second
)

// TestRetryStorm: every endpoint of a cluster, or of both, fails under load, in
// ways that ask for retries. Endpoints count for themselves what reaches them.
func TestRetryStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{rate: 300, instances: 2})
	for _, s := range []struct {
		name     string
		manner   manner
		clusters []string
	}{
		{"503 at once", refuse, []string{first}},
		{"503 after 300 ms", dawdle, []string{first}},
		{"half of the connections break", stutter, []string{first}},
		{"every connection breaks, everywhere", hangUp, []string{first, second}},
	} {
		t.Run(s.name, func(t *testing.T) {
			w.storm(t, s.manner, s.clusters)
		})
	}
	w.budget(t)
}

func (w *world) storm(t *testing.T, m manner, clusters []string) {
	behave := func(m manner) {
		for _, c := range clusters {
			for _, i := range w.instances[c] {
				i.behave(t, m)
			}
		}
	}
	w.steady(t)
	began := time.Now()
	behave(m)
	time.Sleep(stormFor)
	behave(well)
	ended := time.Now()
	var recovered time.Time
	stand.Eventually(t, recoverIn+within, "goodput is back", func() error {
		// the seconds that are over, calls that take long apart
		rs := w.load.Sofar().Between(time.Now().Add(-2*time.Second), time.Now().Add(-time.Second))
		if good := rs.Success(); good < goodput {
			return fmt.Errorf("%.3f", good)
		}
		recovered = time.Now().Add(-2 * time.Second)
		return nil
	})
	if recovered.Before(ended) {
		recovered = ended
	}
	rs := w.load.Sofar()
	during := rs.Between(began, ended)
	stand.Figure(t, "%d calls in %.0f s, %d failed, answers %v, p99 %d ms, longest time without an answer %d ms; goodput of a second above %.0f %% %.1f s after the end (goal %.0f)",
		len(during), stormFor.Seconds(), len(during.Failed()), during.Who(), during.Quantile(0.99).Milliseconds(),
		rs.Between(began.Add(-before), recovered).LongestGap().Milliseconds(), 100*goodput, recovered.Sub(ended).Seconds(), recoverIn.Seconds())
	stand.Figure(t, "answered, second by second:%s", answered(rs.Between(began, time.Now().Add(-time.Second)), began))
	if took := recovered.Sub(ended); took > recoverIn {
		t.Errorf("goodput is back %s after the end", took)
	}
	if len(clusters) == 1 {
		// What fails until it is noticed is a part of it; half of it is a gross miss.
		if good := during.Success(); good < 0.5 {
			t.Errorf("%.3f of the calls were answered while one of two clusters failed: %s", good, during.Errors())
		}
	}
}

// answered prints the share of calls that were answered in each second.
func answered(rs stand.Results, from time.Time) string {
	out := ""
	for s := 0; ; s++ {
		begin := from.Add(time.Duration(s) * time.Second)
		second := rs.Between(begin, begin.Add(time.Second))
		if len(second) == 0 {
			return out
		}
		out += fmt.Sprintf(" %.1f%%", 100*second.Success())
	}
}

// budget holds what reached the endpoints in any ten seconds, in steps of a
// bucket, against the calls that callers made in them.
func (w *world) budget(t *testing.T) {
	t.Helper()
	calls, attempts := map[int64]int{}, map[int64]int{}
	for _, is := range w.instances {
		for _, i := range is {
			for b, n := range i.arrivals(t) {
				attempts[b] += n
			}
		}
	}
	rs := w.load.Stop()
	for _, r := range rs {
		calls[r.Start.UnixNano()/int64(bucket)]++
	}
	begin, end := w.began.UnixNano()/int64(bucket), time.Now().UnixNano()/int64(bucket)
	const buckets = int64(window / bucket)
	var worst float64
	for b := begin + 1; b+buckets < end; b++ {
		// What arrives in them was made in them, or in the moment before.
		made, reached := calls[b-1], 0
		for i := b; i < b+buckets; i++ {
			made, reached = made+calls[i], reached+attempts[i]
		}
		worst = max(worst, float64(reached-floor)/float64(max(1, made)))
		if most := ratio*float64(made) + floor; float64(reached) > most {
			t.Errorf("%d attempts reached endpoints in the ten seconds from %.1f s on, for %d calls: at most %.0f",
				reached, float64(b-begin)*bucket.Seconds(), made, most)
			break
		}
	}
	stand.Figure(t, "in any %.0f s at most %.3f attempts a call reached endpoints, beside %d (goal %.1f)", window.Seconds(), worst, floor, ratio)
}
