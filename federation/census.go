package federation

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/tables"
)

// origin says who has a service: a label of a metric.
type origin string

const (
	originOwn    origin = "own"
	originRemote origin = "remote"
	originBoth   origin = "both"
)

// census is what is counted over a view. It follows the view by its changes, so
// that a change of one service costs no look at the others.
type census struct {
	view *merge.View
	// listed, index and names are what services were listed by.
	listed *merge.View
	index  *policy.Index
	names  []catalog.ClusterName

	own, endpoints int
	origins        map[origin]int
	imported       map[catalog.ClusterName]int
	// held are the services with endpoints that a guard holds.
	held map[catalog.ServiceName]*merge.Service
	// conflicts are what each cluster is shown; nil once they may have changed.
	conflicts map[catalog.ClusterName][]merge.Conflict
}

// take counts a service of the view, or with by -1 no longer.
func (c *census) take(s *merge.Service, by int) {
	if c.origins == nil {
		c.origins, c.imported = make(map[origin]int), make(map[catalog.ClusterName]int)
		c.held = make(map[catalog.ServiceName]*merge.Service)
	}
	if s == nil {
		return
	}
	for _, o := range s.Offers {
		c.imported[o.Cluster] += by
	}
	if s.Local != nil {
		c.own += by
		c.endpoints += by * len(s.Local.Endpoints)
	}
	c.origins[originOf(s)] += by
	delete(c.held, s.Name)
	if by > 0 && s.Local != nil && holds(s.Local) {
		c.held[s.Name] = s
	}
	if len(s.Conflicts) > 0 {
		c.conflicts = nil
	}
}

// holds reports whether a guard holds any of the endpoints.
func holds(s *catalog.Service) bool {
	for i := range s.Endpoints {
		if s.Endpoints[i].Quarantined {
			return true
		}
	}
	return false
}

func originOf(s *merge.Service) origin {
	own := s.Local != nil && len(s.Local.Endpoints) > 0 || len(s.Offers) == 0
	switch {
	case own && len(s.Offers) > 0:
		return originBoth
	case own:
		return originOwn
	default:
		return originRemote
	}
}

// follow counts what has changed since the view before.
func (c *census) follow(v *merge.View) {
	for was, is := range merge.Changes(c.view, v) {
		if was != nil && is != nil && was.Local == is.Local && sameOrigins(was.Offers, is.Offers) && len(was.Conflicts)+len(is.Conflicts) == 0 {
			continue // a peer tells other numbers of it
		}
		c.take(was, -1)
		c.take(is, +1)
	}
	c.view = v
}

// sameOrigins reports whether offers are of the same clusters.
func sameOrigins(a, b []merge.Offer) bool {
	return slices.EqualFunc(a, b, func(x, y merge.Offer) bool { return x.Cluster == y.Cluster })
}

// told are the conflicts that each cluster is shown.
func (c *census) told() map[catalog.ClusterName][]merge.Conflict {
	if c.conflicts == nil {
		c.conflicts = tables.Conflicts(c.view, maxConflictsTold)
	}
	return c.conflicts
}
