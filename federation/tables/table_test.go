package tables_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/tables"
)

var (
	name = catalog.MustServiceName
	http = []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
)

func endpoint(id, zone string, h catalog.Health, labels map[string]string) catalog.Endpoint {
	e := catalog.Endpoint{ID: id, Port: "http", Address: netip.MustParseAddrPort("10.9.8.7:8080"), Weight: 1, Health: h, Labels: labels}
	if zone != "" {
		e.Locality = catalog.Locality{Cloud: "aws", Region: "us-east-1", Zone: zone}
	}
	return e
}

func source(t testing.TB, services ...*catalog.Service) merge.Source {
	t.Helper()
	s, err := catalog.NewSnapshot("s", services)
	if err != nil {
		t.Fatal(err)
	}
	return merge.Source{Name: "s", Snapshot: s}
}

func fixture(t testing.TB) (*merge.View, *policy.Index) {
	held := endpoint("held", "a", catalog.Passing, nil)
	held.Quarantined = true
	ix := policy.NewIndex(policy.Set{
		Exports:    []policy.Export{{Name: "shop", Services: []policy.ServicePattern{"*.shop"}, To: []string{"gcp"}, SubsetLabels: []string{"version"}}},
		Imports:    []policy.Import{{Name: "all", From: "gcp", Services: []policy.ServicePattern{"*"}}, {Name: "gone", From: "gone", Services: []policy.ServicePattern{"*"}}},
		Intentions: []policy.Intention{{Name: "b"}, {Name: "a"}},
		Traffic:    []policy.Traffic{{Name: "pinned", Services: []policy.ServicePattern{"web.shop"}, Pin: "gcp"}},
	})
	v := merge.Merge(merge.Input{
		Cluster: "aws",
		Sources: []merge.Source{source(t,
			&catalog.Service{Name: name("web.shop"), Ports: http, Endpoints: []catalog.Endpoint{
				endpoint("1", "a", catalog.Passing, map[string]string{"version": "v1", "secret": "x"}),
				endpoint("2", "a", catalog.Passing, map[string]string{"version": "v1"}),
				endpoint("3", "b", catalog.Critical, map[string]string{"version": "v2"}),
				endpoint("4", "", catalog.Unknown, nil),
				held,
			}},
			&catalog.Service{Name: name("db.data"), Ports: http})},
		Peers: []merge.Peer{
			{Cluster: "gcp", Summaries: []*catalog.Summary{{Service: name("web.shop"), Ports: http}, {Service: name("theirs.x"), Ports: http}, {Service: name("theirs.shop"), Ports: http}}},
			{Cluster: "gone", Summaries: []*catalog.Summary{{Service: name("web.shop"), Ports: http}, {Service: name("only.gone"), Ports: http}}},
		},
		Import: tables.Imports(ix),
	})
	return v, ix
}

func TestBuild(t *testing.T) {
	v, ix := fixture(t)
	in := tables.Input{
		Cluster: route.Cluster{Name: "aws"}, Federation: "127.0.0.1:7483", View: v, Policy: ix, Epoch: 3, Version: 9,
		Peers: []route.Peer{{Name: "onprem", ControlLost: true, HeardAt: time.Now()}, {Name: "gcp", HeardAt: time.Now()}},
	}
	got := tables.Build(in)
	if got.Format != route.MinTableFormat || got.Epoch != 3 || got.Version != 9 || got.Cluster.Name != "aws" || got.Federation != in.Federation {
		t.Errorf("head: %+v", got)
	}
	if got.Peers[0].Name != "gcp" || got.Peers[1].Name != "onprem" || !got.Peers[0].HeardAt.IsZero() || got.Peers[1].HeardAt.IsZero() {
		t.Errorf("peers are sorted, and stamped only once they are lost: %+v", got.Peers)
	}
	if in.Peers[0].Name != "onprem" {
		t.Error("the input was reordered")
	}
	if len(got.Intentions) != 2 || got.Intentions[0].Name != "a" {
		t.Errorf("intentions: %+v", got.Intentions)
	}
	var names []string
	for _, s := range got.Services {
		names = append(names, s.Name.String())
	}
	if want := []string{"db.data", "theirs.shop", "web.shop", "theirs.x"}; !slices.Equal(names, want) {
		t.Errorf("services %v, want %v: a removed peer's are gone", names, want)
	}
	web := got.Services[2]
	if len(web.Endpoints) != 5 || !slices.Equal(web.Quarantined, []string{"held"}) || !slices.Equal(web.ExportedTo, []catalog.ClusterName{"gcp"}) {
		t.Errorf("web: %+v", web)
	}
	if len(web.Remote) != 1 || web.Remote[0].Cluster != "gcp" || web.Traffic == nil || web.Traffic.Pin != "gcp" || *web.Traffic.Retries != 2 {
		t.Errorf("web: %+v", web)
	}
	if theirs := got.Services[1]; theirs.ExportedTo != nil || theirs.Endpoints != nil || theirs.Traffic != nil {
		t.Errorf("a peer's service has nothing of the own cluster: %+v", theirs)
	}
	if db := got.Services[0]; db.ExportedTo != nil {
		t.Errorf("db is exported: %+v", db)
	}
}

