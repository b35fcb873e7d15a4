package tables_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/tables"
)

// world is one cluster with 3 own services and 2 peers that export.
type world struct {
	in    merge.Input
	peers []policy.Peer
}

func newWorld(t testing.TB) world {
	own := func(n string) *catalog.Service {
		return &catalog.Service{Name: name(n), Ports: http, Endpoints: []catalog.Endpoint{endpoint("1", "a", catalog.Passing, map[string]string{"version": "v1"})}}
	}
	theirs := func(n string) *catalog.Summary {
		return &catalog.Summary{Service: name(n), Ports: http, Rows: []catalog.SummaryRow{{Port: "http", Zone: "z", Ready: 1, Total: 1, Capacity: 100}}}
	}
	return world{
		in: merge.Input{
			Cluster: "aws",
			Sources: []merge.Source{source(t, own("web.shop"), own("cart.shop"), own("db.data"))},
			Peers: []merge.Peer{
				{Cluster: "gcp", Summaries: []*catalog.Summary{theirs("theirs.x"), theirs("web.shop")}},
				{Cluster: "onprem", Summaries: []*catalog.Summary{theirs("mainframe.bank")}},
			},
		},
		peers: []policy.Peer{{Name: "gcp", ID: "spiffe://gcp/c"}, {Name: "onprem", ID: "spiffe://onprem/c"}},
	}
}

func (w world) standing(set policy.Set, peers ...policy.Peer) tables.Standing {
	if peers == nil {
		peers = w.peers
	}
	ix := policy.NewIndex(set)
	in := w.in
	in.Import, in.Rules = tables.Imports(ix), ix
	return tables.Standing{View: merge.Merge(in), Policy: ix, Peers: peers}
}

// table is what gateways would be handed.
func table(s tables.Standing) *route.Table {
	in := tables.Input{View: s.View, Policy: s.Policy}
	for _, p := range s.Peers {
		in.Peers = append(in.Peers, route.Peer{Name: p.Name})
	}
	return tables.Build(in)
}

func export(name string, to string, labels []string, services ...policy.ServicePattern) policy.Export {
	return policy.Export{Name: name, To: []string{to}, Services: services, SubsetLabels: labels}
}

func take(name string, from catalog.ClusterName, services ...policy.ServicePattern) policy.Import {
	return policy.Import{Name: name, From: from, Services: services}
}

func TestImpact(t *testing.T) {
	w := newWorld(t)
	base := policy.Set{Exports: []policy.Export{export("shop", "gcp", nil, "*.shop")}, Imports: []policy.Import{take("all", "gcp", "*")}}
	changed := w.peers[0]
	changed.Region = "us-central1"
	capped := take("all", "gcp", "*")
	capped.MaxCapacity = 7
	for title, c := range map[string]struct {
		after tables.Standing
		want  string // services, then peers
	}{
		"nothing":            {w.standing(base), "[] []"},
		"an export to all":   {w.standing(policy.Set{Exports: append(slices.Clone(base.Exports), export("db", "*", nil, "db.data")), Imports: base.Imports}), "[changed db.data [exported_to]] [changed gcp: added db.data; changed onprem: added db.data]"},
		"no export":          {w.standing(policy.Set{Imports: base.Imports}), "[changed cart.shop [exported_to] changed web.shop [exported_to]] [changed gcp: removed cart.shop removed web.shop]"},
		"other labels":       {w.standing(policy.Set{Exports: []policy.Export{export("shop", "gcp", []string{"version"}, "*.shop")}, Imports: base.Imports}), "[changed cart.shop [subset_labels] changed web.shop [subset_labels]] [changed gcp: changed cart.shop changed web.shop]"},
		"another rule alike": {w.standing(policy.Set{Exports: []policy.Export{export("other", "gcp", nil, "*")}, Imports: base.Imports}), "[changed db.data [exported_to]] [changed gcp: added db.data]"},
		"no import":          {w.standing(policy.Set{Exports: base.Exports}), "[changed web.shop [remote] of [gcp] removed theirs.x of [gcp]] []"},
		"another import":     {w.standing(policy.Set{Exports: base.Exports, Imports: append(slices.Clone(base.Imports), take("bank", "onprem", "*.bank"))}), "[added mainframe.bank of [onprem]] []"},
		"a capacity":         {w.standing(policy.Set{Exports: base.Exports, Imports: []policy.Import{capped}}), "[changed web.shop [remote] of [gcp] changed theirs.x [remote] of [gcp]] []"},
		"a traffic policy":   {w.standing(policy.Set{Exports: base.Exports, Imports: base.Imports, Traffic: []policy.Traffic{{Name: "t", Services: []policy.ServicePattern{"web.shop"}, Pin: "gcp"}}}), "[changed web.shop [traffic]] []"},
		"a peer less":        {w.standing(base, w.peers[1]), "[changed cart.shop [exported_to] changed web.shop [exported_to remote] of [gcp] removed theirs.x of [gcp]] [removed gcp: removed cart.shop removed web.shop]"},
		"a peer more":        {w.standing(base, append(slices.Clone(w.peers), policy.Peer{Name: "edge"})...), "[] [added edge:]"},
		"a peer changed":     {w.standing(base, changed, w.peers[1]), "[] [changed gcp: by [region]]"},
	} {
		t.Run(title, func(t *testing.T) {
			before := w.standing(base)
			got := tables.Impact(before, c.after)
			if s := brief(got); s != c.want {
				t.Errorf("\ngot  %s\nwant %s", s, c.want)
			}
			// The table itself says the same.
			d := route.DiffTables(table(before), table(c.after))
			if n := len(d.AddedServices) + len(d.RemovedServices) + len(d.ChangedServices); n != got.ServicesTotal {
				t.Errorf("%d services of the table differ (%+v), the impact has %d", n, d, got.ServicesTotal)
			}
		})
	}
}

