package tables

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Input is everything that a Table depends on.
type Input struct {
	Cluster route.Cluster
	// Federation is the host:port of the own mesh listener.
	Federation string
	// Joining says that a cluster is invited.
	Joining bool
	// Gateways is how many gateways share budgets; 0 where there is none.
	Gateways int
	// Tariff is what bytes cost; nil is not known.
	Tariff *route.Tariff
	// Drill is the one that is under way, nil for none. It is not changed.
	Drill *route.Drill
	// Peers are all configured peers, in any order. The view's offers of other
	// clusters are left out: a peer that is removed is gone at once.
	Peers  []route.Peer
	View   *merge.View
	Policy *policy.Index
	// Epoch and Version are written into the table.
	Epoch, Version uint64
}

// Imports is the import side of a policy as merge.Input.Import takes it.
func Imports(ix *policy.Index) func(catalog.ClusterName, catalog.ServiceName) (merge.Import, bool) {
	return func(from catalog.ClusterName, remote catalog.ServiceName) (merge.Import, bool) {
		m, ok := ix.ImportFor(from, remote)
		if !ok {
			return merge.Import{}, false
		}
		return merge.Import{Rule: m.Name, As: m.LocalName(remote), Mapped: m.As == nil, MaxCapacity: m.MaxCapacity}, true
	}
}

// Build returns the route table of in. It shares endpoints, ports, rows and
// rosters with its inputs, which therefore never change.
func Build(in Input) *route.Table {
	return new(Builder).Next(in).Table()
}

// head is the table without its services.
func head(in Input) *route.Table {
	t := &route.Table{
		Format: route.FormatOf(in.Policy.Set().Intentions, in.Policy.Set().Traffic), Epoch: in.Epoch, Version: in.Version,
		Cluster: in.Cluster, Federation: in.Federation, Joining: in.Joining, Gateways: in.Gateways, Tariff: in.Tariff, Drill: in.Drill,
		Peers:      slices.Clone(in.Peers),
		Intentions: in.Policy.Set().Intentions,
	}
	slices.SortFunc(t.Peers, func(a, b route.Peer) int { return cmp.Compare(a.Name, b.Name) })
	for i := range t.Peers {
		p := &t.Peers[i]
		if !p.ControlLost {
			// A time that moves with every heartbeat would be a new table with every
			// heartbeat; it says something only once the heartbeats have stopped.
			p.HeardAt = time.Time{}
			continue
		}
		p.HeardAt = p.HeardAt.Round(0).UTC()
	}
	return t
}

// service writes the row of a service, and reports whether there is one. A list of
// peers that is there already is that of the policy, and offers that are there are
// those of the service.
func service(out *route.Service, ix *policy.Index, peers []catalog.ClusterName, s *merge.Service) bool {
	out.Name, out.Ports = s.Name, s.Ports
	if s.Local == nil {
		out.ExportedTo = nil
	} else {
		out.Endpoints = s.Local.Endpoints
		out.Quarantined = quarantined(s.Local.Endpoints)
		if out.ExportedTo == nil {
			out.ExportedTo = ix.ExportedTo(s.Name, peers)
		}
		if keys := ix.SubsetLabels(s.Name, out.ExportedTo); len(keys) <= route.MaxSubsetKeys {
			out.SubsetLabels = keys
		}
	}
	if out.Remote == nil {
		out.Remote = remotes(s.Offers, peers)
	}
	if t := ix.TrafficFor(s.Name); t.Name != "" {
		out.Traffic = t
	}
	return s.Local != nil || len(out.Remote) > 0
}

// remotes are the offers of configured peers, by cluster.
func remotes(offers []merge.Offer, peers []catalog.ClusterName) (out []route.Remote) {
	for _, o := range offers {
		if _, configured := slices.BinarySearch(peers, o.Cluster); configured {
			if out == nil {
				out = make([]route.Remote, 0, len(offers))
			}
			out = append(out, route.Remote{Cluster: o.Cluster, Name: o.Name, Ports: o.Ports, Rows: o.Rows})
		}
	}
	if byCluster := func(a, b route.Remote) int { return cmp.Compare(a.Cluster, b.Cluster) }; !slices.IsSortedFunc(out, byCluster) {
		slices.SortFunc(out, byCluster) // a view has them in the order of the configuration
	}
	return out
}

func quarantined(endpoints []catalog.Endpoint) []string {
	var ids []string
	for i := range endpoints {
		if endpoints[i].Quarantined {
			ids = append(ids, endpoints[i].ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// Same reports whether both tables say the same, their epoch and version aside:
// a table that says nothing new needs no new version. What they share costs
// nothing to compare.
func Same(a, b *route.Table) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Epoch, x.Version, y.Epoch, y.Version = 0, 0, 0, 0
	return reflect.DeepEqual(x, y)
}

// Conflicts are the view's, by the clusters that are a party to them, at most
// limit for each: every exporter is shown its own.
func Conflicts(v *merge.View, limit int) map[catalog.ClusterName][]merge.Conflict {
	out := make(map[catalog.ClusterName][]merge.Conflict)
	for _, c := range v.Conflicts() {
		for _, cluster := range c.Parties() {
			if len(out[cluster]) < limit {
				out[cluster] = append(out[cluster], c)
			}
		}
	}
	return out
}
