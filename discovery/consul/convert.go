package consul

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

// rejected is one item of Consul that is no valid catalog value: it is left out,
// counted by reason and logged.
type rejected struct {
	service, endpoint, reason string
}

// The reasons for leaving an item out: a closed set, since they are a label.
const (
	badName    = "name"    // the service's name is no DNS label, or reserved
	badAddress = "address" // no IP address
	badPort    = "port"    // no port number, or a port name that is no DNS label
	badLabel   = "label"   // tag or meta that is no label; the endpoint stays
	badService = "service" // breaks another rule of the catalog
	badConnect = "connect" // of a mesh whose trust domain Consul does not tell
)

// machinery is Consul's own service, present in every datacenter.
const machinery = "consul"

// around is what an instance's entry does not say itself.
type around struct {
	view
	home catalog.Locality
	mesh mesh
	// sidecars of the service.
	sidecars []sidecar
}

// converter maps the instances of one Consul service. It is pure.
type converter struct {
	Config
	around
	service string
	bad     []rejected
}

// convert maps the instances of one Consul service to a catalog service; nil
// where none is a workload. Its result does not depend on the order of entries.
func (c Config) convert(name string, entries []*api.ServiceEntry, a around) (*catalog.Service, []rejected) {
	v := &converter{Config: c, around: a, service: name}
	v.Config.Namespace = cmp.Or(a.namespace, c.Namespace)
	return v.convert(entries), v.bad
}

func (c *converter) reject(endpoint, reason string) {
	c.bad = append(c.bad, rejected{c.service, endpoint, reason})
}

func (c *converter) convert(entries []*api.ServiceEntry) *catalog.Service {
	var workloads []*api.ServiceEntry
	for _, e := range entries {
		if isWorkload(e) {
			workloads = append(workloads, e)
		}
	}
	if len(workloads) == 0 {
		return nil // sidecars and gateways, whose names need not be labels, and imports
	}
	name, err := catalog.NewServiceName(c.service, c.Config.Namespace)
	if err != nil || name.IsFederation() {
		c.reject("", badName)
		return nil
	}
	slices.SortFunc(workloads, func(a, b *api.ServiceEntry) int { return cmp.Compare(instanceID(a), instanceID(b)) })
	s := &catalog.Service{Name: name}
	for _, e := range workloads {
		for _, ep := range c.endpoints(e) {
			// The first instance, by ID, that has a port says what it speaks.
			if _, known := catalog.FindPort(s.Ports, ep.Port); !known {
				s.Ports = append(s.Ports, catalog.Port{Name: ep.Port, Protocol: c.protocol(e.Service.Meta)})
			}
			s.Endpoints = append(s.Endpoints, ep)
		}
	}
	if len(s.Endpoints) == 0 {
		return nil
	}
	if err := s.Validate(); err != nil {
		c.reject("", badService)
		return nil
	}
	return s
}

// isWorkload: no sidecar, no gateway, and no entry that some cluster of Isthmus
// has made of its imports, which would come back to where it is from.
func isWorkload(e *api.ServiceEntry) bool {
	return e != nil && e.Node != nil && e.Service != nil && e.Service.Kind == api.ServiceKindTypical &&
		e.Service.Meta[agent.OwnerMeta] == ""
}

// instanceID is unique in the datacenter and stable: Consul's service IDs are
// unique on their node.
func instanceID(e *api.ServiceEntry) string { return e.Node.Node + "/" + e.Service.ID }

// endpoints is one per port of the instance, none where it is rejected.
func (c *converter) endpoints(e *api.ServiceEntry) []catalog.Endpoint {
	health, weight := weigh(e)
	base := catalog.Endpoint{
		ID: instanceID(e), Locality: c.locality(e), Health: health, Weight: weight, Labels: c.endpointLabels(e),
	}
	host, port := c.address(e)
	ports := []api.ServicePort{{Name: catalog.DefaultPort, Port: port, Default: true}}
	if len(e.Service.Ports) > 0 {
		ports = e.Service.Ports
	}
	eps := make([]catalog.Endpoint, 0, len(ports))
	for _, p := range ports {
		ep := base
		ep.Port = cmp.Or(p.Name, catalog.DefaultPort)
		if len(ports) > 1 {
			ep.ID = base.ID + ":" + ep.Port
		}
		if reason := c.dialed(&ep, e, host, p, len(ports) == 1); reason != "" {
			c.reject(instanceID(e), reason)
			return nil
		}
		eps = append(eps, ep)
	}
	return eps
}

