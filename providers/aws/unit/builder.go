package unit

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Cloud is the cloud of every locality.
const Cloud = "aws"

// The reasons for leaving something out: a closed set, since they are a label of
// a metric.
const (
	BadName    = "name"    // no DNS label, or reserved
	BadAddress = "address" // no IP address of the kind that is asked for
	BadPort    = "port"    // no port number
	BadZone    = "zone"    // a zone that has no id; the endpoint stays, without it
	BadLabel   = "label"   // no valid label, or one too many; the endpoint stays
	BadService = "service" // breaks another rule of the catalog
	BadWeight  = "weight"  // no number from 1 to 65535; the endpoint stays, with 1
)

// Reasons are all of them.
func Reasons() []string {
	return []string{BadName, BadAddress, BadPort, BadZone, BadLabel, BadService, BadWeight}
}

// Shape says how what is read becomes catalog values; it is the same for all
// units of a source.
type Shape struct {
	// Namespace of the catalog that the services are put in.
	Namespace string
	// Address chooses one of the addresses.
	Address Address
	// Labels are the tag (or attribute) keys that become labels; "*" is all.
	Labels []string
}

// Builder gathers the services of one read. The result does not depend on the
// order in which they are added.
type Builder struct {
	shape    Shape
	name     Name
	services map[catalog.ServiceName]*building
	rejected map[string]int
}

type building struct {
	// ports, each with the ID of the endpoint that says what it speaks: the least.
	ports     map[string]claim
	endpoints map[string]catalog.Endpoint
}

type claim struct {
	id       string
	protocol catalog.Protocol
}

// NewBuilder begins a read of the unit of that name.
func NewBuilder(name Name, shape Shape) *Builder {
	return &Builder{shape: shape, name: name, services: map[catalog.ServiceName]*building{}, rejected: map[string]int{}}
}

// Endpoint is one address and port of a service, as a reader found it.
type Endpoint struct {
	// Service is the name, without namespace.
	Service string
	// ID is unique in the unit.
	ID      string
	Port    catalog.Port
	Address netip.Addr
	Number  int
	// Zone is the zone's id, or "".
	Zone   string
	Health catalog.Health
	// Tags are what labels are chosen from; TagWeight is the weight.
	Tags map[string]string
}

// Add takes an endpoint, or leaves it out and counts why.
func (b *Builder) Add(e Endpoint) {
	name, err := catalog.NewServiceName(e.Service, b.shape.Namespace)
	switch {
	case err != nil || name.IsFederation() || !IsLabel(e.Port.Name):
		b.Reject(BadName)
		return
	case !e.Address.IsValid() || e.Address.Zone() != "":
		b.Reject(BadAddress)
		return
	case e.Number < 1 || e.Number > 65535:
		b.Reject(BadPort)
		return
	}
	c := catalog.Endpoint{
		ID: b.name.String() + "/" + e.ID, Port: e.Port.Name,
		Address:  netip.AddrPortFrom(e.Address.Unmap(), uint16(e.Number)),
		Locality: catalog.Locality{Cloud: Cloud, Region: b.name.Region, Zone: e.Zone},
		Weight:   b.weight(e.Tags), Health: e.Health, Labels: b.labels(e.Tags),
	}
	if c.Locality.Validate() != nil {
		b.Reject(BadZone)
		c.Locality.Zone = ""
	}
	s := b.services[name]
	if s == nil {
		s = &building{ports: map[string]claim{}, endpoints: map[string]catalog.Endpoint{}}
		b.services[name] = s
	}
	s.endpoints[c.ID] = c
	if p, taken := s.ports[c.Port]; !taken || c.ID < p.id {
		s.ports[c.Port] = claim{c.ID, e.Port.Protocol}
	}
}

// TagWeight is the tag (or attribute) that gives an endpoint another weight than 1.
const TagWeight = "isthmus-weight"

func (b *Builder) weight(tags map[string]string) uint32 {
	text, ok := tags[TagWeight]
	if !ok {
		return 1
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n < 1 || n > catalog.MaxWeight {
		b.Reject(BadWeight)
		return 1
	}
	return uint32(n)
}

// Reject counts something that is left out.
func (b *Builder) Reject(reason string) { b.rejected[reason]++ }

// labels chooses from tags what may be a label, in the order of the keys.
func (b *Builder) labels(tags map[string]string) map[string]string {
	var labels map[string]string
	all := slices.Contains(b.shape.Labels, "*")
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		if !all && !slices.Contains(b.shape.Labels, k) {
			continue
		}
		if len(labels) >= catalog.MaxLabels || catalog.CheckLabel(k, tags[k]) != nil {
			b.Reject(BadLabel)
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[k] = tags[k]
	}
	return labels
}

// Content is what was gathered. A service that breaks a rule of the catalog is
// left out and counted.
func (b *Builder) Content() *Content {
	out := &Content{Services: make(map[catalog.ServiceName]*catalog.Service, len(b.services)), Rejected: b.rejected}
	for name, s := range b.services {
		svc := &catalog.Service{Name: name}
		for port, c := range s.ports {
			svc.Ports = append(svc.Ports, catalog.Port{Name: port, Protocol: c.protocol})
		}
		slices.SortFunc(svc.Ports, func(a, b catalog.Port) int { return cmp.Compare(a.Name, b.Name) })
		svc.Endpoints = slices.SortedFunc(maps.Values(s.endpoints), catalog.Endpoint.Compare)
		if svc.Validate() != nil {
			b.Reject(BadService)
			continue
		}
		out.Services[name] = svc
	}
	return out
}
