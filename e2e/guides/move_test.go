package guides_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
)

const (
	// perSecond calls are made while a page is followed.
	perSecond = 40
	// patience is a caller's: a machine that is busy is no fault of the page.
	patience = 20 * time.Second
	// looked is how many calls each share is told from.
	looked = 200
)

const (
	aws = "aws-us-east-1"
	gcp = "gcp-us-central1"
)

// share of a cluster's answers among the next calls that begin.
func share(t *testing.T, load *stand.Load, who string) float64 {
	t.Helper()
	from := time.Now()
	var rs stand.Results
	stand.Eventually(t, within, "calls to look at", func() error {
		if rs = load.Sofar().Between(from, time.Now()); len(rs) < looked {
			return fmt.Errorf("%d", len(rs))
		}
		return nil
	})
	return float64(rs.Who()[who]) / float64(len(rs))
}

// settles waits until the last answers come from these clusters, and no others.
func settles(t *testing.T, what string, call func(context.Context) (string, error), who ...string) {
	t.Helper()
	stand.Eventually(t, within, what, func() error {
		seen := map[string]int{}
		for range 40 {
			got, err := call(t.Context())
			if err != nil {
				return err
			}
			seen[got]++
		}
		for _, name := range who {
			if seen[name] == 0 {
				return fmt.Errorf("answers %v", seen)
			}
		}
		if len(seen) != len(who) {
			return fmt.Errorf("answers %v", seen)
		}
		return nil
	})
}

func TestMoveAService(t *testing.T) {
	g := guide.Read(t, "move-a-service.md", stand.Binary(t))
	s := stand.New(t,
		stand.Spec{Name: aws, Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "aws.example.org"},
		stand.Spec{Name: gcp, Cloud: "gcp", Region: "us-central1", Zone: "b", TrustDomain: "gcp.example.org"},
	)
	here, there := s.Clusters[0], s.Clusters[1]
	for _, c := range s.Clusters {
		unruled(c, "exports", "imports")
	}
	unruled(there, "intentions")
	operator, other := host(t, s, here), host(t, s, there)
	operator.Replace = append(operator.Replace, "127.0.0.1:7481", here.Gateways[0].Admin.String())
	billing := func(c *stand.Cluster) {
		address, _ := instance(t, "127.0.0.1:0", c.Name)
		c.WriteCatalog(t, stand.Service{Name: "billing", Port: "http", Protocol: "http", Addresses: []string{address}})
	}
	billing(here)
	s.Start()
	call := here.Calls(t).To("billing.default.mesh")
	settles(t, "billing answers", call, aws)

	load := stand.StartLoad(t.Context(), perSecond, patience, call)
	g.Run("hold", operator)
	billing(there)
	g.Run("offer", other)
	g.Run("take", operator)
	prints(t, g, "look", operator, gcp+": policy_weight_zero")
	if got := share(t, load, gcp); got != 0 {
		t.Errorf("%.2f of the calls are answered by what is held", got)
	}
	for _, weight := range []int{10, 50, 90} {
		if weight == 10 {
			g.Run("step", operator)
		} else {
			g.Run("step", operator, "aws-us-east-1: 90", fmt.Sprintf("aws-us-east-1: %d", 100-weight), "10", fmt.Sprint(weight))
		}
		prints(t, g, "watch", operator, fmt.Sprintf(", weight %d %%", weight))
		settles(t, "both answer", call, aws, gcp)
		want, got := float64(weight)/100, share(t, load, gcp)
		stand.Figure(t, "weight %d: %.0f %% of the calls are answered by %s", weight, 100*got, gcp)
		if got < want-0.15 || got > want+0.15 { // four standard deviations of the widest
			t.Errorf("weight %d: share %.2f", weight, got)
		}
	}
	g.Run("back", operator)
	settles(t, "it is taken back", call, aws)
	g.Run("finish", operator)
	settles(t, "it has moved", call, gcp)
	if out := prints(t, g, "look", operator, "policy entry "+gcp); !strings.Contains(out, "policy entry "+aws) {
		t.Errorf("the old place does not stand by:\n%s", out)
	}
	here.WriteCatalog(t)
	prints(t, g, "look", operator, "policy entry "+gcp)
	stand.Eventually(t, within, "the old place is gone", func() error {
		if out := g.Run("look", operator); strings.Contains(out, "policy entry "+aws) {
			return fmt.Errorf("explained:\n%s", out)
		}
		return nil
	})
	g.Run("end", operator)
	settles(t, "it stays moved", call, gcp)
	rs := load.Stop()
	stand.Figure(t, "%d calls while billing moved, %d failed; p50 %v, p99 %v", len(rs), len(rs.Failed()),
		rs.Quantile(0.5).Round(time.Millisecond), rs.Quantile(0.99).Round(time.Millisecond))
	if len(rs.Failed()) > 0 {
		t.Errorf("failed: %s", rs.Errors())
	}
}
