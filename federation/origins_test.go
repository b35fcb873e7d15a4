package federation_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// happened waits for an event of a kind about a subject, and returns its reason.
func (c *cluster) happened(kind, subject string) (reason string) {
	c.t.Helper()
	eventually(c.t, kind+" of "+subject, func() bool {
		events, err := c.api.Events().List(c.t.Context())
		if err != nil {
			return false
		}
		for _, e := range events {
			if e.Kind == kind && e.Subject == subject {
				reason = e.Reason
				return true
			}
		}
		return false
	})
	return reason
}

// A second cluster of a peer's name, with a good certificate of the same trust
// domain: refused, with an alarm that names both, and the first is not touched.
func TestTwoClustersOfOneName(t *testing.T) {
	t.Parallel()
	p := newPair(t).synced()
	twin := newCluster(t, newWAN(), "west")
	twin.ca, twin.id = p.west.ca, p.west.ca.ID("/isthmus/second/west")
	twin.knows(p.east)
	twin.wan.at["east"], twin.wan.gateways["east"] = p.wan.at["east"], 1
	_, imports := shop()
	twin.config.Imports = imports("east")
	twin.source.publish(service("db.shop", 7))
	twin.start()
	twin.gateway("gw-1")
	reason := p.east.happened("peer_namesake", "west")
	if !strings.Contains(reason, twin.id.String()) || !strings.Contains(reason, "rename one") {
		t.Errorf("the alarm says %q", reason)
	}
	eventually(t, "the second is refused", func() bool {
		peer, err := twin.api.Peers().Get(t.Context(), "east")
		return err == nil && peer.State != resource.PeerOK && peer.Offered == 0 && peer.Reason != ""
	})
	// The list follows within a second of the exchange.
	eventually(t, "the first is as it was", func() bool {
		peer := p.east.peer("west")
		return peer.State == resource.PeerOK && peer.ID == p.west.id.String()
	})
	p.west.source.publish(service("db.shop", 2))
	p.ge.until("the first goes on", hasRemote("db.shop", "west", 2))
}

// A federation whose disk is put back to an old copy goes above every epoch that a
// peer has seen, and what it says then is taken.
func TestAPeerRestoredFromAnOldBackup(t *testing.T) {
	t.Parallel()
	p := newPair(t).synced()
	restart := func(change func()) {
		t.Helper()
		p.ge.halt()
		p.east.stop()
		change()
		p.east.start()
		p.wan.mu.Lock()
		p.wan.at["east"] = p.east.fed.Addrs().Mesh.String()
		p.wan.mu.Unlock()
		p.ge = p.east.gateway("gw-1")
	}
	backup := p.east.dir + "/backup"
	restart(func() {
		if err := os.CopyFS(backup, os.DirFS(p.east.config.DataDir)); err != nil {
			t.Fatal(err)
		}
	})
	for n := range 3 { // the world goes on
		restart(func() {})
		p.east.source.publish(service("web.shop", 4+n), service("private.other", 1))
		p.gw.until("news", hasRemote("web.shop", "east", uint32(4+n)))
	}
	before := p.west.peer("east").Epoch
	restart(func() {
		if err := os.RemoveAll(p.east.config.DataDir); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(p.east.config.DataDir, os.DirFS(backup)); err != nil {
			t.Fatal(err)
		}
	})
	p.east.source.publish(service("web.shop", 9), service("private.other", 1))
	p.gw.until("what the restored one says", hasRemote("web.shop", "east", 9))
	// The list of peers follows the catalog a moment later.
	var after uint64
	eventually(t, "an epoch above the one before the restoration", func() bool {
		after = p.west.peer("east").Epoch
		return after > before
	})
	if reason := p.west.happened("peer_restarted", "east"); !strings.Contains(reason, "started anew, or was restored") {
		t.Errorf("the event says %q", reason)
	}
	t.Logf("figure: a peer restored from a backup of four starts ago: epoch %d, above %d", after, before)
	// And the restored one's own gateways follow it.
	p.ge.until("its own table", func(t *route.Table) bool { return len(t.Services) > 0 && t.Epoch > 0 })
}

// Clocks of the federations are decades apart, and jump: what is newer is said by
// epochs and versions alone.
func TestClocksDecadesApart(t *testing.T) {
	t.Parallel()
	const decades = 30 * 365 * 24 * time.Hour
	p := newPair(t).synced()
	ready := 3
	for _, skew := range []struct{ east, west time.Duration }{{decades, -decades}, {-2 * decades, 2 * decades}, {decades, -decades}} {
		p.east.clock.forward(skew.east)
		p.west.clock.forward(skew.west)
		ready++
		p.east.source.publish(service("web.shop", ready), service("private.other", 1))
		p.gw.until("news of east", hasRemote("web.shop", "east", uint32(ready)))
		p.west.source.publish(service("db.shop", ready))
		p.ge.until("news of west", hasRemote("db.shop", "west", uint32(ready)))
		for _, side := range []struct {
			c    *cluster
			peer string
		}{{p.east, "west"}, {p.west, "east"}} {
			eventually(t, side.c.name+" is in sync", func() bool {
				peer, err := side.c.api.Peers().Get(t.Context(), side.peer)
				return err == nil && peer.State == resource.PeerOK && !peer.ControlLost
			})
		}
	}
}
