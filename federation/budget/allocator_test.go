package budget_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/budget"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"pgregory.net/rapid"
)

var pay = route.Budget{Service: catalog.MustServiceName("pay.shop"), Rate: "all"}

func demand(part float64) []route.Demand { return []route.Demand{{Budget: pay, Part: part}} }

// TestSharesFollowDemand: in proportion where all want too much; what each wants and an
// even part of the rest where they do not.
func TestSharesFollowDemand(t *testing.T) {
	for _, c := range []struct{ wanted, want []float64 }{
		{[]float64{0, 0, 0}, []float64{.333, .333, .333}},
		{[]float64{1.2, .6, .2}, []float64{.595, .301, .105}},
		{[]float64{.5, .1, 0}, []float64{.627, .235, .137}},
		{[]float64{9, 0, 0}, []float64{.987, .0067, .0067}},
	} {
		var a budget.Allocator
		now, got := time.Unix(1e9, 0), make([]float64, 3)
		for range 4 { // the first to ask must give up before the last gets all
			for i, w := range c.wanted {
				got[i] = a.Report(fmt.Sprint("gw", i), demand(w), 3, now).Shares[0].Part
				now = now.Add(300 * time.Millisecond)
			}
		}
		for i := range got {
			if d := got[i] - c.want[i]; d > .002 || d < -.002 {
				t.Errorf("wanted %v: shares %.4f, want %.4f", c.wanted, got, c.want)
				break
			}
		}
	}
}

// TestNeverMoreThanTheBudget: whatever gateways want, come and go, what those hold whose
// lease runs is at most the budget and the floor.
func TestNeverMoreThanTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a budget.Allocator
		type hold struct {
			part  float64
			until time.Time
		}
		held := make(map[int]hold)
		now := time.Unix(1e9, 0)
		for range rapid.IntRange(1, 200).Draw(t, "reports") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(4*time.Second)).Draw(t, "gap")))
			i := rapid.IntRange(0, 4).Draw(t, "gateway")
			var wants []route.Demand
			if rapid.IntRange(0, 5).Draw(t, "wants") > 0 {
				wants = demand(rapid.Float64Range(0, 5).Draw(t, "part"))
			}
			answer := a.Report(fmt.Sprint("gw", i), wants, 5, now)
			delete(held, i) // what is not named goes back to an even part
			for _, s := range answer.Shares {
				held[i] = hold{part: s.Part, until: now.Add(time.Duration(answer.LeaseMS) * time.Millisecond)}
			}
			sum := 0.0
			for _, h := range held {
				if !h.until.Before(now) {
					sum += h.part
				}
			}
			if sum > 1+budget.Floor+1e-9 {
				t.Fatalf("%.4f of the budget is held: %v", sum, held)
			}
		}
	})
}

func TestWhatASilentGatewayHoldsComesBack(t *testing.T) {
	var a budget.Allocator
	now := time.Unix(1e9, 0)
	a.Report("gone", demand(9), 2, now)
	if part := a.Report("here", demand(9), 2, now).Shares[0].Part; part > .02 {
		t.Errorf("%.3f while another holds it all", part)
	}
	now = now.Add(budget.Lease + time.Millisecond)
	if part := a.Report("here", demand(9), 2, now).Shares[0].Part; part < .98 {
		t.Errorf("%.3f after the lease of the other has ended", part)
	}
	a.Forget("here")
	if part := a.Report("next", demand(9), 2, now).Shares[0].Part; part < .98 {
		t.Errorf("%.3f after the other went in order", part)
	}
}
