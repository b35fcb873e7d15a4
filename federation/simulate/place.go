package simulate

import (
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Clusters are the clusters of a table that a place means, by name.
func (p Place) Clusters(t *route.Table) []catalog.ClusterName {
	found, _ := clusters(t, []Place{p})
	return slices.Sorted(maps.Keys(found))
}
