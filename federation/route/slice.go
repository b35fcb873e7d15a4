package route

import (
	"unsafe"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Of is the plan of one service alone: it decides about that service as p does, and
// replays p's records of it. It holds nothing of other services, so that decisions
// can be kept for a long time without the tables that they were made by. size is
// about what it keeps in memory, in bytes.
func (p *Plan) Of(name catalog.ServiceName) (of *Plan, size int) {
	q, e, t := *p, *p.evidence, *p.table
	q.names, q.list = nil, nil
	q.evidence, q.table = &e, &t
	e.Targets, e.Endpoints, e.Zones, t.Services = nil, nil, nil, nil
	size = int(unsafe.Sizeof(q)+unsafe.Sizeof(e)+unsafe.Sizeof(t)) + len(e.Links)*int(unsafe.Sizeof(LinkEvidence{}))
	sp := p.of(name)
	if sp == nil {
		return &q, size
	}
	kept, service := *sp, *sp.service // a copy: a table's rows are one array
	kept.service = &service
	q.names, q.list = map[catalog.ServiceName]int32{name: 0}, []*servicePlan{&kept}
	t.Services = []Service{service}
	e.Targets = make(map[Target]TargetEvidence)
	e.Endpoints = make(map[EndpointKey]EndpointEvidence)
	for k, z := range p.evidence.Zones {
		if k.Service == name {
			if e.Zones == nil {
				e.Zones = make(map[ZoneKey]ZoneEvidence)
			}
			e.Zones[k] = z
		}
	}
	for _, port := range service.Ports {
		q.keepTarget(p, Target{Service: name, Port: port.Name, Cluster: t.Cluster.Name})
		for i := range service.Remote {
			q.keepTarget(p, Target{Service: name, Port: port.Name, Cluster: service.Remote[i].Cluster})
		}
	}
	for i := range service.Endpoints {
		k := EndpointKey{Service: name, Port: service.Endpoints[i].Port, ID: service.Endpoints[i].ID}
		if ev, ok := p.evidence.Endpoints[k]; ok {
			e.Endpoints[k] = ev
		}
	}
	// A candidate and its items in wheels, an endpoint and its own.
	size += len(service.Ports) * (len(service.Remote) + 1) * int(2*unsafe.Sizeof(candidate{})+2*unsafe.Sizeof(item{})+unsafe.Sizeof(TargetEvidence{}))
	size += len(service.Endpoints) * int(unsafe.Sizeof(catalog.Endpoint{})+2*unsafe.Sizeof(member{})+3*unsafe.Sizeof(item{})+unsafe.Sizeof(EndpointEvidence{}))
	return &q, size
}

func (p *Plan) keepTarget(from *Plan, t Target) {
	if te, ok := from.evidence.Targets[t]; ok {
		p.evidence.Targets[t] = te
	}
}