// brief writes an impact in one line.
func brief(i resource.Impact) string {
	var services, peers []string
	for _, s := range i.Services {
		line := fmt.Sprintf("%s %s", s.Change, s.Service)
		if len(s.Fields) > 0 {
			line += fmt.Sprintf(" %v", s.Fields)
		}
		if len(s.Clusters) > 0 {
			line += fmt.Sprintf(" of %v", s.Clusters)
		}
		services = append(services, line)
	}
	for _, p := range i.Peers {
		line := fmt.Sprintf("%s %s:", p.Change, p.Peer)
		for _, o := range p.Offered {
			line += fmt.Sprintf(" %s %s", o.Change, o.Service)
		}
		if len(p.Fields) > 0 {
			line += fmt.Sprintf(" by %v", p.Fields)
		}
		if len(peers) > 0 {
			line = "; " + line
		}
		peers = append(peers, line)
	}
	out := fmt.Sprint(services) + " ["
	for _, p := range peers {
		out += p
	}
	return out + "]"
}

// However much would change, the answer stays short and counts everything.
func TestImpactIsBounded(t *testing.T) {
	const services, clusters = 400, 150
	var own []*catalog.Service
	for i := range services {
		own = append(own, &catalog.Service{Name: name(fmt.Sprintf("s%04d", i)), Ports: http})
	}
	w := world{in: merge.Input{Cluster: "aws", Sources: []merge.Source{source(t, own...)}}}
	for i := range clusters {
		w.peers = append(w.peers, policy.Peer{Name: catalog.ClusterName(fmt.Sprintf("p%03d", i))})
	}
	got := tables.Impact(w.standing(policy.Set{}), w.standing(policy.Set{Exports: []policy.Export{export("all", "*", nil, "*")}}))
	if got.ServicesTotal != services || got.PeersTotal != clusters || !got.Truncated || len(got.Services) != resource.MaxImpact || len(got.Peers) != resource.MaxImpact {
		t.Errorf("%d services (%d shown), %d peers (%d shown), truncated %v", got.ServicesTotal, len(got.Services), got.PeersTotal, len(got.Peers), got.Truncated)
	}
	shown := 0
	for _, p := range got.Peers {
		shown += len(p.Offered)
		if p.OfferedTotal != services {
			t.Errorf("%s: %d offered", p.Peer, p.OfferedTotal)
		}
	}
	if shown > 10*resource.MaxImpact {
		t.Errorf("%d offers are shown", shown)
	}
}

func BenchmarkImpact(b *testing.B) {
	const services, clusters = 10_000, 20
	var own []*catalog.Service
	for i := range services {
		own = append(own, &catalog.Service{Name: name(fmt.Sprintf("s%05d", i)), Ports: http})
	}
	w := world{in: merge.Input{Cluster: "aws", Sources: []merge.Source{source(b, own...)}}}
	for i := range clusters {
		w.peers = append(w.peers, policy.Peer{Name: catalog.ClusterName(fmt.Sprintf("p%03d", i))})
	}
	before, after := w.standing(policy.Set{}), w.standing(policy.Set{Exports: []policy.Export{export("all", "*", nil, "*")}})
	for b.Loop() {
		tables.Impact(before, after)
	}
}
