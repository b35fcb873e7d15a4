package kubernetes

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// OwnerLabel marks what Isthmus makes in a cluster, by the name of who made it:
// services and slices that stand for imports. They are nobody's to export.
const OwnerLabel = "isthmus-mesh.github.io/owner"

// The reasons for leaving something out: a closed set, since they are a label.
const (
	badName         = "name"          // reserved, or no DNS label
	badExternalName = "external_name" // an alias: it has no endpoints to read
	badPort         = "port"          // a protocol that is not carried, or no port at all
	badAddress      = "address"       // no IP address
	badZone         = "zone"          // no DNS label, or the region is not known; the endpoint stays
	badLabel        = "label"         // breaks the catalog's bounds; the rest stays
	badService      = "service"       // breaks another rule of the catalog
)

// rejected is one item that is no valid catalog value: it is left out, counted by
// reason and logged.
type rejected struct {
	endpoint, reason string
}

// converter maps one Service and its slices. It is pure.
type converter struct {
	Config
	nodes map[string]catalog.Locality
	bad   []rejected
}

// convert maps a Service to a catalog service; nil where it is left out. The result
// does not depend on the order of slices.
func (c Config) convert(svc *corev1.Service, slicesOf []*discoveryv1.EndpointSlice, nodes map[string]catalog.Locality) (*catalog.Service, []rejected) {
	v := &converter{Config: c, nodes: nodes}
	return v.convert(svc, slicesOf), v.bad
}

func (c *converter) reject(endpoint, reason string) {
	c.bad = append(c.bad, rejected{endpoint, reason})
}

func (c *converter) convert(svc *corev1.Service, slicesOf []*discoveryv1.EndpointSlice) *catalog.Service {
	name, err := catalog.NewServiceName(svc.Name, svc.Namespace)
	switch {
	case svc.Labels[OwnerLabel] != "":
		return nil // ours: no problem, and no service either
	case err != nil || name.IsFederation():
		c.reject("", badName)
		return nil
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		c.reject("", badExternalName)
		return nil
	}
	s := &catalog.Service{Name: name, Ports: c.ports(svc), Meta: c.pick(c.Meta, svc.Labels, svc.Annotations)}
	if len(s.Ports) == 0 {
		return nil // told already
	}
	s.Endpoints = c.endpoints(s.Ports, svc, slicesOf)
	if err := s.Validate(); err != nil {
		c.reject("", badService)
		return nil
	}
	return s
}

// ports are those of the Service: a slice that has others does not add any.
func (c *converter) ports(svc *corev1.Service) []catalog.Port {
	var ports []catalog.Port
	for _, p := range svc.Spec.Ports {
		protocol, ok := speaks(p, c.Protocol)
		if !ok {
			c.reject(p.Name, badPort)
			continue
		}
		ports = append(ports, catalog.Port{Name: cmp.Or(p.Name, catalog.DefaultPort), Protocol: protocol})
	}
	if len(svc.Spec.Ports) == 0 {
		c.reject("", badPort) // headless ones need none
	}
	return ports
}

// candidate is one address of one endpoint at one port.
type candidate struct {
	catalog.Endpoint
	// target is the pod, or "" where the slice does not say; one pod is one endpoint,
	// however many families it has.
	target string
	family discoveryv1.AddressType
}

func (c *converter) endpoints(ports []catalog.Port, svc *corev1.Service, slicesOf []*discoveryv1.EndpointSlice) []catalog.Endpoint {
	var all []candidate
	for _, slice := range slicesOf {
		if slice.AddressType == discoveryv1.AddressTypeFQDN {
			c.reject(slice.Name, badAddress)
			continue
		}
		labels := c.pick(c.Labels, slice.Labels, svc.Labels)
		for _, p := range slice.Ports {
			name := catalog.DefaultPort
			if p.Name != nil && *p.Name != "" {
				name = *p.Name
			}
			if p.Port == nil || !slices.ContainsFunc(ports, func(o catalog.Port) bool { return o.Name == name }) {
				continue // of a port that was left out, or not one of the Service
			}
			for i := range slice.Endpoints {
				if e, ok := c.endpoint(&slice.Endpoints[i], name, *p.Port, labels); ok {
					e.family = slice.AddressType
					all = append(all, e)
				}
			}
		}
	}
	return c.settle(all, primaryFamily(svc))
}

func primaryFamily(svc *corev1.Service) discoveryv1.AddressType {
	if len(svc.Spec.IPFamilies) > 0 {
		return discoveryv1.AddressType(svc.Spec.IPFamilies[0])
	}
	return discoveryv1.AddressTypeIPv4
}

