package consul

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// connectMeta is the key of a service's meta by which an instance says itself how
// it is dialed: sidecar or plain.
const connectMeta = "isthmus-connect"

// mesh is what Consul says of its service mesh; without a trust domain it has
// none.
type mesh struct{ trustDomain string }

// serverID is the SPIFFE ID that a sidecar of the service proves, or the service
// itself where it is Connect-native. The form is Consul's; partition and namespace
// are in it as Consul writes them.
func (m mesh) serverID(datacenter, partition, namespace, service string) string {
	tenancy := "/ns/" + cmp.Or(namespace, "default")
	if partition != "" && partition != "default" {
		tenancy = "/ap/" + partition + tenancy
	}
	return fmt.Sprintf("spiffe://%s%s/dc/%s/svc/%s", m.trustDomain, tenancy, datacenter, service)
}

// sidecar is a proxy that takes mTLS for instances of a service on its node.
type sidecar struct {
	node string
	// instance is the service ID that it stands before, "" for any on the node.
	instance string
	host     string
	port     int
	// to is the port of the instance that it forwards to, 0 if unknown.
	to     int
	health catalog.Health
	// captures: what arrives at the instance's own port goes to the proxy, too, so
	// that nothing else takes connections from elsewhere.
	captures bool
}

// sidecarsOf are the sidecars among the instances of one Consul service, by the
// service that they stand before, each list in order.
func (c Config) sidecarsOf(entries []*api.ServiceEntry) map[string][]sidecar {
	var out map[string][]sidecar
	v := converter{Config: c}
	for _, e := range entries {
		if e == nil || e.Node == nil || e.Service == nil || e.Service.Kind != api.ServiceKindConnectProxy || e.Service.Proxy == nil {
			continue
		}
		p := e.Service.Proxy
		s := sidecar{node: e.Node.Node, instance: p.DestinationServiceID, to: p.LocalServicePort, captures: p.Mode == api.ProxyModeTransparent}
		s.host, s.port = v.address(e)
		s.health, _ = weigh(e)
		if out == nil {
			out = map[string][]sidecar{}
		}
		out[p.DestinationServiceName] = append(out[p.DestinationServiceName], s)
	}
	for _, list := range out {
		slices.SortFunc(list, sidecar.compare)
	}
	return out
}

// compare puts those that name an instance before those that do not.
func (s sidecar) compare(o sidecar) int {
	return cmp.Or(cmp.Compare(s.node, o.node), cmp.Compare(o.instance, s.instance), cmp.Compare(s.host, o.host), cmp.Compare(s.port, o.port))
}

// sidecarOf is the one before an instance, or nil. One that names no instance
// comes after those that do.
func (a around) sidecarOf(e *api.ServiceEntry) *sidecar {
	for i := range a.sidecars {
		if s := &a.sidecars[i]; s.node == e.Node.Node && (s.instance == e.Service.ID || s.instance == "") {
			return s
		}
	}
	return nil
}

// dialed sets how a port of an instance is reached: at its own address in
// plaintext or (Connect-native) by mTLS, or by mTLS through its sidecar. It
// returns why it cannot be, or "".
func (c *converter) dialed(ep *catalog.Endpoint, e *api.ServiceEntry, host string, p api.ServicePort, only bool) (reason string) {
	how := c.Connect
	if said := Connect(e.Service.Meta[connectMeta]); said == ConnectSidecar || said == ConnectPlain {
		how = said
	}
	own := setAddress(ep, host, p.Port)
	if how == ConnectPlain {
		return own
	}
	if e.Service.Connect != nil && e.Service.Connect.Native {
		if own != "" {
			return own
		}
		return c.byMTLS(ep, e)
	}
	s := c.sidecarOf(e)
	if s == nil || !s.serves(p, only) || how == ConnectAuto && own == "" && !s.captures && takesPlaintext(ep.Address.Addr()) {
		return own
	}
	if reason := setAddress(ep, s.host, s.port); reason != "" {
		return reason
	}
	ep.Health = worse(ep.Health, s.health)
	return c.byMTLS(ep, e)
}

// takesPlaintext: what listens on loopback takes nothing from other hosts, which
// is how a service of the mesh is made to be called through its sidecar only.
func takesPlaintext(a netip.Addr) bool { return !a.IsLoopback() && !a.IsUnspecified() }

// serves: a sidecar forwards to one port of an instance with several.
func (s *sidecar) serves(p api.ServicePort, only bool) bool {
	return only || s.to == p.Port || s.to == 0 && p.Default
}

func (c *converter) byMTLS(ep *catalog.Endpoint, e *api.ServiceEntry) (reason string) {
	if c.mesh.trustDomain == "" {
		return badConnect
	}
	ep.Transport = catalog.MTLS
	ep.ServerID = c.mesh.serverID(cmp.Or(e.Node.Datacenter, c.view.Datacenter), cmp.Or(e.Service.Partition, c.view.Partition), cmp.Or(e.Service.Namespace, c.view.View.Namespace), c.service)
	return ""
}

// worse is the health of two in a row; one without checks says nothing.
func worse(a, b catalog.Health) catalog.Health {
	switch {
	case a == catalog.Unknown:
		return b
	case b == catalog.Unknown:
		return a
	}
	all := catalog.Healths()
	return all[max(slices.Index(all, a), slices.Index(all, b))]
}

// ofMesh reports whether an instance is Connect-native or a sidecar, so that the
// mesh's trust domain is needed.
func ofMesh(e *api.ServiceEntry) bool {
	return e != nil && e.Service != nil && (e.Service.Kind == api.ServiceKindConnectProxy || e.Service.Connect != nil && e.Service.Connect.Native)
}
