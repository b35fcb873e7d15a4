package gcp

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// builder makes services of what is known. It is pure, and what it makes depends
// on no order but that of names.
type builder struct {
	config   Config
	services map[catalog.ServiceName]*catalog.Service
	ids      map[catalog.ServiceName]map[string]bool
	rejected map[string]int
}

func newBuilder(c Config) *builder {
	return &builder{
		config: c, services: map[catalog.ServiceName]*catalog.Service{},
		ids: map[catalog.ServiceName]map[string]bool{}, rejected: map[string]int{},
	}
}

func (b *builder) reject(reason string) { b.rejected[reason]++ }

// build maps all projects. What knows more of an instance's health comes first:
// where two parts of the configuration find the same instance for a service, the
// first counts.
func (b *builder) build(projects []*project) []*catalog.Service {
	for _, p := range projects {
		b.managedGroups(p, b.config.ManagedGroups)
		b.endpointGroups(p, b.config.EndpointGroups)
		if b.config.Instances != nil {
			b.instances(p, *b.config.Instances)
		}
		for _, d := range b.config.ServiceDirectory {
			b.directories(p, d)
		}
	}
	out := make([]*catalog.Service, 0, len(b.services))
	for _, s := range b.services {
		if s.Validate() != nil {
			b.reject(badService)
			continue
		}
		out = append(out, s)
	}
	return out
}

// declare says that a service exists, with endpoints or without.
func (b *builder) declare(name catalog.ServiceName, ports []Port) {
	for _, p := range ports {
		b.port(name, p)
	}
}

func (b *builder) port(name catalog.ServiceName, p Port) *catalog.Service {
	s := b.services[name]
	if s == nil {
		s = &catalog.Service{Name: name}
		b.services[name], b.ids[name] = s, map[string]bool{}
	}
	if _, known := catalog.FindPort(s.Ports, p.Name); !known {
		s.Ports = append(s.Ports, catalog.Port{Name: p.Name, Protocol: p.Protocol})
	}
	return s
}

func (b *builder) add(name catalog.ServiceName, p Port, e catalog.Endpoint) {
	s := b.port(name, p)
	if b.ids[name][e.ID] {
		return
	}
	b.ids[name][e.ID] = true
	e.Port, e.Weight = p.Name, 1
	s.Endpoints = append(s.Endpoints, e)
}

// vm adds an instance with all its ports.
func (b *builder) vm(p *project, name catalog.ServiceName, v vm, ports []Port, health catalog.Health) {
	address, err := netip.ParseAddr(v.address)
	if err != nil {
		b.reject(badAddress)
		return
	}
	labels := b.labels(v.labels)
	for _, port := range ports {
		id := p.id + "/" + v.zone + "/" + v.name
		if len(ports) > 1 {
			id += ":" + port.Name
		}
		b.add(name, port, catalog.Endpoint{
			ID: id, Address: netip.AddrPortFrom(address, port.Port),
			Locality: b.locality("zones/"+v.zone, ""), Health: health, Labels: labels,
		})
	}
}

// locality of a scope, and of a zone in it where that is known. Google's zone
// names mean the same place in every project, so they are the zones' ids.
func (b *builder) locality(scope, zone string) catalog.Locality {
	l := catalog.Locality{Cloud: b.config.Cloud, Region: location(scope)}
	if scope == "zones/"+l.Region {
		zone, l.Region = l.Region, regionOf(l.Region)
	}
	if zone != "" && regionOf(zone) == l.Region {
		l.Zone = zone
	}
	if l.Validate() != nil {
		return catalog.Locality{Cloud: b.config.Cloud}
	}
	return l
}

// labels are those that the configuration names, as many as an endpoint may
// have.
func (b *builder) labels(all map[string]string) map[string]string {
	var out map[string]string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(b.config.Labels, k) && !slices.Contains(b.config.Labels, "*") {
			continue
		}
		if catalog.CheckLabel(k, all[k]) != nil || len(out) >= catalog.MaxLabels {
			b.reject(badLabel)
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = all[k]
	}
	return out
}

// selects reports whether the configuration means the group of that name.
func (g Group) selects(project, scope, name string) bool {
	return g.Name == name && allows(g.Projects, project) && allows(g.Locations, location(scope))
}

// allows reports whether one is in all, or all is empty.
func allows(all []string, one string) bool { return len(all) == 0 || slices.Contains(all, one) }

// sorted are the items of all scopes, by scope; Google lists each by name.
func (s *scoped[T]) sorted() []T {
	var out []T
	for _, scope := range slices.Sorted(maps.Keys(s.items)) {
		out = append(out, s.items[scope]...)
	}
	return out
}
