package route

import (
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// split is how a policy divides calls: by weights of clusters, or by the distribution
// of the place that the gateway is in.
type split struct {
	weights map[catalog.ClusterName]uint32
	shares  []policy.Share
}

// part is what a split gives to a candidate. Candidates of one name divide its weight between
// them by their endpoints: the zones of a cluster, the clusters of a locality.
type part struct {
	weight uint64
	name   splitName
}

// splitName tells the parts of a split apart.
type splitName struct {
	cluster catalog.ClusterName // of weights
	entry   int                 // of a distribution
}

func splitOf(t *policy.Traffic, self catalog.Locality) split {
	s := split{weights: t.Weights}
	best := -1
	for i := range t.Distribute {
		if n := covers(t.Distribute[i].From, self); n > best {
			best, s.shares = n, t.Distribute[i].To
		}
	}
	return s
}

// of finds the most exact part that names the candidate.
func (s *split) of(c *candidate) (found part, listed bool) {
	if w, ok := s.weights[c.target.Cluster]; ok {
		return part{weight: uint64(w), name: splitName{cluster: c.target.Cluster}}, true
	}
	best := -1
	for i, to := range s.shares {
		n := covers(to.Locality, c.locality)
		if to.Cluster != "" {
			n = -1
			if to.Cluster == c.target.Cluster {
				n = exactCluster
			}
		}
		if n > best {
			best, found = n, part{weight: uint64(to.Weight), name: splitName{entry: i}}
		}
	}
	return found, best >= 0
}

// exactCluster is more exact than any locality.
const exactCluster = 4

// covers says how exactly a pattern of a policy names a locality: by how many parts,
// 0 for "*", -1 for not at all.
func covers(pattern string, l catalog.Locality) int {
	if pattern == "*" {
		return 0
	}
	p, err := catalog.ParseLocality(pattern)
	if err != nil || p.Cloud == "" || p.Cloud != l.Cloud {
		return -1
	}
	switch {
	case p.Region == "":
		return 1
	case p.Region != l.Region:
		return -1
	case p.Zone == "":
		return 2
	case p.Zone != l.Zone:
		return -1
	default:
		return 3
	}
}

// counts are the endpoints of one part of a split.
type counts struct{ ready, total uint64 }

// countSplits sums the candidates of one tier by their parts.
func countSplits(tier []candidate) map[splitName]counts {
	var sums map[splitName]counts
	for i := range tier {
		c := &tier[i]
		if !c.listed {
			continue
		}
		if sums == nil {
			sums = make(map[splitName]counts)
		}
		n := sums[c.split]
		n.ready, n.total = n.ready+uint64(c.ready), n.total+uint64(c.total)
		sums[c.split] = n
	}
	return sums
}
