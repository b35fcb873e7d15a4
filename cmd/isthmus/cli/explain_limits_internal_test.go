package cli

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

func TestLimitsText(t *testing.T) {
	got := limitsText(&policy.Limits{
		Rates: []policy.RateLimit{
			{Name: "each", Requests: 100, Per: []policy.LimitKey{policy.ByCaller}},
			{Name: "reports", Requests: 10, IntervalMS: 60_000, HTTP: []policy.HTTPCondition{{PathPrefix: "/reports/"}}},
		},
		Concurrency: &policy.Concurrency{Adaptive: true, Max: 500}, Breaker: &policy.Breaker{MaxPending: 300},
	})
	const want = "rate each 100 per 1s for each caller; rate reports 10 per 1m0s, of some calls; concurrency found between 3 and 500; breaker at 300 pending"
	if got != want {
		t.Errorf("%s", got)
	}
}
