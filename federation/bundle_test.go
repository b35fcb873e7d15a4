package federation_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	gospiffe "github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// One federation publishes its trust domain's bundle, the other follows it by
// https_spiffe from a pinned file on, and hands it to its gateway; go-spiffe reads
// the same endpoint.
func TestBundleEndpointIsPublishedAndFollowed(t *testing.T) {
	t.Parallel()
	w := newWAN()
	east, west := newCluster(t, w, "east"), newCluster(t, w, "west")
	east.config.BundleEndpoint = federation.BundleServer{Address: "127.0.0.1:0", Profile: "https_spiffe"}
	east.source.publish()
	east.start()
	url := "https://" + east.fed.Addrs().Bundle.String() + "/"
	published := parsed(t, east.own, east.ca.TrustDomain())
	b, err := gospiffe.FetchBundle(t.Context(), east.ca.TrustDomain(), url, gospiffe.WithSPIFFEAuth(east.ca.Bundle(), east.id))
	if err != nil || !b.Equal(published) {
		t.Fatalf("go-spiffe reads %v, %v", b, err)
	}

	west.follows(east, url)
	west.source.publish()
	west.start()
	gw := west.gateway("gw-1")
	sequence, _ := published.SequenceNumber()
	eventually(t, "the endpoint is followed", func() bool {
		h := west.peer("east").Trust
		return h != nil && h.From == "endpoint" && h.Endpoint != nil && h.Endpoint.State == "ok"
	})
	h := west.peer("east").Trust
	if !h.Held || h.Sequence != sequence || h.Authorities != 1 || h.Endpoint.URL != url || h.Endpoint.FetchedAt.IsZero() || h.Error != "" {
		t.Errorf("trust is %+v, endpoint %+v", h, h.Endpoint)
	}
	gw.until("the endpoint's bundle", func(table *route.Table) bool {
		b, err := identity.ParseBundle(east.ca.TrustDomain(), table.Peers[0].Bundle)
		return err == nil && b.Sequence == sequence
	})
}

// follows has c know o by its bundle endpoint, and not by what its federation
// says.
func (c *cluster) follows(o *cluster, url string) {
	c.knows(o)
	p := &c.config.Peers[len(c.config.Peers)-1]
	p.Bundle.Endpoint = policy.BundleEndpoint{URL: url, Profile: "https_spiffe", SPIFFEID: o.id.String()}
}

