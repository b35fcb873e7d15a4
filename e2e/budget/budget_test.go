package budget_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/budget"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/flow"
)

var pay = catalog.MustServiceName("pay.shop")

// cluster is the gateways of one cluster and its federation.
type cluster struct {
	t        *testing.T
	gateways []*member
	shares   budget.Allocator
	dead     atomic.Bool // the federation
}

type member struct {
	flow     *flow.Controller
	cut      atomic.Bool // from the federation
	admitted atomic.Int64
}

func newCluster(t *testing.T, n int, rate policy.RateLimit) *cluster {
	c := &cluster{t: t}
	for range n {
		f, err := flow.New(flow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f.SetTable(&route.Table{
			Cluster: route.Cluster{Name: "west"}, Gateways: n,
			Services: []route.Service{{Name: pay, Traffic: &policy.Traffic{Name: "pay", Limits: &policy.Limits{Rates: []policy.RateLimit{rate}}}}},
		})
		c.gateways = append(c.gateways, &member{flow: f})
	}
	return c
}

// run offers each gateway so many calls a second for length, with reports every second,
// and returns how many each admitted.
func (c *cluster) run(length time.Duration, offered ...float64) []float64 {
	end := time.Now().Add(length)
	done := make(chan struct{}, 2*len(offered))
	for i, g := range c.gateways {
		g.admitted.Store(0)
		go func() {
			defer func() { done <- struct{}{} }()
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for offered[i] > 0 {
				time.Sleep(time.Duration(random.ExpFloat64() / offered[i] * float64(time.Second)))
				if !time.Now().Before(end) {
					return
				}
				if g.flow.Admit(&flow.Call{Service: pay, Caller: "spiffe://west.example.org/web"}) == nil {
					g.admitted.Add(1)
				}
			}
		}()
		go func() {
			defer func() { done <- struct{}{} }()
			time.Sleep(time.Duration(i) * 300 * time.Millisecond) // gateways do not report together
			for ; time.Now().Before(end); time.Sleep(time.Second) {
				sent, demands := time.Now(), g.flow.Demands()
				if c.dead.Load() || g.cut.Load() {
					continue
				}
				answer := c.shares.Report(fmt.Sprint("gw", i), demands, len(c.gateways), sent)
				time.Sleep(5 * time.Millisecond)
				g.flow.TakeShares(sent, answer)
			}
		}()
	}
	for range 2 * len(offered) {
		<-done
	}
	time.Sleep(time.Second) // the last reports
	out := make([]float64, len(c.gateways))
	for i, g := range c.gateways {
		out[i] = float64(g.admitted.Load()) / length.Seconds()
	}
	return out
}

func sum(of []float64) (s float64) {
	for _, v := range of {
		s += v
	}
	return s
}

// TestSharesFollowDemandWithinTheLimit: three gateways, uneven demand that moves: the
// total is within 5 % of the limit, whatever the algorithm, and each gateway gets what
// its callers want of it.
func TestSharesFollowDemandWithinTheLimit(t *testing.T) {
	const limit = 600
	for _, rate := range []policy.RateLimit{
		{Name: "all", Requests: limit, Burst: 60},
		{Name: "all", Requests: limit, Algorithm: policy.SlidingWindow},
		{Name: "each", Requests: limit, Burst: 60, Per: []policy.LimitKey{policy.ByCaller}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 3, rate)
			for _, offered := range [][]float64{{1200, 600, 200}, {100, 1500, 400}, {0, 0, 2000}} {
				c.run(15*time.Second, offered...) // shares follow within seconds
				got := c.run(30*time.Second, offered...)
				t.Logf("figure: limit %d/s %s, offered %v: admitted %.0f, in all %.1f (%+.1f %%)", limit, rate.Filled().Algorithm, offered, got, sum(got), 100*(sum(got)/limit-1))
				if total := sum(got); total < 0.95*limit || total > 1.05*limit {
					t.Errorf("offered %v: %.1f a second of %d are admitted in all", offered, total, limit)
				}
				for i := range got {
					if want := offered[i] / sum(offered) * limit; got[i] < want-0.05*limit || got[i] > want+0.05*limit {
						t.Errorf("offered %v: gateway %d admits %.1f, its part is %.1f", offered, i, got[i], want)
					}
				}
			}
			c.run(10*time.Second, 100, 250, 50)
			got := c.run(20*time.Second, 100, 250, 50) // less than the limit in all
			if sum(got) < 0.99*400 {
				t.Errorf("%.1f of 400 calls a second are admitted with a limit of %d", sum(got), limit)
			}
		})
	}
}

// TestFederationDead: shares stay what they were, so what flowed flows; gateways that
// had none use an even part, and all together stay below twice the limit whatever is
// offered, for ever.
func TestFederationDead(t *testing.T) {
	const limit, bound = 600, 600 * (2 - 1.0/3)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, policy.RateLimit{Name: "all", Requests: limit, Burst: 60})
		before := c.run(20*time.Second, 2000, 100, 0)
		c.dead.Store(true)
		after := c.run(10*time.Minute, 2000, 100, 0)
		t.Logf("figure: federation dead, same load: %.0f before, %.0f after, limit %d", before, after, limit)
		if after[0] < before[0]*.97 || sum(after) > 1.05*limit*4/3 {
			t.Errorf("the same load: %.0f before, %.0f after", before, after)
		}
		worst := c.run(10*time.Minute, 2000, 2000, 2000)
		t.Logf("figure: federation dead, every gateway flooded: %.0f, in all %.0f, limit %d, bound %.0f", worst, sum(worst), limit, bound)
		if sum(worst) > 1.02*bound {
			t.Errorf("%.0f a second in all, the bound is %.0f", sum(worst), bound)
		}
		for i, w := range worst {
			if w < .97*limit/3 {
				t.Errorf("gateway %d admits %.0f, an even part is %d", i, w, limit/3)
			}
		}
		again := newCluster(t, 3, policy.RateLimit{Name: "all", Requests: limit, Burst: 60})
		again.dead.Store(true) // restarted from their disks
		if got := again.run(time.Minute, 2000, 2000, 2000); sum(got) > 1.05*limit {
			t.Errorf("after a restart without a federation: %.0f in all", sum(got))
		}
	})
}

// TestOneGatewayCutOff from a federation that lives: it goes on with its share, the
// others get all of the limit again, and the total stays below twice.
func TestOneGatewayCutOff(t *testing.T) {
	const limit = 600
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, policy.RateLimit{Name: "all", Requests: limit, Burst: 60})
		c.run(20*time.Second, 2000, 500, 500)
		c.gateways[0].cut.Store(true)
		c.run(20*time.Second, 2000, 2000, 2000)
		got := c.run(time.Minute, 2000, 2000, 2000)
		t.Logf("figure: one gateway cut off from the federation: %.0f, in all %.0f, limit %d", got, sum(got), limit)
		if total := sum(got); total > 2*limit || got[1]+got[2] < .93*limit {
			t.Errorf("%.0f, in all %.0f", got, total)
		}
		c.gateways[0].cut.Store(false)
		c.run(15*time.Second, 2000, 2000, 2000)
		if total := sum(c.run(30*time.Second, 2000, 2000, 2000)); total < .95*limit || total > 1.05*limit {
			t.Errorf("%.0f in all once it is back", total)
		}
	})
}
