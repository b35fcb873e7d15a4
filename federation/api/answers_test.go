package api_test

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

func list[T any](f *feed.Feed[T], key string, item T) {
	f.Replace([]feed.Entry[T]{{Key: key, Item: item}})
}

// fill puts one item with every field set into each list.
func (s *stand) fill(t *testing.T) {
	t.Helper()
	now := time.Date(2026, 11, 23, 12, 0, 0, 5, time.UTC)
	web, locality := catalog.MustServiceName("web"), catalog.Locality{Cloud: "aws", Region: "us-east-1", Zone: "use1-az4"}
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	rows := []catalog.SummaryRow{{Port: "http", Zone: "a", Subset: "v=1", Ready: 1, Total: 2, Capacity: 1 << 40}}
	conflict := merge.Conflict{
		Service: web, Field: "ports/http/protocol", Winner: merge.Side{Cluster: "east", Source: "consul", Service: web, Value: "http"},
		Losers: []merge.Side{{Cluster: "west", Service: web, Value: "tcp"}}, Why: merge.ByOwnCluster, Disagree: 1, Of: 2,
	}
	gateway := catalog.Gateway{Name: "gw-1", ID: "spiffe://td/isthmus/cluster/west/gateway/gw-1", Addresses: []string{"gw.west.test:7443"}, Draining: true}
	list(s.lists.Clusters, "east", resource.Cluster{Name: "east", ID: "spiffe://td/c", Locality: locality, Own: true, State: resource.PeerOK, Gateways: 1, Services: 2})
	list(s.lists.Peers, "west", resource.Peer{
		Name: "west", ID: "spiffe://td/c", TrustDomain: "td", Locality: locality, State: resource.PeerControlLost, Reason: "eof", ControlLost: true,
		Via: "gw-1", HeardAt: now, Epoch: 1, Version: 1 << 60, Bootstrap: []string{"x:1"}, Gateways: []catalog.Gateway{gateway},
		Asserts: []policy.IDPattern{"spiffe://td/*"}, Offered: 1, Imported: 1, Conflicts: []merge.Conflict{conflict},
	})
	list(s.lists.Services, "web.default", resource.Service{
		Name: web, Ports: ports, Endpoints: 2, Ready: 1, Sources: []string{"consul"}, ExportedTo: []catalog.ClusterName{"west"},
		Remote:    []resource.Offer{{Cluster: "west", Name: web, Ports: ports, Ready: 1, Total: 2, Capacity: 3, Rows: rows, Import: "all", ControlLost: true}},
		Conflicts: []merge.Conflict{conflict}, TrafficPolicy: "web",
	})
	list(s.lists.Endpoints, "web.default/http/1", resource.Endpoint{
		Key: "web.default/http/1", Service: web,
		Endpoint: catalog.Endpoint{
			ID: "1", Port: "http", Address: netip.MustParseAddrPort("[fd00::1]:8080"), Locality: locality, Weight: 5,
			Health: catalog.Warning, Labels: map[string]string{"v": "1"}, Source: "consul", Quarantined: true,
		},
		Verdicts: []resource.EndpointVerdict{{Gateway: "gw-1", Reason: "refused", Since: now}},
	})
	list(s.lists.Gateways, "gw-1", resource.Gateway{
		Name: "gw-1", ID: gateway.ID, Addresses: gateway.Addresses, Draining: true, Locality: locality, State: "alive",
		ReportedAt: now, StartedAt: now, Build: "v1", Epoch: 1, Version: 2, Links: 2, LinksUp: 1,
	})
	list(s.lists.Links, "k", resource.Link{Key: "k", From: "gw-1", LinkReport: route.LinkReport{
		Cluster: "west", Gateway: "gw-1", Address: "x:1", Dialed: true, State: "up", Reason: "r", Since: now, Transport: "quic",
		Connections: 2, Streams: 1, RTT: time.Millisecond, MinRTT: 1, Jitter: 1, Loss: 0.5, BytesSent: 1 << 60, BytesReceived: 1,
	}})
	list(s.lists.Sources, "consul", resource.Source{
		Name: "consul", Kind: "consul", State: "quarantined", Error: "e", LastSuccess: now, Age: time.Hour, Version: 1, Services: 1,
		Endpoints: 1, Refused: 1, Quarantined: []string{"web.default/1"}, QuarantinedCount: 1,
	})
	list(s.lists.Events, "1", resource.Event{Sequence: 1, At: now, Kind: "peer_state", Cause: "peer", Subject: "west", Cluster: "east", Reason: "r"})

	percent, retries := uint32(40), uint32(1)
	rule := policy.Import{Name: "a", From: "west", Services: []policy.ServicePattern{"web.default"}, As: new(catalog.MustServiceName("x.y")), MaxCapacity: 9}
	_, err := s.tcp.Imports().Create(t.Context(), resource.Import{Import: rule}, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.tcp.Intentions().Create(t.Context(), resource.Intention{Intention: policy.Intention{
		Name: "a", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://td/*"}, Action: policy.Deny,
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.tcp.TrafficPolicies().Create(t.Context(), resource.TrafficPolicy{Traffic: policy.Traffic{
		Name: "a", Services: []policy.ServicePattern{"*.shop"}, Algorithm: policy.LeastRequest, Clusters: []catalog.ClusterName{"west"},
		Weights: map[catalog.ClusterName]uint32{"west": 3}, DisableFailover: true, PanicThreshold: &percent, FailClosed: true, Retries: &retries,
		HealthCheck: &policy.HealthCheck{Type: "http", Path: "/", IntervalMS: 1000, TimeoutMS: 500, Fall: 1, Rise: 1},
	}}, false)
	if err != nil {
		t.Fatal(err)
	}
}

// What is answered is what the document says, for every way to read.
func TestAnswersAreAsDocumented(t *testing.T) {
	s := newStand(t)
	s.fill(t)
	names := map[string]string{
		"clusters": "east", "peers": "west", "services": "web.default", "gateways": "gw-1", "sources": "consul",
		"exports": "from-file", "imports": "a", "intentions": "a", "traffic-policies": "a",
	}
	paths := map[string]string{
		"/v1/endpoints": "", "/v1/links": "", "/v1/events": "", "/v1/version": "", "/v1/trust": "", "/v1/explain": "?service=web",
	}
	for plural, name := range names {
		paths["/v1/"+plural] = ""
		paths["/v1/"+plural+"/{name}"] = name
	}
	for path, more := range paths {
		url := path + more
		if more != "" && more[0] != '?' {
			url = path[:len(path)-len("{name}")] + more
		}
		got := s.ask(t, "GET", url, "")
		if got.status != http.StatusOK {
			t.Errorf("GET %s = %+v", url, got)
			continue
		}
		wrong, err := s.server.CheckAnswer(path, []byte(got.body))
		if err != nil {
			t.Fatalf("GET %s: %v", url, err)
		}
		for _, w := range wrong {
			t.Errorf("GET %s: %v in %s", url, w, got.body)
		}
	}
}

// A client reads back what was put into the lists, nothing lost on the way.
func TestClientReadsEverything(t *testing.T) {
	s := newStand(t)
	s.fill(t)
	ctx := t.Context()
	if got, err := s.tcp.Peers().Get(ctx, "west"); err != nil || len(got.Conflicts) != 1 || got.Gateways[0].Addresses[0] != "gw.west.test:7443" {
		t.Errorf("peer %+v, %v", got, err)
	}
	if got, err := s.tcp.Links().List(ctx); err != nil || len(got) != 1 || got[0].Loss != 0.5 || got[0].BytesSent != 1<<60 {
		t.Errorf("links %+v, %v", got, err)
	}
	if got, err := s.tcp.Endpoints("web").List(ctx); err != nil || len(got) != 1 || got[0].Address.String() != "[fd00::1]:8080" || !got[0].Quarantined {
		t.Errorf("endpoints %+v, %v", got, err)
	}
	if got, err := s.tcp.Imports().Get(ctx, "a"); err != nil || got.As.String() != "x.y" || got.Origin != resource.FromAPI || got.ETag == "" {
		t.Errorf("import %+v, %v", got, err)
	}
	if got, err := s.tcp.TrafficPolicies().Get(ctx, "a"); err != nil || *got.PanicThreshold != 40 || got.Weights["west"] != 3 {
		t.Errorf("traffic policy %+v, %v", got, err)
	}
	for _, err := range []error{
		only(s.tcp.Clusters().List(ctx)), only(s.tcp.Services().List(ctx)), only(s.tcp.Gateways().List(ctx)),
		only(s.tcp.Sources().List(ctx)), only(s.tcp.Events().List(ctx)),
	} {
		if err != nil {
			t.Error(err)
		}
	}
}

func only[T any](_ []T, err error) error { return err }
