package merge

import (
	"errors"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Input is everything that a View depends on.
type Input struct {
	// Cluster is the own cluster.
	Cluster catalog.ClusterName
	// Sources are the own cluster's, the highest priority first, each name once.
	Sources []Source
	// Peers are in any order, each cluster once. An entry in the own cluster's
	// name is ignored.
	Peers []Peer
	// Order is the importer's order of clusters: where peers disagree the earlier
	// wins. Clusters that it does not name follow by name. The own cluster is
	// always first, wherever it stands here: nothing that a peer says changes how
	// own endpoints are served.
	Order []catalog.ClusterName
	// Import answers whether the service that the peer calls remote is taken, and
	// under which name. It must be a pure function; nil takes nothing.
	Import func(from catalog.ClusterName, remote catalog.ServiceName) (Import, bool)
	// Rules identifies Import: inputs whose Rules are equal and not nil have one
	// Import. It is comparable (a pointer to what Import reads). With it Update
	// looks at what has changed only.
	Rules any
}

// Source is one of the own cluster's sources.
type Source struct {
	// Name is the provenance of what is read from it.
	Name string
	// Snapshot is the last good one; nil is an empty one.
	Snapshot *catalog.Snapshot
	Mapping  Mapping
}

// Peer is what one peer exports to this cluster.
type Peer struct {
	Cluster catalog.ClusterName
	// Summaries are validated and, like everything here, never changed again.
	Summaries []*catalog.Summary
	// ControlLost is set when the peer's lease has run out: what it said last is
	// kept, and marked.
	ControlLost bool
}

// Import is how one service of a peer is taken.
type Import struct {
	// Rule names the import.
	Rule string
	// As is the service's name in this cluster.
	As catalog.ServiceName
	// Mapped is set where As follows from a rule about many services and not from
	// one that names this one: it then goes last among those of its cluster.
	Mapped bool
	// MaxCapacity caps what is believed of the capacity of each row; 0 is no cap.
	// With a cap, a capacity that the peer leaves unknown is believed to be the
	// cap: else leaving it out would be the way around it.
	MaxCapacity uint64
}

// Matcher covers names of services; policy.ServicePattern is one.
type Matcher interface {
	Match(catalog.ServiceName) bool
}

// Mapping filters and renames a source's services. The zero value takes all as
// they are.
type Mapping struct {
	// Include, when not empty, takes only what one of it covers; Exclude then
	// leaves out. Both see the source's own names.
	Include, Exclude []Matcher
	// Rename gives single services another name; it goes before Namespaces.
	Rename map[catalog.ServiceName]catalog.ServiceName
	// Namespaces gives all services of a namespace another one. Several may map
	// to the same: their services of one name become one service.
	Namespaces map[string]string
}

// Validate reports names that are no names or reserved, as joined
// *catalog.FieldErrors.
func (m Mapping) Validate() error {
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, &catalog.FieldError{Field: field, Value: value, Rule: rule})
	}
	for _, from := range slices.SortedFunc(maps.Keys(m.Rename), catalog.ServiceName.Compare) {
		switch to := m.Rename[from]; {
		case from.IsZero() || to.IsZero():
			fail("rename", from.String(), "both names must be name.namespace")
		case to.IsFederation():
			fail("rename."+from.String(), to.String(), "federation.* is reserved")
		}
	}
	for _, from := range slices.Sorted(maps.Keys(m.Namespaces)) {
		for _, ns := range []string{from, m.Namespaces[from]} {
			if _, err := catalog.ParseClusterName(ns); err != nil {
				fail("namespaces."+from, ns, `must be a DNS label (1 to 63 of a-z, 0-9, inner "-")`)
				break
			}
		}
	}
	return errors.Join(errs...)
}

// Apply returns the name that a source's service n gets, and whether it is
// taken at all.
func (m Mapping) Apply(n catalog.ServiceName) (catalog.ServiceName, bool) {
	covers := func(p Matcher) bool { return p.Match(n) }
	if len(m.Include) > 0 && !slices.ContainsFunc(m.Include, covers) || slices.ContainsFunc(m.Exclude, covers) {
		return catalog.ServiceName{}, false
	}
	if to, ok := m.Rename[n]; ok {
		n = to
	} else if ns, ok := m.Namespaces[n.Namespace()]; ok {
		to, err := catalog.NewServiceName(n.Name(), ns)
		if err != nil {
			return catalog.ServiceName{}, false
		}
		n = to
	}
	return n, !n.IsZero() && !n.IsFederation()
}
