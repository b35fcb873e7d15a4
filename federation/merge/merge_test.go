package merge_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

var name = catalog.MustServiceName

func snapshot(t testing.TB, source string, services ...*catalog.Service) *catalog.Snapshot {
	t.Helper()
	s, err := catalog.NewSnapshot(source, services)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func service(n string, ports []catalog.Port, endpoints ...catalog.Endpoint) *catalog.Service {
	return &catalog.Service{Name: name(n), Ports: ports, Endpoints: endpoints}
}

func ports(pairs ...string) (out []catalog.Port) {
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, catalog.Port{Name: pairs[i], Protocol: catalog.Protocol(pairs[i+1])})
	}
	return out
}

func endpoint(id, port, address string, h catalog.Health) catalog.Endpoint {
	return catalog.Endpoint{ID: id, Port: port, Address: netip.MustParseAddrPort(address), Weight: 1, Health: h}
}

func summary(n string, p []catalog.Port, rows ...catalog.SummaryRow) *catalog.Summary {
	return &catalog.Summary{Service: name(n), Ports: p, Rows: rows}
}

// takeAll imports every service of every peer under its own name.
func takeAll(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
	return merge.Import{Rule: "all", As: n}, true
}

func TestSourcesFillEachOther(t *testing.T) {
	zone := catalog.Locality{Cloud: "aws", Region: "us-east-1", Zone: "use1-az4"}
	consulEP := endpoint("web-1", "http", "10.0.0.1:80", catalog.Unknown)
	consulEP.Locality = catalog.Locality{Cloud: "aws", Region: "us-east-1"}
	consulEP.Labels = map[string]string{"version": "v1"}
	consulEP.Weight = 7
	awsEP := endpoint("i-1", "http", "10.0.0.1:80", catalog.Critical)
	awsEP.Locality = zone
	awsEP.Labels = map[string]string{"version": "aws", "instance": "m7"}
	other := endpoint("web-1", "http", "10.0.0.2:80", catalog.Passing)
	tcpEP := endpoint("raw", "raw", "10.0.0.2:9", catalog.Passing)

	consul := service("web.shop", ports("http", "http"), consulEP)
	consul.Meta = map[string]string{"owner": "shop"}
	aws := service("web.shop", ports("http", "tcp", "raw", "tcp"), awsEP, other, tcpEP)
	aws.Meta = map[string]string{"owner": "aws", "vpc": "v"}
	v := merge.Merge(merge.Input{Cluster: "here", Sources: []merge.Source{
		{Name: "consul", Snapshot: snapshot(t, "a", consul)},
		{Name: "aws", Snapshot: snapshot(t, "b", aws)},
	}})

	got := v.Get(name("web.shop"))
	first := consulEP
	first.Source, first.Health, first.Locality = "consul", catalog.Critical, zone
	first.Labels = map[string]string{"version": "v1", "instance": "m7"}
	second := other
	second.ID, second.Source = "web-1@aws", "aws"
	third := tcpEP
	third.Source = "aws"
	want := &catalog.Service{
		Name: name("web.shop"), Ports: ports("http", "http", "raw", "tcp"),
		Endpoints: []catalog.Endpoint{first, second, third},
		Meta:      map[string]string{"owner": "shop", "vpc": "v"},
	}
	if !got.Local.Equal(want) {
		t.Errorf("local part:\n%s", diff(want, got.Local))
	}
	wantFrom := []merge.Provenance{
		{Field: "endpoints/web-1/health", Cluster: "here", Source: "aws"},
		{Field: "endpoints/web-1/labels/instance", Cluster: "here", Source: "aws"},
		{Field: "endpoints/web-1/locality", Cluster: "here", Source: "aws"},
		{Field: "meta/owner", Cluster: "here", Source: "consul"},
		{Field: "meta/vpc", Cluster: "here", Source: "aws"},
		{Field: "ports/http", Cluster: "here", Source: "consul"},
		{Field: "ports/raw", Cluster: "here", Source: "aws"},
	}
	if !slices.Equal(got.Provenance, wantFrom) {
		t.Errorf("provenance:\n%s", diff(wantFrom, got.Provenance))
	}
	wantConflict := []merge.Conflict{{
		Service: name("web.shop"), Field: "ports/http/protocol", Why: merge.BySourceOrder, Disagree: 1, Of: 2,
		Winner: merge.Side{Cluster: "here", Source: "consul", Service: name("web.shop"), Value: "http"},
		Losers: []merge.Side{{Cluster: "here", Source: "aws", Service: name("web.shop"), Value: "tcp"}},
	}}
	if d := diff(wantConflict, v.Conflicts()); d != "" {
		t.Errorf("conflicts:\n%s", d)
	}
	if consul.Endpoints[0].Source != "" || consul.Endpoints[0].Labels["instance"] != "" {
		t.Error("the source's own snapshot was changed")
	}
}

