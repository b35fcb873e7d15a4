package federation

import (
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// refreshServices brings the lists of services and endpoints in line with the
// view, the policy, and the verdicts, which differ for the given services. Items
// are read off the view when somebody asks for them.
func (p *plane) refreshServices(differ []catalog.ServiceName) {
	c := &p.loop.census
	names := make([]catalog.ClusterName, 0, len(c.names))
	for _, q := range p.peers.all() {
		names = append(names, q.name)
	}
	if slices.Equal(names, c.names) {
		names = c.names // what is listed shares it
	}
	var services listEdits[resource.Service]
	var endpoints listEdits[resource.Endpoint]
	said := make(map[catalog.ServiceName]bool, len(differ))
	for _, n := range differ {
		said[n] = true
	}
	put := func(was, is *merge.Service) {
		of := p.loop.verdicts[is.Name]
		services.put(serviceGroup(is, of, p.loop.index, names))
		// What a peer offers of a service changes nothing of the own endpoints.
		if is.Local != nil && (was == nil || was.Local != is.Local || said[is.Name]) {
			endpoints.put(endpointGroup(is.Local, of))
		}
	}
	for was, is := range merge.Changes(c.listed, p.loop.view) {
		if is == nil {
			services.removes = append(services.removes, was.Name.String())
		} else {
			put(was, is)
		}
		if was != nil && was.Local != nil && (is == nil || is.Local == nil) {
			endpoints.removes = append(endpoints.removes, endpointPrefix(was.Name))
		}
	}
	for _, n := range differ {
		if s := p.loop.view.Get(n); s != nil && c.listed.Get(n) == s {
			put(s, s)
		}
	}
	if c.index != p.loop.index || !slices.Equal(c.names, names) {
		services.puts = services.puts[:0]
		for s := range p.loop.view.All() {
			services.put(serviceGroup(s, p.loop.verdicts[s.Name], p.loop.index, names))
		}
	}
	c.listed, c.index, c.names = p.loop.view, p.loop.index, names
	p.metrics.catalog(c)
	p.lists.Services.Edit(services.puts, services.removes)
	p.lists.Endpoints.Edit(endpoints.puts, endpoints.removes)
}

// listEdits are the arguments of feed.Edit.
type listEdits[T any] struct {
	puts    []feed.Group[T]
	removes []string
}

func (e *listEdits[T]) put(g feed.Group[T]) { e.puts = append(e.puts, g) }

// serviceOf is what a service is listed by.
type serviceOf struct {
	service  *merge.Service
	verdicts serviceVerdicts
	index    *policy.Index
	names    []catalog.ClusterName
}

func serviceGroup(s *merge.Service, of serviceVerdicts, index *policy.Index, names []catalog.ClusterName) feed.Group[resource.Service] {
	now := serviceOf{s, of, index, names}
	return feed.Group[resource.Service]{
		Prefix: s.Name.String(), Len: 1, Of: now, Make: now.entries,
		Differ: func(was *feed.Group[resource.Service]) (old, fresh []feed.Entry[resource.Service], ok bool) {
			return now.differ(was.Of.(serviceOf))
		},
	}
}

func (x serviceOf) entries() []feed.Entry[resource.Service] {
	return []feed.Entry[resource.Service]{{Key: x.service.Name.String(), Item: serviceItem(x.service, x.verdicts, x.index, x.names)}}
}

// differ is the entry where it says something else than was does. What it was is
// not made: that there is another is enough to tell.
func (x serviceOf) differ(was serviceOf) (old, fresh []feed.Entry[resource.Service], ok bool) {
	a, b := was.service, x.service
	if was.index != x.index || !slices.Equal(was.names, x.names) || a.Name != b.Name {
		return nil, nil, false
	}
	same := slices.Equal(a.Ports, b.Ports) && slices.EqualFunc(a.Conflicts, b.Conflicts, merge.Conflict.Equal) &&
		(sharesList(a.Offers, b.Offers) || slices.EqualFunc(a.Offers, b.Offers, merge.Offer.Equal)) &&
		(a.Local == b.Local && sameMap(was.verdicts, x.verdicts) || was.count() == x.count() && slices.Equal(was.sources(), x.sources()))
	if same {
		return nil, nil, true
	}
	return nil, x.entries(), true
}

func sharesList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// sameMap reports whether both are one map: reports of gateways that say nothing new
// leave the verdicts as they are.
func sameMap(a, b serviceVerdicts) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// counted are the numbers of a service's endpoints.
type counted struct {
	local            bool
	endpoints, ready int
}

func (x serviceOf) count() (n counted) {
	if n.local = x.service.Local != nil; !n.local {
		return n
	}
	n.endpoints = len(x.service.Local.Endpoints)
	for i := range x.service.Local.Endpoints {
		if x.verdicts.ready(&x.service.Local.Endpoints[i]) {
			n.ready++
		}
	}
	return n
}

// sources are those that an endpoint of the service is of, sorted.
func (x serviceOf) sources() (names []string) {
	if x.service.Local == nil {
		return nil
	}
	last := "" // there is hardly ever another one
	for i := range x.service.Local.Endpoints {
		s := x.service.Local.Endpoints[i].Source
		if s == last && i > 0 {
			continue
		}
		if last = s; !slices.Contains(names, s) {
			names = append(names, s)
		}
	}
	slices.Sort(names)
	return names
}

func serviceItem(s *merge.Service, verdicts serviceVerdicts, index *policy.Index, names []catalog.ClusterName) resource.Service {
	item := resource.Service{Name: s.Name, Ports: s.Ports, Conflicts: s.Conflicts}
	if t := index.TrafficFor(s.Name); t.Name != "" {
		item.TrafficPolicy = t.Name
	}
	item.Remote = slices.Grow(item.Remote, len(s.Offers))
	for _, o := range s.Offers {
		offer := resource.Offer{Cluster: o.Cluster, Name: o.Name, Ports: o.Ports, Rows: o.Rows, Import: o.Rule, ControlLost: o.ControlLost}
		for _, r := range o.Rows {
			offer.Ready, offer.Total, offer.Capacity = offer.Ready+uint64(r.Ready), offer.Total+uint64(r.Total), offer.Capacity+r.Capacity
		}
		item.Remote = append(item.Remote, offer)
	}
	if s.Local == nil {
		return item
	}
	item.ExportedTo = index.ExportedTo(s.Name, names)
	of := serviceOf{service: s, verdicts: verdicts}
	n := of.count()
	item.Endpoints, item.Ready, item.Sources = n.endpoints, n.ready, of.sources()
	return item
}

func endpointPrefix(n catalog.ServiceName) string { return n.String() + "/" }

// endpointsOf is what the endpoints of a service are listed by.
type endpointsOf struct {
	service  *catalog.Service // the own one
	verdicts serviceVerdicts
}

func endpointGroup(s *catalog.Service, of serviceVerdicts) feed.Group[resource.Endpoint] {
	now := endpointsOf{s, of}
	return feed.Group[resource.Endpoint]{
		Prefix: endpointPrefix(s.Name), Len: len(s.Endpoints), Of: now, Make: now.entries,
		Differ: func(was *feed.Group[resource.Endpoint]) (old, fresh []feed.Entry[resource.Endpoint], ok bool) {
			return now.differ(was.Of.(endpointsOf))
		},
	}
}

func (x endpointsOf) entry(i int) feed.Entry[resource.Endpoint] {
	e := &x.service.Endpoints[i]
	key := endpointPrefix(x.service.Name) + e.Port + "/" + e.ID
	return feed.Entry[resource.Endpoint]{Key: key, Item: resource.Endpoint{Key: key, Service: x.service.Name, Endpoint: *e, Verdicts: x.verdicts.of(e)}}
}

func (x endpointsOf) entries() []feed.Entry[resource.Endpoint] {
	out := make([]feed.Entry[resource.Endpoint], len(x.service.Endpoints))
	for i := range out {
		out[i] = x.entry(i)
	}
	return unique(out)
}

// differ are the entries of which was says something else; false where the
// services have not the same endpoints. Mostly one of very many has changed.
func (x endpointsOf) differ(was endpointsOf) (old, fresh []feed.Entry[resource.Endpoint], ok bool) {
	a, b := was.service.Endpoints, x.service.Endpoints
	if was.service.Name != x.service.Name || len(a) != len(b) {
		return nil, nil, false
	}
	for i := range b {
		switch {
		case a[i].ID != b[i].ID || a[i].Port != b[i].Port:
			return nil, nil, false
		case !a[i].Equal(b[i]) || len(was.verdicts)+len(x.verdicts) > 0 && !slices.Equal(was.verdicts.of(&a[i]), x.verdicts.of(&b[i])):
			old, fresh = append(old, was.entry(i)), append(fresh, x.entry(i))
		}
	}
	return unique(old), unique(fresh), true
}
