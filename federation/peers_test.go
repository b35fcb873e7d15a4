package federation_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// entry is a cluster as another one writes it.
func (c *cluster) entry() resource.PeerRule {
	return resource.PeerRule{Peer: policy.Peer{
		Name: catalog.ClusterName(c.name), ID: c.id.String(), Gateways: []string{"127.0.0.1:7443"},
		Bundle: policy.PeerBundle{Document: string(c.ca.BundleJSON(1))}, Cloud: "aws", Region: c.name,
		Asserts: []policy.IDPattern{policy.IDPattern("spiffe://" + c.name + ".test/shop/*")},
	}}
}

// write enters o as a peer of c over the API.
func (c *cluster) write(o *cluster) resource.PeerRule {
	c.t.Helper()
	made, err := c.api.PeerRules().Create(c.t.Context(), o.entry(), false)
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

func (c *cluster) peer(name string) resource.Peer {
	c.t.Helper()
	p, err := c.api.Peers().Get(c.t.Context(), name)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func statusOf(err error) int {
	if se, ok := errors.AsType[*client.StatusError](err); ok {
		return se.Status
	}
	return 0
}

// Peers that are written over the API while both federations run: they join,
// change without being cut, outlive a restart, and go at once.
func TestPeersAreWrittenOverTheAPI(t *testing.T) {
	t.Parallel()
	w, ctx := newWAN(), t.Context()
	east, west := newCluster(t, w, "east").start(), newCluster(t, w, "west").start()
	ge, gw := east.gateway("gw-1"), west.gateway("gw-1")
	east.source.publish(service("web.shop", 3))
	west.source.publish()
	// Rules come first here: they do nothing before the peer is there.
	if _, err := east.api.Exports().Create(ctx, resource.Export{Export: policy.Export{
		Name: "web", Services: []policy.ServicePattern{"web.shop"}, To: []string{"west"},
	}}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := west.api.Imports().Create(ctx, resource.Import{Import: policy.Import{
		Name: "web", From: "east", Services: []policy.ServicePattern{"*.shop"},
	}}, false); err != nil {
		t.Fatal(err)
	}
	made := east.write(west)
	if got := east.peer("west"); got.ETag != made.ETag || got.Origin != resource.FromAPI || !got.Spec.Equal(west.entry().Peer) {
		t.Errorf("read after the write: %+v, wrote etag %s", got, made.ETag)
	}
	west.write(east)
	table := gw.until("web.shop", hasRemote("web.shop", "east", 3))
	if p := table.Peers[0]; p.Bundle == nil || p.ID != east.id.String() {
		t.Errorf("peer in the table: %+v", p)
	}

	// A change of what the peer may assert leaves the exchange alone.
	eventually(t, "in sync", func() bool { return east.peer("west").State == resource.PeerOK })
	reconnects := gathered(t, east, "isthmus_exchange_connects_total", "west")
	changed := west.entry()
	changed.Asserts = []policy.IDPattern{"spiffe://west.test/*"}
	if _, err := east.api.PeerRules().Replace(ctx, "west", changed, `"1"`, false); statusOf(err) != http.StatusPreconditionFailed {
		t.Errorf("replaced under an old etag: %v", err)
	}
	if _, err := east.api.PeerRules().Replace(ctx, "west", changed, made.ETag, false); err != nil {
		t.Fatal(err)
	}
	ge.until("the new asserts", func(t *route.Table) bool {
		return len(t.Peers) == 1 && slices.Equal(t.Peers[0].Asserts, changed.Asserts)
	})
	if n := gathered(t, east, "isthmus_exchange_connects_total", "west"); n != reconnects {
		t.Errorf("a change of asserts cut the exchange: %v connections, before %v", n, reconnects)
	}

	west.stop()
	west.start()
	eventually(t, "joined again after a restart", func() bool { return west.peer("east").State == resource.PeerOK })

	// Removal: the exchange is cut, the table says so, the bundle is forgotten.
	if err := east.api.PeerRules().Delete(ctx, "west", "", false); err != nil {
		t.Fatal(err)
	}
	for _, b := range east.own.Bundles() {
		if b.TrustDomain == west.ca.TrustDomain() {
			t.Error("the removed peer's bundle is still trusted")
		}
	}
	if _, err := east.api.Peers().Get(ctx, "west"); statusOf(err) != http.StatusNotFound {
		t.Errorf("the removed peer is still there: %v", err)
	}
	ge.until("no peer", func(t *route.Table) bool { return len(t.Peers) == 0 })
	eventually(t, "the removed peer notices", func() bool { return west.peer("east").State != resource.PeerOK })
}

// Of two peers that exclude each other one is refused, whoever wrote the other.
func TestPeersThatExcludeEachOther(t *testing.T) {
	t.Parallel()
	w, ctx := newWAN(), t.Context()
	north, south := newCluster(t, w, "north"), newCluster(t, w, "south")
	east := newCluster(t, w, "east").knows(north).start()
	for name, c := range map[string]struct {
		spoil func(*resource.PeerRule)
		want  int
	}{
		"the own name":       {func(r *resource.PeerRule) { r.Name = "east" }, http.StatusUnprocessableEntity},
		"the own id":         {func(r *resource.PeerRule) { r.ID = east.id.String() }, http.StatusUnprocessableEntity},
		"an own gateway":     {func(r *resource.PeerRule) { r.ID = east.id.String() + "/gateway/gw-1" }, http.StatusUnprocessableEntity},
		"a configured name":  {func(r *resource.PeerRule) { r.Name = "north" }, http.StatusConflict},
		"a configured id":    {func(r *resource.PeerRule) { r.ID = north.id.String() }, http.StatusUnprocessableEntity},
		"another's callers":  {func(r *resource.PeerRule) { r.Asserts = []policy.IDPattern{"spiffe://north.test/*"} }, http.StatusUnprocessableEntity},
		"a bad address":      {func(r *resource.PeerRule) { r.Gateways = []string{"nowhere"} }, http.StatusUnprocessableEntity},
		"two bundles":        {func(r *resource.PeerRule) { r.Bundle.File = "/x" }, http.StatusUnprocessableEntity},
		"no federation's id": {func(r *resource.PeerRule) { r.ID = "spiffe://south.test" }, http.StatusUnprocessableEntity},
	} {
		r := south.entry()
		c.spoil(&r)
		if _, err := east.api.PeerRules().Create(ctx, r, false); statusOf(err) != c.want {
			t.Errorf("%s: %v, want status %d", name, err, c.want)
		}
	}
	if err := east.api.PeerRules().Delete(ctx, "north", "", false); statusOf(err) != http.StatusConflict {
		t.Errorf("a configured peer was deleted over the API: %v", err)
	}
	if got := east.peer("north"); got.Origin != resource.FromConfig || got.ETag == "" {
		t.Errorf("configured peer: %+v", got)
	}
	east.write(south)
	// The configuration names it too now, under another name: the file wins.
	c := east.loaded
	c.Peers = append(slices.Clone(c.Peers), federationPeer{Name: "southern", ID: south.id.String()})
	if err := east.fed.Reload(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := east.api.Peers().Get(ctx, "south"); statusOf(err) != http.StatusNotFound {
		t.Errorf("two peers of one id: %v", err)
	}
	if err := east.fed.Reload(ctx, east.loaded); err != nil {
		t.Fatal(err)
	}
	if got := east.peer("south"); got.Origin != resource.FromAPI {
		t.Errorf("the stored peer did not come back: %+v", got)
	}
}

// gathered is one of the cluster's metrics of a peer.
func gathered(t *testing.T, c *cluster, name, peer string) float64 {
	t.Helper()
	families, err := c.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "peer" && l.GetValue() == peer {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	t.Fatalf("no metric %s of %s", name, peer)
	return 0
}