// settle leaves one endpoint per address, and one address per pod and port: two of
// one pod would count, and be tried, as two.
func (c *converter) settle(all []candidate, primary discoveryv1.AddressType) []catalog.Endpoint {
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(
			-compareBool(a.family == primary, b.family == primary),
			a.Compare(b.Endpoint),
			// While an endpoint moves from one slice to another it is in both: the
			// better word counts, as it does in Kubernetes' own proxies.
			cmp.Compare(slices.Index(catalog.Healths(), a.Health), slices.Index(catalog.Healths(), b.Health)),
			a.Locality.Compare(b.Locality),
		)
	})
	type place struct {
		port    string
		address netip.AddrPort
	}
	type pod struct{ port, target string }
	places, families := map[place]bool{}, map[pod]discoveryv1.AddressType{}
	out := make([]catalog.Endpoint, 0, len(all))
	for _, e := range all {
		at, of := place{e.Port, e.Address}, pod{e.Port, e.target}
		if family, seen := families[of]; places[at] || e.target != "" && seen && family != e.family {
			continue
		}
		places[at] = true
		if e.target != "" {
			families[of] = e.family
		}
		out = append(out, e.Endpoint)
	}
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

// endpoint is one endpoint of a slice at one port. Of its addresses the first
// counts: the API says that they are fungible.
func (c *converter) endpoint(e *discoveryv1.Endpoint, port string, number int32, labels map[string]string) (candidate, bool) {
	id, target := "", ""
	if e.TargetRef != nil {
		id, target = e.TargetRef.Name, cmp.Or(string(e.TargetRef.UID), e.TargetRef.Name)
	}
	if len(e.Addresses) == 0 {
		c.reject(id, badAddress)
		return candidate{}, false
	}
	ip, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || ip.Zone() != "" || number < 1 || number > 65_535 {
		c.reject(cmp.Or(id, e.Addresses[0]), badAddress)
		return candidate{}, false
	}
	at := netip.AddrPortFrom(ip.Unmap(), uint16(number))
	id = port + "/" + at.String()
	if e.TargetRef != nil && e.TargetRef.Name != "" {
		id = port + "/" + e.TargetRef.Name + "/" + at.String()
	}
	return candidate{target: target, Endpoint: catalog.Endpoint{
		ID: id, Port: port, Address: at, Locality: c.locality(e, id), Weight: 1, Health: health(e.Conditions), Labels: labels,
	}}, true
}

// health reads the conditions. One that terminates gets nothing new and drains; it
// is out by the cluster's own word, which no guard holds back.
func health(c discoveryv1.EndpointConditions) catalog.Health {
	is := func(b *bool) bool { return b != nil && *b }
	serving := c.Serving == nil || *c.Serving
	switch {
	case is(c.Terminating) && serving:
		return catalog.Maintenance
	case is(c.Terminating):
		return catalog.Critical
	case c.Ready == nil:
		return catalog.Unknown // to be taken for ready, says the API; nobody looked
	case *c.Ready:
		return catalog.Passing
	default:
		return catalog.Critical
	}
}

// locality is the slice's zone in the region of the node, or of the configuration.
func (c *converter) locality(e *discoveryv1.Endpoint, id string) catalog.Locality {
	l := catalog.Locality{Cloud: c.Cloud, Region: c.Region}
	zone := ""
	if e.Zone != nil {
		zone = *e.Zone
	}
	if e.NodeName != nil {
		node := c.nodes[*e.NodeName]
		l.Region, zone = cmp.Or(node.Region, l.Region), cmp.Or(node.Zone, zone)
	}
	if known, ok := c.ZoneIDs[zone]; ok {
		zone = known
	}
	if at := l.WithZone(zone); at.Validate() == nil {
		return at
	}
	if l.Validate() != nil {
		l = catalog.Locality{Cloud: c.Cloud, Region: c.Region}
	}
	if c.Region != "" || c.Nodes != nil {
		c.reject(id, badZone) // without a region nobody expects a zone
	}
	return l
}

// pick takes the keys from the first map that has them, as far as they fit.
func (c *converter) pick(keys []string, from ...map[string]string) map[string]string {
	var out map[string]string
	for _, key := range keys {
		for _, m := range from {
			value, ok := m[key]
			if !ok {
				continue
			}
			if err := catalog.CheckLabel(key, value); err != nil {
				c.reject(key, badLabel)
				break
			}
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
			break
		}
	}
	return out
}
