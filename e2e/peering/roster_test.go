package peering_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// roster is how many gateways of a peer a cluster knows, and how many of them
// drain.
func (w *world) roster(c, peer *stand.Cluster) (gateways, draining int, err error) {
	out, errs, err := w.isthmus(c, "peer", "show", peer.Name, "--json")
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s", err, errs)
	}
	var p struct {
		Gateways []struct {
			Name     string
			Draining bool
		}
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		return 0, 0, err
	}
	for _, g := range p.Gateways {
		if g.Draining {
			draining++
		}
	}
	return len(p.Gateways), draining, nil
}

// TestRostersFollowAutoscaling: the gateways of a peer triple, one drains, one is
// killed; the caller's configuration names one address, of the first to go, and
// is never touched.
func TestRostersFollowAutoscaling(t *testing.T) {
	w := newWorld(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test", Gateways: 4},
	)
	east, west := w.Clusters[0], w.Clusters[1]
	w.Start()
	for _, g := range west.Gateways[1:] {
		g.Stop() // scaled in; gw1 alone is left when the clusters join
	}
	w.run(east, "peer", "accept", w.run(west, "peer", "invite", "--to", "east"))
	w.flows(east, west)
	known := func(what string, gateways int) {
		t.Helper()
		stand.Eventually(t, within, what, func() error {
			n, draining, err := w.roster(east, west)
			if err == nil && n-draining != gateways {
				err = fmt.Errorf("%d gateways, %d of them drain, want %d", n, draining, gateways)
			}
			return err
		})
	}
	known("the roster is down to one", 1)

	load := stand.StartLoad(t.Context(), 50, 20*time.Second, func(ctx context.Context) (string, error) {
		return call(ctx, east, west)
	})
	began := time.Now()
	for _, g := range west.Gateways[1:] {
		g.Start()
	}
	for _, g := range west.Gateways[1:] {
		g.AwaitReady()
	}
	known("three were added", 4)
	stand.Figure(t, "three gateways added: known to the peer %v after they were started", time.Since(began).Round(time.Millisecond))
	w.linked(t, east, 4)

	began = time.Now()
	west.Gateways[0].Stop() // drains, and goes; it is the one that the entry names
	known("one has drained", 3)
	stand.Figure(t, "one drained and gone: known to the peer %v later", time.Since(began).Round(time.Millisecond))
	w.linked(t, east, 3)

	began = time.Now()
	west.Gateways[1].Kill()
	known("one was killed", 2)
	stand.Figure(t, "one killed: out of the roster %v later", time.Since(began).Round(time.Millisecond))
	w.linked(t, east, 2)

	// The caller's own federation starts again: what it has on disk is the roster.
	east.Federation.Stop()
	east.Federation.Start()
	known("after a restart", 2)

	results := load.Stop()
	if failed := results.Failed(); len(failed) > 0 {
		t.Errorf("%d of %d calls failed: %s", len(failed), len(results), results.Errors())
	}
	stand.Figure(t, "%d calls meanwhile, %d failed; p50 %v, p99 %v", len(results), len(results.Failed()),
		results.Quantile(0.5).Round(time.Millisecond), results.Quantile(0.99).Round(time.Millisecond))
}

// linked waits until the caller's gateway has links to so many gateways.
func (w *world) linked(t *testing.T, c *stand.Cluster, gateways int) {
	t.Helper()
	stand.Eventually(t, within, fmt.Sprintf("links to %d gateways", gateways), func() error {
		var links []struct {
			Gateway, State string
			Dialed         bool
		}
		if err := json.Unmarshal([]byte(w.run(c, "links", "--json")), &links); err != nil {
			return err
		}
		up := map[string]bool{}
		for _, l := range links {
			if l.Dialed && l.State == "up" {
				up[l.Gateway] = true
			}
		}
		if len(up) != gateways {
			return fmt.Errorf("links up to %v", up)
		}
		return nil
	})
}
