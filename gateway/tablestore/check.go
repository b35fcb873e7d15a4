package tablestore

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Check reports why t cannot be the table of a gateway of the given cluster: all
// that route finds wrong with it, or that it is another cluster's.
func Check(t *route.Table, cluster catalog.ClusterName) error { return CheckAfter(t, nil, cluster) }

// CheckAfter is Check of a table that follows one in force: what they share was
// judged with that one.
func CheckAfter(t, inForce *route.Table, cluster catalog.ClusterName) error {
	if t == nil {
		return errors.New("table is missing")
	}
	err := t.ValidateAfter(inForce)
	if t.Cluster.Name != cluster {
		err = errors.Join(err, &catalog.FieldError{
			Field: "cluster.name", Value: t.Cluster.Name, Rule: "must be this gateway's own cluster, " + string(cluster),
		})
	}
	return err
}
