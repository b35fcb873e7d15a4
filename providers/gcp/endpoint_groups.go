package gcp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// maxPort is the largest port number.
const maxPort = 65_535

// endpointGroup is what is kept of a network endpoint group.
type endpointGroup struct{ scope, name string }

func (g endpointGroup) key() string { return g.scope + "/" + g.name }

// networkEndpoint is one endpoint of a group.
type networkEndpoint struct {
	zone        string // of its instance, where it has one
	address     string
	port        int32
	health      catalog.Health
	annotations map[string]string
}

func (p *project) listEndpointGroups(ctx context.Context) (*scopes[endpointGroup], error) {
	list := newScopes[endpointGroup]()
	err := pages(ctx, p, func(ctx context.Context, token string) (int, string, error) {
		it := p.sdk.endpoints.AggregatedList(ctx, &computepb.AggregatedListNetworkEndpointGroupsRequest{Project: p.id})
		found, next, err := it.InternalFetch(pageSize, token)
		if err != nil {
			return 0, "", err
		}
		page, _ := it.Response.(*computepb.NetworkEndpointGroupAggregatedList)
		n, err := endpointGroupsPage(list, page, found)
		return n, next, err
	})
	return list, err
}

func endpointGroupsPage(list *scopes[endpointGroup], page *computepb.NetworkEndpointGroupAggregatedList, found []compute.NetworkEndpointGroupsScopedListPair) (int, error) {
	if err := list.page(page, "compute#networkEndpointGroupAggregatedList"); err != nil {
		return 0, err
	}
	n := 0
	for _, pair := range found {
		if pair.Key == "global" {
			continue // names on the internet: no endpoints of a cluster
		}
		var items []endpointGroup
		for _, g := range pair.Value.GetNetworkEndpointGroups() {
			items = append(items, endpointGroup{pair.Key, g.GetName()})
		}
		n += len(items)
		if err := list.add(pair.Key, pair.Value.GetWarning(), items); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// listEndpoints reads a zonal or regional group; only zonal ones can be asked for
// health.
func (p *project) listEndpoints(ctx context.Context, g endpointGroup) ([]networkEndpoint, error) {
	var endpoints []networkEndpoint
	if strings.HasPrefix(g.scope, "zones/") {
		ctx = withBody(ctx, `{"healthStatus":"SHOW"}`)
	}
	err := pages(ctx, p, func(ctx context.Context, token string) (int, string, error) {
		var found []*computepb.NetworkEndpointWithHealthStatus
		var page any
		var next string
		var err error
		if strings.HasPrefix(g.scope, "regions/") {
			it := p.sdk.regionEndpoints.ListNetworkEndpoints(ctx, &computepb.ListNetworkEndpointsRegionNetworkEndpointGroupsRequest{
				Project: p.id, Region: location(g.scope), NetworkEndpointGroup: g.name,
			})
			found, next, err = it.InternalFetch(pageSize, token)
			page = it.Response
		} else {
			it := p.sdk.endpoints.ListNetworkEndpoints(ctx, &computepb.ListNetworkEndpointsNetworkEndpointGroupsRequest{
				Project: p.id, Zone: location(g.scope), NetworkEndpointGroup: g.name,
			})
			found, next, err = it.InternalFetch(pageSize, token)
			page = it.Response
		}
		if err != nil {
			return 0, "", err
		}
		if r, _ := page.(*computepb.NetworkEndpointGroupsListNetworkEndpoints); r.GetKind() != "compute#networkEndpointGroupsListNetworkEndpoints" || partial(r.GetWarning()) {
			return 0, "", fmt.Errorf("%w: it is of kind %q, with the warning %q", errAnswer, r.GetKind(), r.GetWarning().GetCode())
		}
		for _, e := range found {
			endpoints = append(endpoints, newNetworkEndpoint(e))
		}
		return len(found), next, nil
	})
	return endpoints, err
}

func newNetworkEndpoint(e *computepb.NetworkEndpointWithHealthStatus) networkEndpoint {
	n := e.GetNetworkEndpoint()
	v := networkEndpoint{
		zone: zoneOf(n.GetInstance()), address: cmp.Or(n.GetIpAddress(), n.GetIpv6Address()),
		port: n.GetPort(), annotations: n.GetAnnotations(),
	}
	var checked []catalog.Health
	for _, h := range e.GetHealths() {
		checked = append(checked, stateHealth(cmp.Or(h.GetHealthState(), h.GetIpv6HealthState())))
	}
	v.health = cmp.Or(worst(checked), catalog.Unknown)
	return v
}

// endpointGroups maps the groups that the configuration names to services.
func (b *builder) endpointGroups(p *project, groups []Group) {
	for _, g := range p.known.endpointGroups.sorted() {
		for _, c := range groups {
			if !c.selects(p.id, g.scope, g.name) {
				continue
			}
			port := Port{Name: catalog.DefaultPort, Protocol: catalog.TCP}
			if len(c.Ports) > 0 {
				port = namedPorts(c.Ports)[0]
			}
			b.declare(c.Service, []Port{port})
			for _, e := range p.known.endpoints[g.key()].value {
				b.networkEndpoint(p, g, c, e, port)
			}
		}
	}
}

func (b *builder) networkEndpoint(p *project, g endpointGroup, c Group, e networkEndpoint, port Port) {
	address, err := netip.ParseAddr(e.address)
	if err != nil {
		b.reject(badAddress) // a name, or an address that was not assigned yet
		return
	}
	if e.port != 0 {
		port.Port = uint16(min(max(e.port, 0), maxPort))
	}
	if port.Port == 0 || e.port > maxPort || e.port < 0 {
		b.reject(badPort) // a group of whole machines needs one in the configuration
		return
	}
	at := netip.AddrPortFrom(address.Unmap(), port.Port)
	b.add(c.Service, port, catalog.Endpoint{
		ID: p.id + "/" + location(g.scope) + "/" + g.name + "/" + at.String(), Address: at,
		Locality: b.locality(g.scope, e.zone), Health: e.health, Labels: b.labels(e.annotations),
	})
}
