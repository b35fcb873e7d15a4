package tablestore

import (
	"cmp"
	"errors"
	"fmt"

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

// Answer says what becomes of an offered table; the words are a metric's labels.
type Answer string

// The answers.
const (
	// Applied: it comes in force.
	Applied Answer = "applied"
	// Unchanged: it is in force.
	Unchanged Answer = "unchanged"
	// Older: a newer one is in force, which stays.
	Older Answer = "older"
	// Invalid: it is no table of this cluster; the one in force stays.
	Invalid Answer = "invalid"
)

// Judge says whether an offered table follows the one in force, nil where there is
// none. The error says why a table is refused that is not simply in force.
func Judge(offered, inForce *route.Table, cluster catalog.ClusterName) (Answer, error) {
	if offered != nil && inForce != nil {
		switch order := cmp.Or(cmp.Compare(offered.Epoch, inForce.Epoch), cmp.Compare(offered.Version, inForce.Version)); {
		case order == 0:
			return Unchanged, nil
		case order < 0:
			return Older, fmt.Errorf("table %d.%d is older than %d.%d in force", offered.Epoch, offered.Version, inForce.Epoch, inForce.Version)
		}
	}
	if err := CheckAfter(offered, inForce, cluster); err != nil {
		return Invalid, err
	}
	return Applied, nil
}