func TestSameLooksAtEverythingButTheVersion(t *testing.T) {
	v, ix := fixture(t)
	in := tables.Input{Cluster: route.Cluster{Name: "aws"}, View: v, Policy: ix, Version: 1, Peers: []route.Peer{{Name: "gcp", HeardAt: time.Now()}}}
	a := tables.Build(in)
	in.Version, in.Epoch = 2, 5
	in.Peers[0].HeardAt = time.Now().Add(time.Second)
	fresh, _ := fixture(t)
	in.View = fresh // built anew: nothing is shared
	if b := tables.Build(in); !tables.Same(a, b) {
		t.Error("a heartbeat is no news")
	}
	for what, change := range map[string]func(*tables.Input){
		"peer":       func(in *tables.Input) { in.Peers = nil },
		"federation": func(in *tables.Input) { in.Federation = "x:1" },
		"lease":      func(in *tables.Input) { in.Peers = []route.Peer{{Name: "gcp", ControlLost: true}} },
		"policy":     func(in *tables.Input) { in.Policy = policy.NewIndex(policy.Set{}) },
		"services":   func(in *tables.Input) { in.View = nil },
	} {
		changed := in
		change(&changed)
		if tables.Same(a, tables.Build(changed)) {
			t.Errorf("%s: the change is not seen", what)
		}
	}
	if tables.Same(a, nil) || !tables.Same(nil, nil) {
		t.Error("nil is the same as nil only")
	}
}

func report(healthy map[string]bool) *route.Report {
	r := &route.Report{}
	for id, ok := range healthy {
		r.Endpoints = append(r.Endpoints, route.EndpointReport{Endpoint: route.EndpointKey{Service: name("web.shop"), Port: "http", ID: id}, Known: true, Healthy: ok})
	}
	r.Endpoints = append(r.Endpoints, route.EndpointReport{Endpoint: route.EndpointKey{Service: name("web.shop"), Port: "http", ID: "2"}})
	return r
}

func TestSummariesCountWhatIsExportedAndNothingElse(t *testing.T) {
	v, ix := fixture(t)
	var z tables.Summarizer
	for label, tc := range map[string]struct {
		reports []*route.Report
		want    []catalog.SummaryRow
	}{
		"source alone": {nil, []catalog.SummaryRow{
			{Port: "http", Ready: 1, Total: 1},
			{Port: "http", Zone: "a", Ready: 1, Total: 1},
			{Port: "http", Zone: "a", Subset: "version=v1", Ready: 2, Total: 2},
			{Port: "http", Zone: "b", Subset: "version=v2", Total: 1},
		}},
		"data path first": {[]*route.Report{report(map[string]bool{"1": false, "3": true, "4": false}), report(map[string]bool{"4": true})}, []catalog.SummaryRow{
			{Port: "http", Ready: 1, Total: 1},                                  // down for one gateway only
			{Port: "http", Zone: "a", Ready: 1, Total: 1},                       // held by the guard
			{Port: "http", Zone: "a", Subset: "version=v1", Ready: 1, Total: 2}, // 1 is down for all that know it
			{Port: "http", Zone: "b", Subset: "version=v2", Total: 1},           // critical, whatever answers
		}},
	} {
		t.Run(label, func(t *testing.T) {
			got := z.Summaries(v, tables.NewReadiness(tc.reports), ix, "gcp")
			if len(got) != 1 || got[0].Service != name("web.shop") || !slices.Equal(got[0].Rows, tc.want) {
				b, _ := json.Marshal(got)
				t.Errorf("summaries: %s\nwant rows %+v", b, tc.want)
			}
			if err := got[0].Validate(); err != nil {
				t.Error(err)
			}
			b, _ := json.Marshal(got)
			for _, leak := range []string{"10.9.8.7", "8080", "secret", "held", "db.data", "theirs"} {
				if strings.Contains(string(b), leak) {
					t.Errorf("%q leaves the cluster: %s", leak, b)
				}
			}
		})
	}
	if got := z.Summaries(v, nil, ix, "onprem"); len(got) != 0 {
		t.Errorf("onprem is shown %+v", got)
	}
}