func diff(want, got any) string {
	text := func(v any) string {
		b, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	return cmp.Diff(text(want), text(got))
}

func TestHealthOfSeveralSources(t *testing.T) {
	for _, tc := range []struct{ first, second, want catalog.Health }{
		{catalog.Unknown, catalog.Passing, catalog.Passing},
		{catalog.Passing, catalog.Unknown, catalog.Passing},
		{catalog.Passing, catalog.Warning, catalog.Passing},
		{catalog.Warning, catalog.Passing, catalog.Warning},
		{catalog.Passing, catalog.Critical, catalog.Critical},
		{catalog.Critical, catalog.Passing, catalog.Critical},
		{catalog.Critical, catalog.Maintenance, catalog.Maintenance},
		{catalog.Maintenance, catalog.Critical, catalog.Maintenance},
		{catalog.Maintenance, catalog.Passing, catalog.Maintenance},
		{catalog.Unknown, catalog.Unknown, catalog.Unknown},
	} {
		v := merge.Merge(merge.Input{Cluster: "here", Sources: []merge.Source{
			{Name: "a", Snapshot: snapshot(t, "a", service("web.x", ports("p", "tcp"), endpoint("1", "p", "10.0.0.1:1", tc.first)))},
			{Name: "b", Snapshot: snapshot(t, "b", service("web.x", ports("p", "tcp"), endpoint("2", "p", "10.0.0.1:1", tc.second)))},
		}})
		if got := v.Get(name("web.x")).Local.Endpoints; len(got) != 1 || got[0].Health != tc.want || got[0].ID != "1" {
			t.Errorf("%s, then %s: %+v, want %s", tc.first, tc.second, got, tc.want)
		}
	}
}

func TestQuarantineHoldsOnlyWhereNoSourceLists(t *testing.T) {
	gone := endpoint("1", "p", "10.0.0.1:1", catalog.Passing)
	gone.Quarantined = true
	there := endpoint("2", "p", "10.0.0.1:1", catalog.Passing)
	for _, pair := range [][2]catalog.Endpoint{{gone, there}, {there, gone}, {gone, gone}} {
		v := merge.Merge(merge.Input{Cluster: "here", Sources: []merge.Source{
			{Name: "a", Snapshot: snapshot(t, "a", service("web.x", ports("p", "tcp"), pair[0]))},
			{Name: "b", Snapshot: snapshot(t, "b", service("web.x", ports("p", "tcp"), pair[1]))},
		}})
		want := pair[0].Quarantined && pair[1].Quarantined
		if got := v.Get(name("web.x")).Local.Endpoints[0].Quarantined; got != want {
			t.Errorf("quarantined by %v and %v: %v, want %v", pair[0].Quarantined, pair[1].Quarantined, got, want)
		}
	}
}

type pattern string

func (p pattern) Match(n catalog.ServiceName) bool { return string(p) == n.Namespace() }

func TestMappingFiltersAndRenames(t *testing.T) {
	p := ports("p", "tcp")
	src := snapshot(t, "s",
		service("web.a", p, endpoint("1", "p", "10.0.0.1:1", catalog.Passing)),
		service("web.b", p, endpoint("1", "p", "10.0.0.2:1", catalog.Passing)),
		service("old.a", p, endpoint("1", "p", "10.0.0.3:1", catalog.Passing)),
		service("web.c", p), service("web.d", p), service("evil.a", p))
	m := merge.Mapping{
		Include:    []merge.Matcher{pattern("a"), pattern("b"), pattern("c")},
		Exclude:    []merge.Matcher{pattern("c")},
		Namespaces: map[string]string{"a": "prod", "b": "prod"},
		Rename:     map[catalog.ServiceName]catalog.ServiceName{name("old.a"): name("new.x"), name("evil.a"): catalog.FederationService("here")},
	}
	v := merge.Merge(merge.Input{Cluster: "here", Sources: []merge.Source{{Name: "s", Snapshot: src, Mapping: m}}})
	var got []string
	for s := range v.All() {
		got = append(got, s.Name.String())
	}
	if want := []string{"web.prod", "new.x"}; !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	eps := v.Get(name("web.prod")).Local.Endpoints
	if len(eps) != 2 || eps[0].ID != "1" || eps[1].ID != "1@s" || v.Get(name("web.prod")).Local.Name != name("web.prod") {
		t.Errorf("two namespaces mapped to one: %+v", eps)
	}
	for field, bad := range map[string]merge.Mapping{
		"reserved":        {Rename: map[catalog.ServiceName]catalog.ServiceName{name("a.b"): catalog.FederationService("x")}},
		"zero":            {Rename: map[catalog.ServiceName]catalog.ServiceName{{}: name("a.b")}},
		"namespace":       {Namespaces: map[string]string{"a": "B"}},
		"empty namespace": {Namespaces: map[string]string{"a": ""}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%s: the mapping is valid", field)
		}
	}
	if err := (merge.Mapping{Namespaces: m.Namespaces}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestWinnerFollowsTheImportersOrder(t *testing.T) {
	own := snapshot(t, "s", service("web.x", ports("http", "http"), endpoint("1", "http", "10.0.0.1:1", catalog.Passing)))
	peers := []merge.Peer{
		{Cluster: "a", Summaries: []*catalog.Summary{summary("web.x", ports("grpc", "grpc", "http", "tcp"))}},
		{Cluster: "b", Summaries: []*catalog.Summary{summary("web.x", ports("grpc", "http", "http", "tls"))}},
		{Cluster: "c", Summaries: []*catalog.Summary{summary("web.x", ports("grpc", "grpc"))}},
	}
	for label, tc := range map[string]struct {
		own          *catalog.Snapshot
		order        []catalog.ClusterName
		http, grpc   catalog.Protocol
		httpWhy      merge.Why
		grpcWhy      merge.Why
		httpK, httpN int
		grpcK, grpcN int
	}{
		"own cluster first, then name":        {own, nil, "http", "grpc", merge.ByOwnCluster, merge.ByName, 2, 3, 1, 3},
		"own cluster first, whatever is said": {own, []catalog.ClusterName{"b", "a", "here"}, "http", "http", merge.ByOwnCluster, merge.ByClusterOrder, 2, 3, 2, 3},
		"by order":                            {nil, []catalog.ClusterName{"b"}, "tls", "http", merge.ByClusterOrder, merge.ByClusterOrder, 1, 2, 2, 3},
		"by name":                             {nil, nil, "tcp", "grpc", merge.ByName, merge.ByName, 1, 2, 1, 3},
	} {
		t.Run(label, func(t *testing.T) {
			v := merge.Merge(merge.Input{Cluster: "here", Sources: []merge.Source{{Name: "s", Snapshot: tc.own}}, Peers: peers, Order: tc.order, Import: takeAll})
			s := v.Get(name("web.x"))
			if want := ports("grpc", string(tc.grpc), "http", string(tc.http)); !slices.Equal(s.Ports, want) {
				t.Errorf("ports %v, want %v", s.Ports, want)
			}
			if len(s.Conflicts) != 2 {
				t.Fatalf("conflicts: %+v", s.Conflicts)
			}
			grpc, http := s.Conflicts[0], s.Conflicts[1]
			if grpc.Field != "ports/grpc/protocol" || grpc.Why != tc.grpcWhy || grpc.Disagree != tc.grpcK || grpc.Of != tc.grpcN {
				t.Errorf("%+v", grpc)
			}
			if http.Field != "ports/http/protocol" || http.Why != tc.httpWhy || http.Disagree != tc.httpK || http.Of != tc.httpN {
				t.Errorf("%+v", http)
			}
			if p := http.Parties(); !slices.Contains(p, "a") || !slices.Contains(p, "b") || slices.Contains(p, "c") {
				t.Error("a conflict concerns those that expose the disputed port")
			}
			// No conflict disturbs traffic: each offer stands as its origin made it,
			// with the ports that the origin exposes and no others.
			for _, o := range s.Offers {
				for _, p := range peers {
					if p.Cluster == o.Cluster && !slices.Equal(o.Ports, p.Summaries[0].Ports) {
						t.Errorf("the offer of %s has ports %v", o.Cluster, o.Ports)
					}
				}
			}
			if len(s.Offers) != 3 {
				t.Errorf("%d offers, want 3", len(s.Offers))
			}
		})
	}
}

func TestImportsRenameAndCap(t *testing.T) {
	p := ports("p", "tcp")
	rows := []catalog.SummaryRow{{Port: "p", Zone: "a", Ready: 1, Total: 1, Capacity: 5}, {Port: "p", Zone: "b", Ready: 1, Total: 1, Capacity: 500}, {Port: "p", Zone: "c", Ready: 1, Total: 1}}
	in := merge.Input{
		Cluster: "here",
		Peers: []merge.Peer{
			{Cluster: "gcp", ControlLost: true, Summaries: []*catalog.Summary{summary("billing.shop", p, rows...), summary("pay.shop", p), summary("aaa.shop", p), summary("secret.shop", p)}},
			{Cluster: "here", Summaries: []*catalog.Summary{summary("evil.shop", p)}},
		},
		Import: func(from catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
			switch n.String() {
			case "billing.shop":
				return merge.Import{Rule: "rename", As: name("pay.shop"), MaxCapacity: 100}, true
			case "pay.shop", "evil.shop":
				return merge.Import{Rule: "all", As: n}, true
			case "aaa.shop":
				return merge.Import{Rule: "reserved", As: catalog.FederationService("gcp")}, true
			}
			return merge.Import{}, false
		},
	}
	v := merge.Merge(in)
	if v.Len() != 1 {
		t.Fatalf("%d services, want pay.shop only", v.Len())
	}
	s := v.Get(name("pay.shop"))
	want := []merge.Offer{{
		Cluster: "gcp", Name: name("billing.shop"), Ports: p, Rule: "rename", ControlLost: true,
		Rows: []catalog.SummaryRow{{Port: "p", Zone: "a", Ready: 1, Total: 1, Capacity: 5}, {Port: "p", Zone: "b", Ready: 1, Total: 1, Capacity: 100}, {Port: "p", Zone: "c", Ready: 1, Total: 1, Capacity: 100}},
	}}
	if d := diff(want, s.Offers); d != "" {
		t.Errorf("offers:\n%s", d)
	}
	if rows[1].Capacity != 500 {
		t.Error("the peer's summary was changed")
	}
	wantConflict := []merge.Conflict{{
		Service: name("pay.shop"), Field: "import", Why: merge.ByRename, Disagree: 1, Of: 2,
		Winner: merge.Side{Cluster: "gcp", Service: name("billing.shop"), Value: "rename"},
		Losers: []merge.Side{{Cluster: "gcp", Service: name("pay.shop"), Value: "all"}},
	}}
	if d := diff(wantConflict, s.Conflicts); d != "" {
		t.Errorf("conflicts:\n%s", d)
	}
	in.Import = nil
	if got := merge.Merge(in); got.Len() != 0 {
		t.Errorf("without imports %d services are taken", got.Len())
	}
}

func TestEmptyView(t *testing.T) {
	var v *merge.View
	if v.Len() != 0 || v.Get(name("a.b")) != nil || v.Conflicts() != nil || v.Cluster() != "" || !v.Equal(merge.Merge(merge.Input{})) {
		t.Error("a nil view is an empty one")
	}
	for range v.All() {
		t.Error("a nil view yields a service")
	}
}
