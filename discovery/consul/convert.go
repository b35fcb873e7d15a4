package consul

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// rejected is one item of Consul that is no valid catalog value: it is left out,
// counted by reason and logged.
type rejected struct {
	service, endpoint, reason string
}

// The reasons for leaving an item out: a closed set, since they are a label.
const (
	badName    = "name"
	badAddress = "address"
	badPort    = "port"
)

// skip reports services that are Consul's own machinery and no workload.
func skip(name string) bool { return name == "consul" }

// convert maps the instances of one Consul service to a catalog service; nil
// where none is a workload. It is pure, and its result does not depend on the
// order of entries.
func (c Config) convert(name string, entries []*api.ServiceEntry, home catalog.Locality) (*catalog.Service, []rejected) {
	var bad []rejected
	serviceName, err := catalog.NewServiceName(name, c.Namespace)
	if err != nil || serviceName.IsFederation() {
		return nil, []rejected{{service: name, reason: badName}}
	}
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b *api.ServiceEntry) int { return cmp.Compare(instanceID(a), instanceID(b)) })
	s := &catalog.Service{Name: serviceName}
	protocols := map[string]catalog.Protocol{}
	for _, e := range entries {
		if e.Node == nil || e.Service == nil || e.Service.Kind != api.ServiceKindTypical {
			continue
		}
		endpoints, reason := c.endpoints(e, home)
		if reason != "" {
			bad = append(bad, rejected{service: name, endpoint: instanceID(e), reason: reason})
			continue
		}
		for _, ep := range endpoints {
			// the first instance, by ID, that names a port says what it speaks
			if _, ok := protocols[ep.Port]; !ok {
				protocols[ep.Port] = c.protocol(e.Service.Meta)
				s.Ports = append(s.Ports, catalog.Port{Name: ep.Port, Protocol: protocols[ep.Port]})
			}
			s.Endpoints = append(s.Endpoints, ep)
		}
	}
	if len(s.Endpoints) == 0 {
		return nil, bad
	}
	return s, bad
}

// instanceID is unique in the datacenter and stable: Consul's service IDs are
// unique on their node.
func instanceID(e *api.ServiceEntry) string {
	if e.Node == nil || e.Service == nil {
		return ""
	}
	return e.Node.Node + "/" + e.Service.ID
}

// endpoints is one per port of the instance.
func (c Config) endpoints(e *api.ServiceEntry, home catalog.Locality) (eps []catalog.Endpoint, reason string) {
	address, port := c.address(e)
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return nil, badAddress // a host name, or a Unix socket
	}
	health := healthOf(e.Checks)
	base := catalog.Endpoint{
		ID: instanceID(e), Locality: localityOf(e, home), Health: health,
		Weight: weightOf(e.Service.Weights, health), Labels: c.labels(e.Service),
	}
	ports := []api.ServicePort{{Name: catalog.DefaultPort, Port: port}}
	if len(e.Service.Ports) > 0 {
		ports = e.Service.Ports
	}
	for _, p := range ports {
		if p.Port < 1 || p.Port > math.MaxUint16 {
			return nil, badPort
		}
		ep := base
		ep.Port = cmp.Or(p.Name, catalog.DefaultPort)
		ep.Address = netip.AddrPortFrom(ip.Unmap(), uint16(p.Port))
		if len(ports) > 1 {
			ep.ID = fmt.Sprintf("%s:%s", base.ID, ep.Port)
		}
		eps = append(eps, ep)
	}
	return eps, ""
}

// address is the tagged one that the configuration prefers, else the service's
// own, else its node's.
func (c Config) address(e *api.ServiceEntry) (host string, port int) {
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

// healthOf aggregates as Consul's own API does: maintenance over critical over
// warning. An instance that nothing checks is unknown.
func healthOf(checks api.HealthChecks) catalog.Health {
	if len(checks) == 0 {
		return catalog.Unknown
	}
	switch checks.AggregatedStatus() {
	case api.HealthPassing:
		return catalog.Passing
	case api.HealthWarning:
		return catalog.Warning
	case api.HealthMaint:
		return catalog.Maintenance
	default:
		return catalog.Critical
	}
}

// weightOf applies the weight for the status; Consul itself does so for DNS only.
func weightOf(w api.AgentWeights, h catalog.Health) uint32 {
	n := w.Passing
	if h == catalog.Warning {
		n = w.Warning
	}
	return uint32(min(max(n, 1), catalog.MaxWeight))
}

// localityOf is the service's, else the node's, else home. Consul knows no
// cloud, so that is always home's; what is no valid locality is home.
func localityOf(e *api.ServiceEntry, home catalog.Locality) catalog.Locality {
	l := e.Service.Locality
	if l == nil || l.Region == "" {
		l = e.Node.Locality
	}
	if l == nil || l.Region == "" {
		return home
	}
	out := catalog.Locality{Cloud: home.Cloud, Region: l.Region, Zone: l.Zone}
	if out.Validate() != nil {
		return home
	}
	return out
}

func (c Config) protocol(meta map[string]string) catalog.Protocol {
	for _, key := range []string{"isthmus-protocol", "protocol"} {
		if p, ok := knownProtocol(meta[key]); ok {
			return p
		}
	}
	return c.Protocol
}

func (c Config) labels(s *api.AgentService) map[string]string {
	var labels map[string]string
	put := func(k, v string) {
		if v == "" || len(v) > catalog.MaxLabelValueLen || !slices.Contains(c.LabelMeta, k) {
			return
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[k] = v
	}
	for _, tag := range s.Tags {
		if k, v, ok := strings.Cut(tag, "="); ok {
			put(k, v)
		}
	}
	for k, v := range s.Meta { // meta wins over a tag of the same key
		put(k, v)
	}
	return labels
}