// setAddress is why it cannot be one, or "".
func setAddress(ep *catalog.Endpoint, host string, port int) (reason string) {
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" {
		return badAddress // a host name, or a Unix socket
	}
	if _, err := catalog.ParseClusterName(ep.Port); err != nil || port < 1 || port > math.MaxUint16 {
		return badPort
	}
	ep.Address = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	return ""
}

// address is the tagged one that the configuration prefers, else the service's
// own, else its node's.
func (c *converter) address(e *api.ServiceEntry) (host string, port int) {
	port = e.Service.Port
	if c.AddressTag != "" {
		if a, ok := e.Service.TaggedAddresses[c.AddressTag]; ok && a.Address != "" {
			return a.Address, cmp.Or(a.Port, port)
		}
		if a := e.Node.TaggedAddresses[c.AddressTag]; a != "" && e.Service.Address == "" {
			return a, port
		}
	}
	return cmp.Or(e.Service.Address, e.Node.Address), port
}

// weigh aggregates the checks as Consul's own API does: maintenance over critical
// over warning; an instance that nothing checks is unknown. The weight is that for
// the status, which Consul itself applies for DNS only; a weight of 0 means there
// that the instance gets nothing: it is in maintenance.
func weigh(e *api.ServiceEntry) (catalog.Health, uint32) {
	health, weight := catalog.Critical, e.Service.Weights.Passing
	switch e.Checks.AggregatedStatus() {
	case api.HealthPassing:
		health = catalog.Passing
		if len(e.Checks) == 0 {
			health = catalog.Unknown
		}
	case api.HealthWarning:
		health, weight = catalog.Warning, e.Service.Weights.Warning
	case api.HealthMaint:
		health = catalog.Maintenance
	}
	// An agent writes 1 and 1 where a registration says nothing; a catalog that
	// was written by hand may have no weights at all.
	if weight == 0 && health.Usable() && e.Service.Weights != (api.AgentWeights{}) {
		health = catalog.Maintenance
	}
	return health, uint32(min(max(weight, 1), catalog.MaxWeight))
}

// locality is the service's, else the node's, else home. Consul knows no cloud,
// so that is always home's; what is no valid locality is home.
func (c *converter) locality(e *api.ServiceEntry) catalog.Locality {
	l := e.Service.Locality
	if l == nil || l.Region == "" {
		l = e.Node.Locality
	}
	if l == nil || l.Region == "" {
		return c.home
	}
	out := catalog.Locality{Cloud: c.home.Cloud, Region: l.Region, Zone: l.Zone}
	if out.Validate() != nil {
		return c.home
	}
	return out
}

func (c *converter) protocol(meta map[string]string) catalog.Protocol {
	for _, key := range []string{"isthmus-protocol", "protocol"} {
		if p, ok := knownProtocol(meta[key]); ok {
			return p
		}
	}
	return c.Protocol
}

// endpointLabels maps tags, then meta, which wins where both have a key, then what
// the configuration says of the whole datacenter.
func (c *converter) endpointLabels(e *api.ServiceEntry) map[string]string {
	all := map[string]string{}
	for _, tag := range e.Service.Tags {
		if k, v, ok := strings.Cut(tag, "="); ok && c.wants(k) {
			all[k] = v
		} else if c.LabelTags {
			all["tag:"+tag] = "true"
		}
	}
	for k, v := range e.Service.Meta {
		if c.wants(k) {
			all[k] = v
		}
	}
	maps.Copy(all, c.labels)
	var labels map[string]string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if catalog.CheckLabel(k, all[k]) != nil || len(labels) >= catalog.MaxLabels {
			c.reject(instanceID(e), badLabel)
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[k] = all[k]
	}
	return labels
}

func (c *converter) wants(key string) bool {
	return slices.Contains(c.LabelMeta, key) || slices.Contains(c.LabelMeta, "*")
}
