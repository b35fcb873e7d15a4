package merge

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// local is the own cluster's part of a service.
type local struct {
	service    *catalog.Service
	portOwners []Side // of service.Ports
	provenance []Provenance
	conflicts  []Conflict
}

// mergeOwn merges what the own sources say, in their order of precedence.
func mergeOwn(cluster catalog.ClusterName, name catalog.ServiceName, parts []contribution) local {
	l := local{service: &catalog.Service{Name: name}}
	var claims []claim
	for _, p := range parts {
		for _, port := range p.service.Ports {
			claims = append(claims, claim{side: Side{Cluster: cluster, Source: p.source, Service: p.service.Name}, port: port})
		}
	}
	l.service.Ports, l.portOwners, l.conflicts = unionPorts(name, claims, func(winner, loser Side) Why {
		if winner.Source == loser.Source {
			return ByName // two services of one source under one name
		}
		return BySourceOrder
	})
	l.mergeMeta(cluster, parts)
	l.mergeEndpoints(cluster, parts)
	return l
}

func (l *local) mergeMeta(cluster catalog.ClusterName, parts []contribution) {
	for _, p := range parts {
		for k, v := range p.service.Meta {
			if _, taken := l.service.Meta[k]; taken {
				continue
			}
			if l.service.Meta == nil {
				l.service.Meta = make(map[string]string, len(p.service.Meta))
			}
			l.service.Meta[k] = v
			l.provenance = append(l.provenance, Provenance{Field: "meta/" + k, Cluster: cluster, Source: p.source})
		}
	}
}

// place is where an endpoint listens: sources that list the same place mean the
// same endpoint.
type place struct {
	port    string
	address netip.AddrPort
}

func (l *local) mergeEndpoints(cluster catalog.ClusterName, parts []contribution) {
	total := 0
	for _, p := range parts {
		total += len(p.service.Endpoints)
	}
	if len(parts) == 1 {
		// By far the most common case: nothing to compare.
		endpoints := slices.Clone(parts[0].service.Endpoints)
		for i := range endpoints {
			endpoints[i].Source = parts[0].source
		}
		l.service.Endpoints = endpoints
		return
	}
	endpoints := make([]catalog.Endpoint, 0, total)
	at := make(map[place]int, total)
	ids := make(map[string]bool, total)
	for _, p := range parts {
		before := len(endpoints)
		for _, e := range p.service.Endpoints {
			// Only another part can mean the same endpoint: what one source lists
			// twice, under two IDs, it means twice.
			if i, known := at[place{e.Port, e.Address}]; known {
				l.fill(cluster, &endpoints[i], e, p.source)
				continue
			}
			e.Source = p.source
			e.ID = uniqueID(ids, e.ID, p)
			ids[e.ID] = true
			endpoints = append(endpoints, e)
		}
		for i, e := range endpoints[before:] {
			if _, known := at[place{e.Port, e.Address}]; !known {
				at[place{e.Port, e.Address}] = before + i
			}
		}
	}
	slices.SortFunc(endpoints, catalog.Endpoint.Compare)
	l.service.Endpoints = endpoints
}

// uniqueID qualifies the ID of an endpoint where a source of higher priority has
// used it for another one. The earlier keeps its ID, so that a source that is
// added below never changes what evidence is kept under.
func uniqueID(taken map[string]bool, id string, p contribution) string {
	if !taken[id] {
		return id
	}
	qualified := id + "@" + p.source
	if !taken[qualified] {
		return qualified
	}
	qualified += "/" + p.service.Name.String()
	for n := 1; ; n++ {
		candidate := qualified
		if n > 1 {
			candidate += "#" + strconv.Itoa(n)
		}
		if !taken[candidate] {
			return candidate
		}
	}
}

// fill completes have by what a source of lower priority says of the same place.
func (l *local) fill(cluster catalog.ClusterName, have *catalog.Endpoint, more catalog.Endpoint, source string) {
	from := func(field string) {
		l.provenance = append(l.provenance, Provenance{Field: "endpoints/" + have.ID + "/" + field, Cluster: cluster, Source: source})
	}
	if narrows(have.Locality, more.Locality) {
		have.Locality = more.Locality
		from("locality")
	}
	if overrides(have.Health, more.Health) {
		have.Health = more.Health
		from("health")
	}
	// Listed by one source is listed: only what every source withdrew is held
	// back by the guard alone.
	if have.Quarantined && !more.Quarantined {
		have.Quarantined = false
		from("quarantined")
	}
	// Plaintext is also what a source says that knows of no transport, and a port
	// that speaks TLS cannot be had otherwise.
	if have.Transport == catalog.Plain && more.Transport != catalog.Plain {
		have.Transport, have.ServerID = more.Transport, more.ServerID
		from("transport")
	}
	owned := false
	for _, k := range slices.Sorted(maps.Keys(more.Labels)) {
		if _, taken := have.Labels[k]; taken {
			continue
		}
		if !owned {
			// The map is the source's, which is immutable.
			labels := make(map[string]string, len(have.Labels)+1)
			maps.Copy(labels, have.Labels)
			have.Labels, owned = labels, true
		}
		have.Labels[k] = more.Labels[k]
		from("labels/" + k)
	}
}

// narrows reports whether more says the same as have and more exactly.
func narrows(have, more catalog.Locality) bool {
	switch {
	case have == (catalog.Locality{}):
		return more != have
	case have.Cloud != more.Cloud:
		return false
	case have.Region == "":
		return more.Region != ""
	case have.Region != more.Region:
		return false
	default:
		return have.Zone == "" && more.Zone != ""
	}
}

// overrides reports whether the health that a lower source gives counts over the
// one that stands: any explicit "not in service" does, the worst of them; else
// only where the higher source has no checks.
func overrides(have, more catalog.Health) bool {
	switch {
	case have == catalog.Maintenance:
		return false
	case more == catalog.Maintenance:
		return true
	case have == catalog.Critical:
		return false
	case more == catalog.Critical:
		return true
	default:
		return have == catalog.Unknown && more != catalog.Unknown
	}
}