// The far domain rotates its root while this federation is down: what was fetched
// before is in force at the start, what the endpoint says now soon after, and the
// gateways have it. The number does not go back when the publisher's does.
func TestRotationArrivesByTheBundleEndpoint(t *testing.T) {
	t.Parallel()
	w := newWAN()
	east, west := newCluster(t, w, "east"), newCluster(t, w, "west")
	var document atomic.Pointer[[]byte]
	set := func(d []byte) { document.Store(&d) }
	set(east.ca.BundleJSON(5))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := bundleendpoint.NewServer(bundleendpoint.ServerOptions{
		Config:   bundleendpoint.ServerConfig{Address: l.Addr().String(), Profile: bundleendpoint.SPIFFE},
		Identity: east.ca.Source(east.id), Document: func() ([]byte, error) { return *document.Load(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, func(ctx context.Context) error { return publisher.Serve(ctx, l) })
	west.follows(east, "https://"+l.Addr().String()+"/")
	west.source.publish()
	west.start()
	sequence := func() uint64 {
		if h := west.peer("east").Trust; h != nil && h.From == "endpoint" {
			return h.Sequence
		}
		return 0
	}
	eventually(t, "the first bundle", func() bool { return sequence() == 5 })
	west.stop()
	next := identitytest.NewCA("east.test")
	set(identitytest.BundleJSON(east.ca.TrustDomain(), 6, east.ca.Certificate(), next.Certificate()))
	west.own = nil // a fresh identity, which remembers nothing
	west.start()
	eventually(t, "the next bundle", func() bool { return sequence() == 6 })
	west.gateway("gw-1").until("the bundle with two roots", func(table *route.Table) bool {
		b, err := identity.ParseBundle(east.ca.TrustDomain(), table.Peers[0].Bundle)
		return err == nil && len(b.Authorities) == 2
	})
	if _, err := west.own.VerifyPeer(next.SVID(east.id).Certificates); err != nil {
		t.Error(err)
	}
	west.stop()
	set(east.ca.BundleJSON(5)) // restored from an old backup
	west.own = nil
	west.start()
	eventually(t, "the step back is refused", func() bool {
		h := west.peer("east").Trust
		return h != nil && h.Endpoint.State == "failing" && h.Sequence == 6 && strings.Contains(h.Error, "goes back")
	})
}

// parsed is the bundle of a source's own domain, for go-spiffe.
func parsed(t *testing.T, s *identity.Source, td spiffeid.TrustDomain) *spiffebundle.Bundle {
	t.Helper()
	document, err := s.TrustBundle()
	if err != nil {
		t.Fatal(err)
	}
	b, err := spiffebundle.Parse(td, document)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// An endpoint that is down is told in the list, the events, the metrics; with
// nothing pinned also by readiness. What the exchange says is not asked for.
func TestFailingBundleEndpointIsTold(t *testing.T) {
	t.Parallel()
	w, ctx := newWAN(), t.Context()
	east, west := newCluster(t, w, "east"), newCluster(t, w, "west")
	west.knows(east)
	west.config.Peers[0].Bundle = policy.PeerBundle{Endpoint: policy.BundleEndpoint{
		URL: "https://127.0.0.1:1/", Profile: "https_spiffe", SPIFFEID: east.id.String(),
	}}
	west.source.publish()
	west.start()
	eventually(t, "the list tells it", func() bool {
		h := west.peer("east").Trust
		return h != nil && !h.Held && h.Endpoint != nil && h.Endpoint.State == "failing" && h.Endpoint.Error != "" && h.Endpoint.Failures > 0
	})
	eventually(t, "an event tells it", func() bool {
		events, err := west.api.Events().List(ctx)
		return err == nil && slices.ContainsFunc(events, func(e resource.Event) bool {
			return e.Kind == "bundle_endpoint" && e.Subject == "east" && strings.HasPrefix(e.Reason, "failing: ")
		})
	})
	families, err := west.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	failing := 0.0
	for _, f := range families {
		if f.GetName() == "isthmus_bundle_endpoint_failing" {
			failing = f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	if failing != 1 {
		t.Errorf("isthmus_bundle_endpoint_failing is %v", failing)
	}
	err = west.api.Ready(ctx)
	if err == nil || !strings.Contains(err.Error(), "peer east: no bundle of trust domain east.test, endpoint https://127.0.0.1:1/ is failing") {
		t.Errorf("readiness says %v", err)
	}
}

// A bundle that the identity's cache still has is trusted no longer when the
// domain's last peer left the configuration while no process ran.
func TestCachedBundleOfAFormerPeerIsForgottenAtBoot(t *testing.T) {
	t.Parallel()
	w := newWAN()
	east, west := newCluster(t, w, "east"), newCluster(t, w, "west")
	other := identitytest.NewCA("former.test")
	west.own = west.ca.Source(west.id, west.ca.Bundle())
	if err := west.own.SetPeerBundle(other.TrustDomain(), other.BundleJSON(3)); err != nil {
		t.Fatal(err)
	}
	west.knows(east)
	west.source.publish()
	west.start()
	eventually(t, "the former domain is forgotten", func() bool {
		return !slices.ContainsFunc(west.own.Bundles(), func(b identity.BundleStatus) bool { return b.TrustDomain == other.TrustDomain() })
	})
	if !slices.ContainsFunc(west.own.Bundles(), func(b identity.BundleStatus) bool { return b.TrustDomain == east.ca.TrustDomain() }) {
		t.Error("the bundle of a peer was forgotten with it")
	}
	if _, err := west.own.VerifyPeer(other.SVID(other.ID("/x")).Certificates); err == nil {
		t.Error("a certificate of the former domain passed")
	}
}

func TestBundleConfigProblems(t *testing.T) {
	peer := func(e policy.BundleEndpoint) federation.Config {
		return federation.Config{Peers: []federation.Peer{{Name: "b", ID: "spiffe://b.test/x", Bundle: policy.PeerBundle{Endpoint: e}}}}
	}
	for name, c := range map[string]struct {
		config federation.Config
		field  string
	}{
		"http":             {peer(policy.BundleEndpoint{URL: "http://b.test/", Profile: "https_web"}), "peers[0].bundle.endpoint.url"},
		"user info":        {peer(policy.BundleEndpoint{URL: "https://u:p@b.test/", Profile: "https_web"}), "peers[0].bundle.endpoint.url"},
		"profile":          {peer(policy.BundleEndpoint{URL: "https://b.test/", Profile: "web"}), "peers[0].bundle.endpoint.profile"},
		"id":               {peer(policy.BundleEndpoint{URL: "https://b.test/", Profile: "https_spiffe"}), "peers[0].bundle.endpoint.spiffe_id"},
		"server":           {federation.Config{BundleEndpoint: federation.BundleServer{Address: "x", Profile: "https_spiffe"}}, "bundle_endpoint.address"},
		"server's files":   {federation.Config{BundleEndpoint: federation.BundleServer{Address: "x:1", Profile: "https_web"}}, "bundle_endpoint.cert_file"},
		"server's profile": {federation.Config{BundleEndpoint: federation.BundleServer{Address: "x:1"}}, "bundle_endpoint.profile"},
		"two of one domain": {federation.Config{Peers: []federation.Peer{
			{Name: "b", ID: "spiffe://b.test/x", Bundle: policy.PeerBundle{Endpoint: policy.BundleEndpoint{URL: "https://b.test/", Profile: "https_web"}}},
			{Name: "c", ID: "spiffe://b.test/y", Bundle: policy.PeerBundle{Endpoint: policy.BundleEndpoint{URL: "https://c.test/", Profile: "https_web"}}},
		}}, "peers[1].bundle.endpoint.url"},
	} {
		err := c.config.Validate()
		if !names(err, c.field, "") {
			t.Errorf("%s: got %v, want a problem with %s", name, err, c.field)
		}
	}
}
