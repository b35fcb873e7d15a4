package federation_test

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Dry runs on real federations say what then happens, and change nothing.
func TestDryRunsSayWhatWouldChange(t *testing.T) {
	t.Parallel()
	w, ctx := newWAN(), t.Context()
	east, west := newCluster(t, w, "east"), newCluster(t, w, "west")
	east.knows(west)
	west.knows(east)
	east.start()
	west.start()
	east.gateway("gw-1")
	gw := west.gateway("gw-1")
	east.source.publish(service("web.shop", 3), service("cart.shop", 1))
	west.source.publish()
	eventually(t, "own services are worked out", func() bool {
		list, err := east.api.Services().List(ctx)
		return err == nil && len(list) == 2
	})

	export := resource.Export{Export: policy.Export{Name: "web", Services: []policy.ServicePattern{"web.shop"}, To: []string{"west"}}}
	would, err := east.api.Exports().TryCreate(ctx, export)
	if err != nil {
		t.Fatal(err)
	}
	if i := would.Would; i.PeersTotal != 1 || i.Peers[0].Peer != "west" || i.Peers[0].Offered[0].Service.String() != "web.shop" || i.Peers[0].Offered[0].Change != resource.ImpactAdded ||
		i.ServicesTotal != 1 || would.Item == nil || would.Item.Name != "web" {
		t.Errorf("an export: %+v", would)
	}
	if list, err := east.api.Exports().List(ctx); err != nil || len(list) != 0 {
		t.Errorf("a dry run has written: %+v, %v", list, err)
	}
	made, err := east.api.Exports().Create(ctx, export, false)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "west is told", func() bool { return west.peer("east").Offered == 1 })

	as := catalog.MustServiceName("web.theirs")
	take := resource.Import{Import: policy.Import{Name: "web", From: "east", Services: []policy.ServicePattern{"web.shop"}, As: &as}}
	eventually(t, "the import is foreseen", func() bool { // west's view follows what it is told
		would, err := west.api.Imports().TryCreate(ctx, take)
		if err != nil {
			t.Fatal(err)
		}
		i := would.Would
		return i.ServicesTotal == 1 && i.Services[0].Service == as && i.Services[0].Change == resource.ImpactAdded && i.Services[0].Clusters[0] == "east"
	})
	if _, err := west.api.Imports().Create(ctx, take, false); err != nil {
		t.Fatal(err)
	}
	gw.until("web.theirs", hasRemote("web.theirs", "east", 3))

	gone, err := east.api.Exports().TryDelete(ctx, "web", made.ETag)
	if err != nil || gone.PeersTotal != 1 || gone.Peers[0].Offered[0].Change != resource.ImpactRemoved {
		t.Errorf("a deletion: %+v, %v", gone, err)
	}
	// What changes nothing says so.
	same, err := east.api.Exports().TryReplace(ctx, "web", export, made.ETag)
	if err != nil || !same.Would.IsZero() {
		t.Errorf("a replacement by the same: %+v, %v", same.Would, err)
	}
	peer, err := east.api.PeerRules().TryCreate(ctx, resource.PeerRule{Peer: policy.Peer{Name: "north", ID: "spiffe://north.test/isthmus/cluster/north"}})
	if err != nil || peer.Would.PeersTotal != 1 || peer.Would.Peers[0].Change != resource.ImpactAdded {
		t.Errorf("a peer: %+v, %v", peer, err)
	}
}
