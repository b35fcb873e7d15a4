package merge

import (
	"iter"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// View is one cluster's view of every service that it may call: immutable,
// ordered by service name. Views that follow each other by Update share the
// services that did not change.
type View struct {
	cluster  catalog.ClusterName
	services []*Service // by Name.Compare
	conflict int
	in       Input // what it was made of, the lists its own
	ordered  bool  // in's summaries are, by peer
	order    *ordering
}

// Service is one service of a View.
type Service struct {
	Name catalog.ServiceName `json:"name"`
	// Ports are the union over all origins, sorted by name.
	Ports []catalog.Port `json:"ports"`
	// Local is what the own cluster has of it, or nil. Each endpoint names its
	// source; IDs are unique in the service.
	Local *catalog.Service `json:"local,omitempty"`
	// Offers are the peers' in the importer's order of clusters.
	Offers []Offer `json:"offers,omitempty"`
	// Provenance says where fields come from, sorted by field.
	Provenance []Provenance `json:"provenance"`
	// Conflicts are sorted by field.
	Conflicts []Conflict `json:"conflicts,omitempty"`

	own    []contribution
	remote []candidate
	ours   *local // what own was merged to
}

// Offer is one peer's part of a service.
type Offer struct {
	Cluster catalog.ClusterName `json:"cluster"`
	// Name is the service's name in that cluster.
	Name catalog.ServiceName `json:"name"`
	// Ports and their protocols are as the peer says.
	Ports []catalog.Port       `json:"ports"`
	Rows  []catalog.SummaryRow `json:"rows,omitempty"`
	// Rule names the import that takes it.
	Rule string `json:"rule"`
	// ControlLost is the peer's lease state.
	ControlLost bool `json:"control_lost,omitempty"`
}

// Provenance is the origin of one field: "ports/NAME", "meta/KEY",
// "endpoints/ID/locality", "endpoints/ID/health" or "endpoints/ID/labels/KEY".
type Provenance struct {
	Field   string              `json:"field"`
	Cluster catalog.ClusterName `json:"cluster"`
	// Source is set where the cluster is the own one.
	Source string `json:"source,omitempty"`
}

// Cluster is the cluster whose view it is.
func (v *View) Cluster() catalog.ClusterName {
	if v == nil {
		return ""
	}
	return v.cluster
}

// Len is the number of services; a nil View has none.
func (v *View) Len() int {
	if v == nil {
		return 0
	}
	return len(v.services)
}

// Get returns the service of that name, or nil.
func (v *View) Get(name catalog.ServiceName) *Service {
	if v == nil {
		return nil
	}
	i, found := v.find(name)
	if !found {
		return nil
	}
	return v.services[i]
}

// find is where a service of the name is, or would be.
func (v *View) find(name catalog.ServiceName) (int, bool) {
	return slices.BinarySearchFunc(v.services, name, func(s *Service, n catalog.ServiceName) int { return s.Name.Compare(n) })
}

// All yields the services by name.
func (v *View) All() iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		if v == nil {
			return
		}
		for _, s := range v.services {
			if !yield(s) {
				return
			}
		}
	}
}

// Conflicts are those of all services, by service, then field.
func (v *View) Conflicts() []Conflict {
	if v == nil || v.conflict == 0 {
		return nil
	}
	out := make([]Conflict, 0, v.conflict)
	for _, s := range v.services {
		out = append(out, s.Conflicts...)
	}
	return out
}

// Equal reports whether both views say the same; shared services cost nothing.
func (v *View) Equal(o *View) bool {
	if v == o {
		return true
	}
	return v.Cluster() == o.Cluster() && v.Len() == o.Len() && (v.Len() == 0 || slices.EqualFunc(v.services, o.services, (*Service).Equal))
}

// Equal reports whether both services say the same.
func (s *Service) Equal(o *Service) bool {
	if s == o {
		return true
	}
	return s.Name == o.Name && slices.Equal(s.Ports, o.Ports) && slices.Equal(s.Provenance, o.Provenance) &&
		(s.Local == nil) == (o.Local == nil) && (s.Local == nil || s.Local.Equal(o.Local)) &&
		slices.EqualFunc(s.Offers, o.Offers, Offer.Equal) && slices.EqualFunc(s.Conflicts, o.Conflicts, Conflict.Equal)
}

// Equal reports whether both offers say the same.
func (f Offer) Equal(o Offer) bool {
	return f.Cluster == o.Cluster && f.Name == o.Name && f.Rule == o.Rule && f.ControlLost == o.ControlLost &&
		slices.Equal(f.Ports, o.Ports) && slices.Equal(f.Rows, o.Rows)
}
