package gcp

import (
	"context"
	"strconv"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// vm is what is kept of an instance.
type vm struct {
	zone, name, status string
	address            string
	labels             map[string]string
}

// listInstances reads the instances of a project by zone; filter "" is all.
func (p *project) listInstances(ctx context.Context, filter string, address AddressKind) (*scopes[vm], error) {
	list := newScopes[vm]()
	err := pages(ctx, p, func(ctx context.Context, token string) (int, string, error) {
		req := &computepb.AggregatedListInstancesRequest{Project: p.id}
		if filter != "" {
			req.Filter = &filter
		}
		it := p.sdk.instances.AggregatedList(ctx, req)
		found, next, err := it.InternalFetch(pageSize, token)
		if err != nil {
			return 0, "", err
		}
		page, _ := it.Response.(*computepb.InstanceAggregatedList)
		n, err := instancesPage(list, page, found, address)
		return n, next, err
	})
	return list, err
}

func instancesPage(list *scopes[vm], page *computepb.InstanceAggregatedList, found []compute.InstancesScopedListPair, address AddressKind) (int, error) {
	if err := list.page(page, "compute#instanceAggregatedList"); err != nil {
		return 0, err
	}
	n := 0
	for _, pair := range found {
		items := make([]vm, 0, len(pair.Value.GetInstances()))
		for _, i := range pair.Value.GetInstances() {
			items = append(items, newVM(location(pair.Key), i, address))
		}
		n += len(items)
		if err := list.add(pair.Key, pair.Value.GetWarning(), items); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func newVM(zone string, i *computepb.Instance, address AddressKind) vm {
	v := vm{zone: zone, name: i.GetName(), status: i.GetStatus(), labels: i.GetLabels()}
	if nics := i.GetNetworkInterfaces(); len(nics) > 0 {
		switch address {
		case External:
			if access := nics[0].GetAccessConfigs(); len(access) > 0 {
				v.address = access[0].GetNatIP()
			}
		case IPv6:
			v.address = nics[0].GetIpv6Address()
		default:
			v.address = nics[0].GetNetworkIP()
		}
	}
	return v
}

// statusHealth is what an instance's status says of its workload: nothing while
// it runs, as nothing is checked; otherwise whether it comes or goes.
func statusHealth(status string) catalog.Health {
	switch status {
	case "RUNNING":
		return catalog.Unknown
	case "PENDING", "PROVISIONING", "STAGING", "REPAIRING":
		return catalog.Critical
	}
	return catalog.Maintenance // stopping, suspending, or it has
}

// instances maps the labels of instances to services.
func (b *builder) instances(p *project, c Instances) {
	for _, v := range p.known.instances.sorted() {
		service, ok := v.labels[c.ServiceLabel]
		if !ok {
			continue // listed for a managed group's sake
		}
		namespace := c.Namespace
		if n, ok := v.labels[c.NamespaceLabel]; ok {
			namespace = n
		}
		name, err := catalog.NewServiceName(service, namespace)
		if err != nil || name.IsFederation() {
			b.reject(badName)
			continue
		}
		ports, ok := labelPorts(v.labels, c)
		if !ok {
			b.reject(badPort)
			continue
		}
		b.vm(p, name, v, ports, statusHealth(v.status))
	}
}

// labelPorts are the ports of an instance: the one that its label says, else the
// configuration's; what its label says of the protocol holds for either.
func labelPorts(labels map[string]string, c Instances) ([]Port, bool) {
	ports := namedPorts(c.Ports)
	if text, ok := labels[c.PortLabel]; ok {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return nil, false
		}
		ports = []Port{{Name: catalog.DefaultPort, Port: uint16(n), Protocol: catalog.TCP}}
		if len(c.Ports) == 1 {
			ports[0].Name, ports[0].Protocol = c.Ports[0].Name, c.Ports[0].Protocol
		}
	}
	if said := catalog.Protocol(labels[c.ProtocolLabel]); said.Valid() {
		for i := range ports {
			ports[i].Protocol = said
		}
	}
	return ports, len(ports) > 0
}
