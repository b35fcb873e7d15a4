package board

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// index answers what a table knows, without a walk through it. It is immutable.
type index struct {
	// offers are the clusters that have a port of a service, the own one first.
	offers map[portKey][]catalog.ClusterName
	// endpoints are the IDs of the own cluster's.
	endpoints map[portKey][]string
	// zones are their zones, in the same order.
	zones map[portKey][]string
	// imports are the own names of a peer's service; an import may rename.
	imports map[remoteName][]catalog.ServiceName
	// exported are the peers that each exported service is offered to.
	exported map[catalog.ServiceName][]catalog.ClusterName
}

type portKey struct {
	service catalog.ServiceName
	port    string
}

type remoteName struct {
	cluster catalog.ClusterName
	service string
}

func indexOf(t *route.Table) *index {
	ix := &index{
		offers:    make(map[portKey][]catalog.ClusterName),
		endpoints: make(map[portKey][]string),
		zones:     make(map[portKey][]string),
		imports:   make(map[remoteName][]catalog.ServiceName),
		exported:  make(map[catalog.ServiceName][]catalog.ClusterName),
	}
	for i := range t.Services {
		s := &t.Services[i]
		if len(s.ExportedTo) > 0 {
			ix.exported[s.Name] = s.ExportedTo
		}
		for j := range s.Endpoints {
			k := portKey{s.Name, s.Endpoints[j].Port}
			if len(ix.endpoints[k]) == 0 {
				ix.offers[k] = append(ix.offers[k], t.Cluster.Name)
			}
			ix.endpoints[k] = append(ix.endpoints[k], s.Endpoints[j].ID)
			zone := s.Endpoints[j].Locality.Zone
			if s.Endpoints[j].Locality.Cloud == "" {
				zone = t.Cluster.Locality.Zone
			}
			ix.zones[k] = append(ix.zones[k], zone)
		}
		for j := range s.Remote {
			r := &s.Remote[j]
			for _, p := range r.Ports {
				k := portKey{s.Name, p.Name}
				ix.offers[k] = append(ix.offers[k], r.Cluster)
			}
			n := remoteName{r.Cluster, r.Name.String()}
			ix.imports[n] = append(ix.imports[n], s.Name)
		}
	}
	return ix
}

// hasTarget reports whether outcomes of t are worth keeping.
func (ix *index) hasTarget(t route.Target) bool {
	return slices.Contains(ix.offers[portKey{t.Service, t.Port}], t.Cluster)
}

// zoneOf is the zone of an own endpoint.
func (ix *index) zoneOf(k route.EndpointKey) (zone string, known bool) {
	pk := portKey{k.Service, k.Port}
	i := slices.Index(ix.endpoints[pk], k.ID)
	if i < 0 {
		return "", false
	}
	return ix.zones[pk][i], true
}

// zonesOf are the zones of a port's own endpoints, each once.
func (ix *index) zonesOf(k portKey) []string {
	zones := slices.Sorted(slices.Values(ix.zones[k]))
	return slices.Compact(zones)
}

func (ix *index) hasEndpoint(k route.EndpointKey) bool {
	return slices.Contains(ix.endpoints[portKey{k.Service, k.Port}], k.ID)
}
