package faults_test

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

const (
	// gapGoal is the longest time without an answer; a gross miss is 5 times that.
	gapGoal  = 1500 * time.Millisecond
	grossGap = 5 * gapGoal
	// before is what is looked at of the time before a fault.
	before = 2 * time.Second
)

// fault is one way in which first is lost, and how it comes back.
type fault struct {
	strike, heal func()
	lasts        time.Duration
}

// strike breaks first, heals it and waits until it answers again; what callers
// saw is printed, and returned for the time of the fault.
func (w *world) strike(t *testing.T, f fault) stand.Results {
	t.Helper()
	time.Sleep(time.Until(w.struck.Add(warmUp + before)))
	retries, exhausted := w.metric("isthmus_gateway_retries_total"), w.metric("isthmus_gateway_retry_budget_exhausted_total")
	struck := time.Now()
	w.struck = struck
	f.strike()
	time.Sleep(f.lasts)
	healed := time.Now()
	f.heal()
	back := w.steady(t)
	all := w.load.Sofar()
	rs := all.Between(struck.Add(-before), back)
	during := all.Between(struck, healed)
	var lost, broken stand.Results
	for _, r := range rs.Failed() {
		if errors.Is(r.Err, errBroken) {
			broken = append(broken, r)
		} else {
			lost = append(lost, r)
		}
	}
	stand.Figure(t, "%d calls, %d failed, %d answers broke that had begun; longest time without an answer %d ms (goal %d); of those begun in the %.0f s of the fault p99 %d ms, slowest %d ms",
		len(rs), len(lost), len(broken), rs.LongestGap().Milliseconds(), gapGoal.Milliseconds(), f.lasts.Seconds(),
		during.Quantile(0.99).Milliseconds(), during.Quantile(1).Milliseconds())
	stand.Figure(t, "share of %s, second by second: in the fault %s; after it %s", first,
		shares(all.Between(struck, healed), struck), shares(all.Between(healed, back), healed))
	if len(lost) > 0 {
		t.Errorf("%d calls failed after %.0f retries, %.0f more were beyond the budget: %s", len(lost),
			w.metric("isthmus_gateway_retries_total")-retries, w.metric("isthmus_gateway_retry_budget_exhausted_total")-exhausted, lost.Errors())
	}
	// Those are on their way for a millisecond or two.
	if len(broken) > len(rs)/100 {
		t.Errorf("%d answers broke: %s", len(broken), broken.Errors())
	}
	if gap := rs.LongestGap(); gap > grossGap {
		t.Errorf("no answer for %s", gap)
	}
	return during
}

// steady waits until first has answered every call of a second.
func (w *world) steady(t *testing.T) time.Time {
	t.Helper()
	// What failed in part is out for longer each time: 30 s times how often, then the hold-down.
	stand.Eventually(t, 3*within, "first answers again", func() error {
		now := time.Now()
		// a call that began within the last moment may be under way
		rs := w.load.Sofar().Between(now.Add(-1200*time.Millisecond), now.Add(-200*time.Millisecond))
		if who := rs.Who(); who[first] == 0 || who[first] != len(rs) {
			return fmt.Errorf("of %d calls of a second %d failed, the others were answered by %v", len(rs), len(rs.Failed()), who)
		}
		return nil
	})
	return time.Now().Add(-200 * time.Millisecond)
}

// shares prints the share of first's answers in each second from a time on.
func shares(rs stand.Results, from time.Time) string {
	var out []string
	for s := 0; ; s++ {
		begin := from.Add(time.Duration(s) * time.Second)
		second := rs.Between(begin, begin.Add(time.Second))
		if len(second) == 0 {
			return strings.Join(out, " ")
		}
		out = append(out, fmt.Sprintf("%d%%", 100*second.Who()[first]/len(second)))
	}
}

// wentOn asserts that second answered what began in the last part of a fault.
func wentOn(t *testing.T, during stand.Results) {
	t.Helper()
	last := during[3*len(during)/4:]
	if who := last.Who(); who[second] != len(last) {
		t.Errorf("of the last %d calls in the fault %d failed; answers %v", len(last), len(last.Failed()), who)
	}
}

// metric sums the series of a counter of the callers' gateway.
func (w *world) metric(name string) (sum float64) {
	w.t.Helper()
	body, err := stand.Get("http://" + w.home.Gateways[0].Admin.String() + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+name+`\{[^}]*\} (\S+)$`).FindAllSubmatch(body, -1) {
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			w.t.Fatal(err)
		}
		sum += v
	}
	return sum
}
