package syncout

import (
	"cmp"
	"maps"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

// The marks of an entry, in its meta. The owner decides; the others say why it is
// there.
const (
	writerMeta   = "isthmus-writer"
	serviceMeta  = "isthmus-service"
	gatewayMeta  = "isthmus-gateway"
	wayMeta      = "isthmus-way"
	protocolMeta = "isthmus-protocol"
)

// checkPrefix begins the ID of an entry's check.
const checkPrefix = "isthmus:"

// entry is one instance in Consul: a service's way in at one gateway.
type entry struct {
	id, name  string
	gateway   string
	address   string
	port      int
	tags      []string
	meta      map[string]string
	reachable bool
	reason    string
	// destination is the service that the entry is a proxy of, "" of one that is an
	// instance.
	destination string
}

// same reports whether Consul has the entry as it should be; who wrote it is no
// difference.
func (e *entry) same(s *api.AgentService) bool {
	meta := maps.Clone(s.Meta)
	delete(meta, writerMeta)
	destination := ""
	if s.Kind == api.ServiceKindConnectProxy && s.Proxy != nil {
		destination = s.Proxy.DestinationServiceName
	}
	return e.destination == destination && e.name == s.Service && e.address == s.Address && e.port == s.Port && slices.Equal(e.tags, s.Tags) && maps.Equal(e.meta, meta)
}

func (e *entry) status() string {
	if e.reachable {
		return api.HealthPassing
	}
	return api.HealthCritical
}

// service is what is written.
func (e *entry) service(writer string) api.AgentService {
	meta := maps.Clone(e.meta)
	meta[writerMeta] = writer
	s := api.AgentService{
		ID: e.id, Service: e.name, Address: e.address, Port: e.port, Tags: e.tags, Meta: meta,
		Weights: api.AgentWeights{Passing: 1, Warning: 1},
	}
	if e.destination != "" {
		s.Kind, s.Proxy = api.ServiceKindConnectProxy, &api.AgentServiceConnectProxyConfig{DestinationServiceName: e.destination}
	}
	return s
}

func (e *entry) check(node string) api.HealthCheck {
	return api.HealthCheck{
		Node: node, CheckID: checkPrefix + e.id, Name: "reachable through Isthmus", Status: e.status(), Output: e.reason,
		ServiceID: e.id, ServiceName: e.name,
	}
}

// Refusal is why an imported service, or one way in to it, is not registered.
type Refusal struct {
	Service catalog.ServiceName
	Name    string // in Consul
	Gateway string
	Reason  string
}

// The reasons of a Refusal: a closed set, since they are a label.
const (
	Taken    = "taken"    // somebody else has registered the name
	Twice    = "twice"    // another imported service has the name
	TooLong  = "too_long" // the name does not fit a DNS label
	Loopback = "loopback" // the way in listens on loopback
	Node     = "node"     // the node of that name is not ours
	Denied   = "denied"   // Consul refuses it: most likely the token lacks service:write
)

var reasons = []string{Taken, Twice, TooLong, Loopback, Node, Denied} //nolint:gochecknoglobals // a constant list

func (r Refusal) compare(o Refusal) int {
	return cmp.Or(cmp.Compare(r.Name, o.Name), cmp.Compare(r.Gateway, o.Gateway), cmp.Compare(r.Reason, o.Reason))
}

// names maps what is offered to what is to be in Consul, by ID, and says what is
// left out. It does not depend on the order of ways, but for ways of the same
// service, port and gateway, of which the first counts.
func (c *Config) entries(cluster catalog.ClusterName, ways []Way) (wanted map[string]*entry, left []Refusal) {
	wanted = map[string]*entry{}
	owner := map[string]catalog.ServiceName{} // of a name
	sorted := slices.Clone(ways)
	slices.SortStableFunc(sorted, func(a, b Way) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(truth(a.HTTP), truth(b.HTTP)), cmp.Compare(a.Mesh, b.Mesh))
	})
	for _, w := range sorted {
		if w.HTTP && (!c.HTTP || w.Service.Namespace() != catalog.DefaultNamespace || c.Namespace != catalog.DefaultNamespace) {
			continue
		}
		name := c.name(w)
		refuse := func(reason string) {
			left = append(left, Refusal{Service: w.Service, Name: name, Gateway: w.Gateway, Reason: reason})
		}
		id := name + "@" + w.Gateway
		switch before, known := owner[name]; {
		case len(name) > catalog.MaxLabelLen:
			refuse(TooLong)
			continue
		case known && before != w.Service:
			refuse(Twice)
			continue
		case w.Address.Addr().IsLoopback() && !c.Loopback:
			refuse(Loopback)
			continue
		case wanted[id] != nil:
			continue // a TCP listener before the HTTP way in, the first of several listeners
		}
		owner[name] = w.Service
		way := "tcp"
		switch {
		case w.HTTP:
			way = "http"
		case w.Mesh != "":
			way = "mesh"
		}
		wanted[id] = &entry{
			id: id, name: name, gateway: w.Gateway, address: w.Address.Addr().String(), port: int(w.Address.Port()), tags: c.Tags,
			meta: map[string]string{
				agent.OwnerMeta: string(cluster), serviceMeta: w.Service.String(), gatewayMeta: w.Gateway,
				wayMeta: way, protocolMeta: string(w.Protocol),
			},
			reachable: w.Reachable, reason: w.Reason, destination: w.Mesh,
		}
	}
	return wanted, left
}

// meshSuffix makes a proxy's name of its service's, as Consul does. Callers outside of
// the mesh ask for the service's own, and are not given a port that speaks mTLS only.
const meshSuffix = "-isthmus-proxy"

// name is what Consul calls a service: NAME, NAME-NAMESPACE, and -PORT for a port
// that is not the main one.
func (c *Config) name(w Way) string {
	if w.Mesh != "" {
		return w.Mesh + meshSuffix
	}
	name := w.Service.Name()
	if w.Service.Namespace() != c.Namespace {
		name += "-" + w.Service.Namespace()
	}
	if w.Port != "" {
		name += "-" + w.Port
	}
	return name
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
