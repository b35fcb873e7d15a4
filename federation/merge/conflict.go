package merge

import (
	"cmp"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Why says by which rule a conflict was decided: a closed vocabulary.
type Why string

// The rules that decide.
const (
	// BySourceOrder: the own sources' order of priority.
	BySourceOrder Why = "order_of_sources"
	// ByOwnCluster: the own cluster knows its own endpoints best.
	ByOwnCluster Why = "own_cluster"
	// ByClusterOrder: the importer's configured order of clusters.
	ByClusterOrder Why = "order_of_clusters"
	// ByName: the clusters are in no configured order, or the services are of one
	// cluster; the name that sorts first.
	ByName Why = "name"
	// ByRename: an import that renames names the service; a pattern does not.
	ByRename Why = "renamed_by_import"
	// ByOwnName: the service is called so by its own cluster, the others are by a
	// map of namespaces.
	ByOwnName Why = "own_name"
)

// Side is one party to a conflict: what it says and who it is.
type Side struct {
	Cluster catalog.ClusterName `json:"cluster"`
	// Source is set where the cluster is the own one.
	Source string `json:"source,omitempty"`
	// Service is the service's name there.
	Service catalog.ServiceName `json:"service"`
	Value   string              `json:"value,omitempty"`
}

func (s Side) compare(o Side) int {
	return cmp.Or(cmp.Compare(s.Cluster, o.Cluster), cmp.Compare(s.Source, o.Source), s.Service.Compare(o.Service), cmp.Compare(s.Value, o.Value))
}

// Conflict is one field of a service on which its origins disagree.
type Conflict struct {
	// Service is the name in the cluster that merged.
	Service catalog.ServiceName `json:"service"`
	// Field is "ports/NAME/protocol" or "import" (two services of one cluster are
	// imported under one name).
	Field  string `json:"field"`
	Winner Side   `json:"winner"`
	// Losers are sorted.
	Losers []Side `json:"losers"`
	Why    Why    `json:"why"`
	// Disagree of Of origins that have the field differ from the winner.
	Disagree int `json:"disagree"`
	Of       int `json:"of"`
}

// Parties are the clusters that are a party to the conflict, each once.
func (c *Conflict) Parties() []catalog.ClusterName {
	parties := []catalog.ClusterName{c.Winner.Cluster}
	for _, s := range c.Losers {
		if !slices.Contains(parties, s.Cluster) {
			parties = append(parties, s.Cluster)
		}
	}
	return parties
}

// Equal reports whether both say the same.
func (c Conflict) Equal(o Conflict) bool {
	return c.Service == o.Service && c.Field == o.Field && c.Winner == o.Winner && c.Why == o.Why &&
		c.Disagree == o.Disagree && c.Of == o.Of && slices.Equal(c.Losers, o.Losers)
}

// claim is what one origin says of a port.
type claim struct {
	side Side
	port catalog.Port
}

// unionPorts merges ports in the order of the claims: the first claim of a name
// wins. The ports are sorted by name, won holds the winning side of each, and
// there is one conflict per port whose protocol is disputed.
func unionPorts(service catalog.ServiceName, claims []claim, why func(winner, loser Side) Why) (ports []catalog.Port, won []Side, conflicts []Conflict) {
	if len(claims) > 0 && !slices.ContainsFunc(claims, func(c claim) bool { return c.port != claims[0].port }) {
		// By far the most common case: one port, of which all say the same.
		return []catalog.Port{claims[0].port}, []Side{claims[0].side}, nil
	}
	byName := make(map[string][]claim)
	for _, c := range claims {
		byName[c.port.Name] = append(byName[c.port.Name], c)
	}
	names := make([]string, 0, len(byName))
	for n := range byName {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, name := range names {
		all := byName[name]
		first := all[0]
		ports, won = append(ports, first.port), append(won, first.side)
		var losers []Side
		var decided Why
		for _, c := range all[1:] {
			if c.port.Protocol == first.port.Protocol {
				continue
			}
			if decided == "" {
				decided = why(first.side, c.side)
			}
			losers = append(losers, withValue(c.side, string(c.port.Protocol)))
		}
		if len(losers) == 0 {
			continue
		}
		slices.SortFunc(losers, Side.compare)
		conflicts = append(conflicts, Conflict{
			Service: service, Field: "ports/" + name + "/protocol", Winner: withValue(first.side, string(first.port.Protocol)),
			Losers: losers, Why: decided, Disagree: len(losers), Of: len(all),
		})
	}
	return ports, won, conflicts
}

func withValue(s Side, value string) Side {
	s.Value = value
	return s
}