func TestSummariesShareWhatDidNotChange(t *testing.T) {
	v, ix := fixture(t)
	var z tables.Summarizer
	first := z.Summaries(v, nil, ix, "gcp")
	if again := z.Summaries(v, tables.NewReadiness([]*route.Report{report(map[string]bool{"1": true})}), ix, "gcp"); again[0] != first[0] {
		t.Error("evidence that changes nothing makes a new summary")
	}
	rebuilt, _ := fixture(t)
	if again := z.Summaries(rebuilt, nil, ix, "gcp"); again[0] != first[0] {
		t.Error("an equal service makes a new summary")
	}
	if down := z.Summaries(v, tables.NewReadiness([]*route.Report{report(map[string]bool{"1": false})}), ix, "gcp"); down[0] == first[0] {
		t.Error("an endpoint that is down leaves the summary as it was")
	}
}

func TestSummaryRowsAreBounded(t *testing.T) {
	web := &catalog.Service{Name: name("web.shop"), Ports: http}
	for i := range catalog.MaxSummaryRows + 1 {
		e := endpoint("e"+string(rune('a'+i%26))+time.Duration(i).String(), []string{"a", "b"}[i%2], catalog.Passing, map[string]string{"version": time.Duration(i).String()})
		e.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
		web.Endpoints = append(web.Endpoints, e)
	}
	_, ix := fixture(t)
	v := merge.Merge(merge.Input{Cluster: "aws", Sources: []merge.Source{source(t, web)}})
	var z tables.Summarizer
	got := z.Summaries(v, nil, ix, "gcp")[0]
	if len(got.Rows) != 2 || got.Rows[0].Subset != "" || got.Rows[0].Total+got.Rows[1].Total != catalog.MaxSummaryRows+1 {
		t.Errorf("%d rows, want one per zone", len(got.Rows))
	}
}

func TestConflictsAreShownToTheirParties(t *testing.T) {
	tcp := []catalog.Port{{Name: "http", Protocol: catalog.TCP}}
	v := merge.Merge(merge.Input{
		Cluster: "aws",
		Sources: []merge.Source{source(t, &catalog.Service{Name: name("web.shop"), Ports: http}, &catalog.Service{Name: name("db.shop"), Ports: http})},
		Peers: []merge.Peer{
			{Cluster: "gcp", Summaries: []*catalog.Summary{{Service: name("web.shop"), Ports: tcp}, {Service: name("db.shop"), Ports: tcp}}},
			{Cluster: "onprem", Summaries: []*catalog.Summary{{Service: name("web.shop"), Ports: http}}},
		},
		Import: func(_ catalog.ClusterName, n catalog.ServiceName) (merge.Import, bool) {
			return merge.Import{As: n}, true
		},
	})
	for cluster, want := range map[catalog.ClusterName]int{"gcp": 2, "onprem": 0, "aws": 2} {
		if got := tables.Conflicts(v, 10)[cluster]; len(got) != want {
			t.Errorf("%s is shown %d conflicts, want %d", cluster, len(got), want)
		}
	}
	if got := tables.Conflicts(v, 1)["gcp"]; len(got) != 1 {
		t.Errorf("%d conflicts, want at most 1", len(got))
	}
}

// A view has offers in the order in which the configuration lists the peers; gateways
// refuse a table that is not sorted, and patches to one.
func TestOffersAreSortedHoweverPeersAreListed(t *testing.T) {
	web := []*catalog.Summary{{Service: name("web.shop"), Ports: http}}
	ix := policy.NewIndex(policy.Set{Imports: []policy.Import{
		{Name: "a", From: "gcp-us", Services: []policy.ServicePattern{"*"}}, {Name: "b", From: "gcp-eu", Services: []policy.ServicePattern{"*"}},
	}})
	in := tables.Input{
		Cluster: route.Cluster{Name: "aws", ID: "spiffe://aws.test/isthmus/cluster/aws"}, Federation: "127.0.0.1:7483", Policy: ix, Epoch: 1, Version: 1,
		Peers: []route.Peer{{Name: "gcp-us"}, {Name: "gcp-eu"}},
		View: merge.Merge(merge.Input{
			Cluster: "aws", Import: tables.Imports(ix), Order: []catalog.ClusterName{"gcp-us", "gcp-eu"},
			Peers: []merge.Peer{{Cluster: "gcp-us", Summaries: web}, {Cluster: "gcp-eu", Summaries: web}},
		}),
	}
	for what, remote := range map[string][]route.Remote{
		"built": tables.Build(in).Services[0].Remote, "edited": new(tables.Builder).Next(in).Table().Services[0].Remote,
	} {
		if len(remote) != 2 || remote[0].Cluster != "gcp-eu" {
			t.Errorf("%s: %+v", what, remote)
		}
	}
}
