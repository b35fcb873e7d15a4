package dnsway

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

// index is a table by the labels that names are made of.
type index struct {
	table    *route.Table
	services map[catalog.ServiceName]*route.Service
	// below are the services that have a label as their namespace or as a cluster
	// that they are in: what is below "label.mesh".
	below map[string][]*route.Service
}

func newIndex(t *route.Table) *index {
	x := &index{table: t, services: make(map[catalog.ServiceName]*route.Service, len(t.Services)), below: map[string][]*route.Service{}}
	for i := range t.Services {
		s := &t.Services[i]
		if s.Name.IsFederation() {
			continue
		}
		x.services[s.Name] = s
		x.below[s.Name.Namespace()] = append(x.below[s.Name.Namespace()], s)
		for _, c := range clustersOf(t, s) {
			x.below[string(c)] = append(x.below[string(c)], s)
		}
	}
	return x
}

// clustersOf are the clusters that have a service, the own one included.
func clustersOf(t *route.Table, s *route.Service) []catalog.ClusterName {
	var all []catalog.ClusterName
	if len(s.Endpoints) > 0 || len(s.ExportedTo) > 0 {
		all = append(all, t.Cluster.Name)
	}
	for i := range s.Remote {
		all = append(all, s.Remote[i].Cluster)
	}
	return all
}

// view is what a caller may know of a plan.
type view struct {
	*index
	plan   *route.Plan
	caller string
}

// look is the view of the plan in force; nil before the first table.
func (w *Way) look() *view {
	plan := w.o.Plan()
	if plan == nil {
		return nil
	}
	x := w.index.Load()
	if x == nil || x.table != plan.Table() {
		// One at a time: an index of many services takes its time.
		w.indexing.Lock()
		if x = w.index.Load(); x == nil || x.table != plan.Table() {
			x = newIndex(plan.Table())
			w.index.Store(x)
		}
		w.indexing.Unlock()
	}
	return &view{index: x, plan: plan, caller: w.o.Caller}
}

// visible reports whether the caller may call the service, at any of its ports.
func (v *view) visible(s *route.Service) bool {
	return slices.ContainsFunc(s.Ports, func(p catalog.Port) bool {
		return v.plan.AuthorizeOutbound(&route.Ask{Service: s.Name, Port: p.Name, Caller: v.caller}).Allowed
	})
}

// find is a service that the caller may call, or nil.
func (v *view) find(k virtual.Key) *route.Service {
	s := v.services[k.Service]
	if s == nil || !v.visible(s) || k.Cluster != "" && !slices.Contains(clustersOf(v.table, s), k.Cluster) {
		return nil
	}
	return s
}

// hasBelow reports whether a service that the caller may call is in the namespace or
// cluster named so.
func (v *view) hasBelow(label string) bool {
	return slices.ContainsFunc(v.below[label], v.visible)
}

// hasIn reports whether a service of the namespace that the caller may call is in the
// cluster.
func (v *view) hasIn(namespace, cluster string) bool {
	return slices.ContainsFunc(v.below[cluster], func(s *route.Service) bool {
		return s.Name.Namespace() == namespace && slices.Contains(clustersOf(v.table, s), catalog.ClusterName(cluster)) && v.visible(s)
	})
}
