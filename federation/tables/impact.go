package tables

import (
	"reflect"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// maxOffersShown bounds the services below all peers of one impact together.
const maxOffersShown = 10 * resource.MaxImpact

// Standing is what decides what gateways and peers are told.
type Standing struct {
	View   *merge.View
	Policy *policy.Index
	// Peers are all, in any order.
	Peers []policy.Peer
}

func (s Standing) names() []catalog.ClusterName {
	names := make([]catalog.ClusterName, len(s.Peers))
	for i, p := range s.Peers {
		names[i] = p.Name
	}
	slices.Sort(names)
	return names
}

// Impact is what would change for gateways and peers if after held instead of
// before: rows of the route table, and what peers are told. Callers are not its
// matter. It looks at every service once.
func Impact(before, after Standing) resource.Impact {
	i := impact{before: before, after: after, was: before.names(), is: after.names(), peers: make(map[catalog.ClusterName]*resource.PeerImpact)}
	i.entries()
	for was, is := range pairs(before.View, after.View) {
		i.service(was, is)
	}
	return i.done()
}

type impact struct {
	before, after Standing
	was, is       []catalog.ClusterName // names of peers, sorted
	out           resource.Impact
	peers         map[catalog.ClusterName]*resource.PeerImpact
	offers        int // shown
}

// pairs yields the services of both views by name, nil where one has none.
func pairs(a, b *merge.View) func(yield func(was, is *merge.Service) bool) {
	return func(yield func(was, is *merge.Service) bool) {
		x, y := slices.Collect(a.All()), slices.Collect(b.All())
		for len(x) > 0 || len(y) > 0 {
			var was, is *merge.Service
			switch {
			case len(y) == 0 || len(x) > 0 && x[0].Name.Compare(y[0].Name) < 0:
				was, x = x[0], x[1:]
			case len(x) == 0 || x[0].Name.Compare(y[0].Name) > 0:
				is, y = y[0], y[1:]
			default:
				was, is, x, y = x[0], y[0], x[1:], y[1:]
			}
			if !yield(was, is) {
				return
			}
		}
	}
}

// service compares one service's row, and what each peer is told of it.
func (i *impact) service(was, is *merge.Service) {
	row := func(s *merge.Service, in Standing, peers []catalog.ClusterName) (row route.Service, ok bool) {
		return row, s != nil && service(&row, in.Policy, peers, s)
	}
	a, had := row(was, i.before, i.was)
	b, has := row(is, i.after, i.is)
	if fields := differing(&a, &b); had != has || had && len(fields) > 0 {
		s := resource.ServiceImpact{Service: b.Name, Change: changeOf(had, has), Clusters: clustersOf(a.Remote, b.Remote)}
		if !has {
			s.Service = a.Name
		}
		if had && has {
			s.Fields = fields
		}
		i.out.ServicesTotal++
		if len(i.out.Services) < resource.MaxImpact {
			i.out.Services = append(i.out.Services, s)
		}
	}
	i.told(was, is)
}

func changeOf(had, has bool) resource.ImpactChange {
	switch {
	case !had:
		return resource.ImpactAdded
	case !has:
		return resource.ImpactRemoved
	default:
		return resource.ImpactChanged
	}
}

// differing names the parts of two rows that differ.
func differing(a, b *route.Service) []string {
	var fields []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"ports", slices.Equal(a.Ports, b.Ports)},
		{"endpoints", sameEndpoints(a.Endpoints, b.Endpoints)},
		{"exported_to", slices.Equal(a.ExportedTo, b.ExportedTo)},
		{"subset_labels", slices.Equal(a.SubsetLabels, b.SubsetLabels)},
		{"remote", slices.EqualFunc(a.Remote, b.Remote, sameOffer)},
		{"traffic", reflect.DeepEqual(a.Traffic, b.Traffic)},
	} {
		if !f.same {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// sameEndpoints looks at the lists themselves first: services that have not
// changed share theirs.
func sameEndpoints(a, b []catalog.Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	return len(a) == 0 || &a[0] == &b[0] || reflect.DeepEqual(a, b)
}

func sameOffer(a, b route.Remote) bool {
	return a.Cluster == b.Cluster && a.Name == b.Name && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Rows, b.Rows)
}

// clustersOf are those whose offers come, go or differ.
func clustersOf(a, b []route.Remote) []catalog.ClusterName {
	var out []catalog.ClusterName
	missing := func(list, in []route.Remote) {
		for _, o := range list {
			if !slices.ContainsFunc(in, func(x route.Remote) bool { return sameOffer(o, x) }) && !slices.Contains(out, o.Cluster) {
				out = append(out, o.Cluster)
			}
		}
	}
	missing(a, b)
	missing(b, a)
	slices.Sort(out)
	return out
}

// told compares what each peer is told of one service.
func (i *impact) told(was, is *merge.Service) {
	offered := func(s *merge.Service, in Standing, peers []catalog.ClusterName, peer catalog.ClusterName) (*policy.Export, bool) {
		if _, known := slices.BinarySearch(peers, peer); !known || s == nil || s.Local == nil {
			return nil, false
		}
		return in.Policy.ExportTo(s.Name, peer)
	}
	for _, peer := range union(i.was, i.is) {
		a, had := offered(was, i.before, i.was, peer)
		b, has := offered(is, i.after, i.is, peer)
		switch {
		case !had && !has:
			continue
		case had && has && (a == b || slices.Equal(a.SubsetLabels, b.SubsetLabels)) && (was == is || was.Local == is.Local || was.Local.Equal(is.Local)):
			continue
		}
		name := i.nameOf(was, is)
		p := i.peer(peer)
		p.OfferedTotal++
		if len(p.Offered) < resource.MaxImpact && i.offers < maxOffersShown {
			i.offers++
			p.Offered = append(p.Offered, resource.OfferImpact{Service: name, Change: changeOf(had, has)})
		}
	}
}

func (*impact) nameOf(was, is *merge.Service) catalog.ServiceName {
	if is != nil {
		return is.Name
	}
	return was.Name
}

func union(a, b []catalog.ClusterName) []catalog.ClusterName {
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}

func (i *impact) peer(name catalog.ClusterName) *resource.PeerImpact {
	p := i.peers[name]
	if p == nil {
		p = &resource.PeerImpact{Peer: name, Change: resource.ImpactChanged}
		i.peers[name] = p
	}
	return p
}

// entries compares the peers themselves.
func (i *impact) entries() {
	was := make(map[catalog.ClusterName]*policy.Peer, len(i.before.Peers))
	for n := range i.before.Peers {
		was[i.before.Peers[n].Name] = &i.before.Peers[n]
	}
	for n := range i.after.Peers {
		is := &i.after.Peers[n]
		have := was[is.Name]
		delete(was, is.Name)
		switch {
		case have == nil:
			i.peer(is.Name).Change = resource.ImpactAdded
		case !have.Equal(*is):
			i.peer(is.Name).Fields = differingFields(*have, *is)
		}
	}
	for name := range was {
		i.peer(name).Change = resource.ImpactRemoved
	}
}

// differingFields names the fields of two peers that differ, as JSON does.
func differingFields(a, b policy.Peer) []string {
	var out []string
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for n := range x.NumField() {
		f := x.Type().Field(n)
		if !reflect.DeepEqual(x.Field(n).Interface(), y.Field(n).Interface()) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			out = append(out, name)
		}
	}
	return out
}

func (i *impact) done() resource.Impact {
	for _, name := range union(i.was, i.is) {
		p := i.peers[name]
		if p == nil {
			continue
		}
		i.out.PeersTotal++
		if len(i.out.Peers) < resource.MaxImpact {
			i.out.Peers = append(i.out.Peers, *p)
		}
		i.out.Truncated = i.out.Truncated || len(p.Offered) < p.OfferedTotal
	}
	i.out.Truncated = i.out.Truncated || len(i.out.Services) < i.out.ServicesTotal || len(i.out.Peers) < i.out.PeersTotal
	return i.out
}
