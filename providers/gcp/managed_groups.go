package gcp

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	compute "cloud.google.com/go/compute/apiv1"
	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// managedGroup is what is kept of a managed instance group.
type managedGroup struct {
	scope, name string
	ports       map[string]uint16 // named ports
	// quiet counts the members that the group is doing nothing with.
	quiet int32
}

func (g managedGroup) key() string { return g.scope + "/" + g.name }

// member is one instance of a group.
type member struct {
	zone, name string
	health     catalog.Health
}

func (p *project) listManagedGroups(ctx context.Context) (*scopes[managedGroup], error) {
	list := newScopes[managedGroup]()
	err := pages(ctx, p, func(ctx context.Context, token string) (int, string, error) {
		it := p.sdk.groups.AggregatedList(ctx, &computepb.AggregatedListInstanceGroupManagersRequest{Project: p.id})
		found, next, err := it.InternalFetch(pageSize, token)
		if err != nil {
			return 0, "", err
		}
		page, _ := it.Response.(*computepb.InstanceGroupManagerAggregatedList)
		n, err := managedGroupsPage(list, page, found)
		return n, next, err
	})
	return list, err
}

func managedGroupsPage(list *scopes[managedGroup], page *computepb.InstanceGroupManagerAggregatedList, found []compute.InstanceGroupManagersScopedListPair) (int, error) {
	if err := list.page(page, "compute#instanceGroupManagerAggregatedList"); err != nil {
		return 0, err
	}
	n := 0
	for _, pair := range found {
		var items []managedGroup
		for _, g := range pair.Value.GetInstanceGroupManagers() {
			ports := map[string]uint16{}
			for _, np := range g.GetNamedPorts() {
				if v := np.GetPort(); v > 0 && v <= maxPort {
					ports[np.GetName()] = uint16(v)
				}
			}
			items = append(items, managedGroup{pair.Key, g.GetName(), ports, g.GetCurrentActions().GetNone()})
		}
		n += len(items)
		if err := list.add(pair.Key, pair.Value.GetWarning(), items); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// listMembers reads the members of a zonal or regional group.
func (p *project) listMembers(ctx context.Context, g managedGroup) ([]member, error) {
	var members []member
	err := pages(ctx, p, func(ctx context.Context, token string) (int, string, error) {
		var found []*computepb.ManagedInstance
		var next string
		var err error
		if strings.HasPrefix(g.scope, "regions/") {
			it := p.sdk.regionGroups.ListManagedInstances(ctx, &computepb.ListManagedInstancesRegionInstanceGroupManagersRequest{
				Project: p.id, Region: location(g.scope), InstanceGroupManager: g.name,
			})
			found, next, err = it.InternalFetch(pageSize, token)
		} else {
			it := p.sdk.groups.ListManagedInstances(ctx, &computepb.ListManagedInstancesInstanceGroupManagersRequest{
				Project: p.id, Zone: location(g.scope), InstanceGroupManager: g.name,
			})
			found, next, err = it.InternalFetch(pageSize, token)
		}
		for _, m := range found {
			members = append(members, member{zoneOf(m.GetInstance()), lastPart(m.GetInstance()), memberHealth(m)})
		}
		return len(found), next, err
	})
	if err == nil && len(members) == 0 && g.quiet > 0 {
		// The list has no kind that would tell it from a proxy's "{}".
		err = fmt.Errorf("%w: it has no member, and the group says that it has %d", errAnswer, g.quiet)
	}
	return members, err
}

// memberHealth is what the group does with the member, else what its health
// check says, else the instance's status.
func memberHealth(m *computepb.ManagedInstance) catalog.Health {
	switch m.GetCurrentAction() {
	case "CREATING", "CREATING_WITHOUT_RETRIES", "RECREATING", "RESTARTING", "STARTING", "RESUMING":
		return catalog.Critical // not there yet
	case "ABANDONING", "DELETING", "STOPPING", "SUSPENDING":
		return catalog.Maintenance
	}
	health := statusHealth(m.GetInstanceStatus())
	if !health.Usable() {
		return health
	}
	var checked []catalog.Health
	for _, h := range m.GetInstanceHealth() {
		checked = append(checked, stateHealth(h.GetDetailedHealthState()))
	}
	return cmp.Or(worst(checked), health)
}

// stateHealth is the state of a health check of Google's.
func stateHealth(state string) catalog.Health {
	switch state {
	case "HEALTHY":
		return catalog.Passing
	case "UNHEALTHY", "TIMEOUT":
		return catalog.Critical
	case "DRAINING":
		return catalog.Maintenance
	}
	return catalog.Unknown
}

// worst of several checks, "" of none.
func worst(all []catalog.Health) catalog.Health {
	order := map[catalog.Health]int{}
	for i, h := range catalog.Healths() {
		order[h] = i
	}
	var out catalog.Health
	for _, h := range all {
		if out == "" || order[h] > order[out] {
			out = h
		}
	}
	return out
}

// managedGroups maps the groups that the configuration names to services.
func (b *builder) managedGroups(p *project, groups []Group) {
	machines := map[[2]string]vm{}
	for _, v := range p.known.instances.sorted() {
		machines[[2]string{v.zone, v.name}] = v
	}
	for _, g := range p.known.managedGroups.sorted() {
		for _, c := range groups {
			if !c.selects(p.id, g.scope, g.name) {
				continue
			}
			ports, ok := g.numbered(c.Ports)
			if !ok {
				b.reject(badPort)
				continue
			}
			b.declare(c.Service, ports)
			for _, m := range p.known.members[g.key()].value {
				if v, there := machines[[2]string{m.zone, m.name}]; there { // else it is being made, or was deleted meanwhile
					b.vm(p, c.Service, v, ports, m.health)
				}
			}
		}
	}
}

// numbered gives ports without a number that of the group's named port.
func (g managedGroup) numbered(ports []Port) ([]Port, bool) {
	out := namedPorts(ports)
	for i := range out {
		out[i].Port = cmp.Or(out[i].Port, g.ports[out[i].Name])
		if out[i].Port == 0 {
			return nil, false
		}
	}
	return out, true
}
