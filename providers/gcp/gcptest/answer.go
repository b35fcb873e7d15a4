package gcptest

import (
	"fmt"
	"net/url"
	"sort"
	"strconv"
	"strings"
)

// answer makes the answer to a method; false is 404.
func (s *Server) answer(method, project string, path map[string]string, query url.Values) (object, bool) {
	p, ok := s.world[project]
	if !ok {
		return nil, false
	}
	at := path["zone"] + path["region"] + path["locationsId"]
	switch method {
	case "compute.instances.aggregatedList":
		return s.aggregated(p, query, "instance", "instances", p.instances(project, query.Get("filter"))), true
	case "compute.instanceGroupManagers.aggregatedList":
		var items []item
		for _, g := range p.ManagedGroups {
			items = append(items, item{scope(g.Location), g.json(project)})
		}
		return s.aggregated(p, query, "instanceGroupManager", "instanceGroupManagers", items), true
	case "compute.networkEndpointGroups.aggregatedList":
		var items []item
		for _, g := range p.EndpointGroups {
			items = append(items, item{scope(g.Location), g.json(project)})
		}
		return s.aggregated(p, query, "networkEndpointGroup", "networkEndpointGroups", items), true
	case "compute.instanceGroupManagers.listManagedInstances", "compute.regionInstanceGroupManagers.listManagedInstances":
		for _, g := range p.ManagedGroups {
			if g.Location == at && g.Name == path["instanceGroupManager"] {
				return paged(s, query, object{}, "managedInstances", g.Members, func(m Member) object { return m.json(project) }), true
			}
		}
	case "compute.networkEndpointGroups.listNetworkEndpoints", "compute.regionNetworkEndpointGroups.listNetworkEndpoints":
		for _, g := range p.EndpointGroups {
			if g.Location == at && g.Name == path["networkEndpointGroup"] {
				zonal := strings.HasPrefix(scope(at), "zones/")
				head := object{"kind": "compute#networkEndpointGroupsListNetworkEndpoints", "id": "x"}
				return paged(s, query, head, "items", g.Endpoints, func(e NetworkEndpoint) object { return e.json(project, zonal) }), true
			}
		}
	case "compute.autoscalers.list", "compute.regionAutoscalers.list":
		return object{}, true // gcloud asks; there are none here
	case "compute.instanceGroups.list", "compute.regionInstanceGroups.list": // gcloud counts members by it
		var here []ManagedGroup
		for _, g := range p.ManagedGroups {
			if g.Location == at {
				here = append(here, g)
			}
		}
		return paged(s, query, object{}, "items", here, func(g ManagedGroup) object {
			self := computeURL + project + "/" + scope(at) + "/instanceGroups/" + g.Name
			return object{"kind": "compute#instanceGroup", "id": "4713", "name": g.Name, "size": len(g.Members), "selfLink": self}
		}), true
	default:
		return s.single(method, project, p, at, path, query)
	}
	return nil, false
}

// single answers Service Directory, and what other clients ask for.
func (s *Server) single(method, project string, p *Project, at string, path map[string]string, query url.Values) (object, bool) {
	parent := "projects/" + project + "/locations/" + at + "/namespaces/"
	const prefix = "servicedirectory.projects.locations.namespaces."
	switch method {
	case prefix + "list":
		var here []Namespace
		for _, n := range p.Namespaces {
			if n.Location == at {
				here = append(here, n)
			}
		}
		return paged(s, query, object{}, "namespaces", here, func(n Namespace) object { return object{"name": parent + n.Name} }), true
	case prefix + "services.list":
		if n, ok := p.namespace(at, path["namespacesId"]); ok {
			return paged(s, query, object{}, "services", n.Services, func(v Service) object {
				o := object{"name": parent + n.Name + "/services/" + v.Name}
				if len(v.Annotations) > 0 {
					o["annotations"] = v.Annotations
				}
				return o
			}), true
		}
	case prefix + "services.endpoints.list":
		n, _ := p.namespace(at, path["namespacesId"])
		for _, v := range n.Services {
			if v.Name != path["servicesId"] {
				continue
			}
			return paged(s, query, object{}, "endpoints", v.Endpoints, func(e Endpoint) object {
				o := object{"name": parent + n.Name + "/services/" + v.Name + "/endpoints/" + e.Name}
				put(o, "address", e.Address)
				put(o, "port", e.Port)
				if len(e.Annotations) > 0 {
					o["annotations"] = e.Annotations
				}
				return o
			}), true
		}
	default:
		s.Report(fmt.Errorf("%s is asked for, and not played here", method))
	}
	return nil, false
}

func (p *Project) namespace(location, name string) (Namespace, bool) {
	for _, n := range p.Namespaces {
		if n.Location == location && n.Name == name {
			return n, true
		}
	}
	return Namespace{}, false
}

// instances are those that the one known filter leaves: labels.KEY:*.
func (p *Project) instances(project, filter string) []item {
	key := strings.TrimSuffix(strings.TrimPrefix(filter, "labels."), ":*")
	var items []item
	for _, i := range p.Instances {
		if _, has := i.Labels[key]; filter == "" || has {
			items = append(items, item{scope(i.Zone), i.json(project)})
		}
	}
	return items
}

// item is one resource of an aggregated list.
type item struct {
	scope string
	json  object
}

// aggregated makes one page of an aggregated list. As in the real ones, a scope
// without anything is there, with a warning that says so.
func (s *Server) aggregated(p *Project, query url.Values, kind, field string, all []item) object {
	sort.SliceStable(all, func(i, j int) bool { return all[i].scope < all[j].scope })
	from, to, next := s.window(query, len(all))
	items := object{}
	if from == 0 {
		for _, location := range append(append([]string{}, p.Zones...), p.Regions...) {
			items[scope(location)] = object{"warning": object{
				"code": "NO_RESULTS_ON_PAGE", "message": "There are no results for scope '" + scope(location) + "' on this page.",
				"data": []object{{"key": "scope", "value": scope(location)}},
			}}
		}
	}
	for _, i := range all[from:to] {
		if s.unreachable[i.scope] {
			continue
		}
		here, _ := items[i.scope].(object)
		list, _ := here[field].([]object)
		items[i.scope] = object{field: append(list, i.json)}
	}
	out := object{"kind": "compute#" + kind + "AggregatedList", "id": "projects/x/aggregated/" + field, "items": items}
	put(out, "nextPageToken", next)
	var lost []string
	for name := range s.unreachable {
		if !s.loud {
			items[name] = object{"warning": object{"code": "UNREACHABLE", "message": "The scope could not be reached."}}
			continue
		}
		delete(items, name)
		lost = append(lost, name)
	}
	if lost != nil {
		out["unreachables"] = lost
	}
	return out
}

// window is the page that a query asks for.
func (s *Server) window(query url.Values, n int) (from, to int, next string) {
	size := s.page
	for _, name := range []string{"maxResults", "pageSize"} {
		if v, err := strconv.Atoi(query.Get(name)); err == nil && v > 0 {
			size = min(size, v)
		}
	}
	from, _ = strconv.Atoi(strings.TrimPrefix(query.Get("pageToken"), "from-"))
	from = min(from, n)
	if to = min(from+size, n); to < n {
		next = "from-" + strconv.Itoa(to)
	}
	return from, to, next
}

// paged makes one page of a plain list.
func paged[T any](s *Server, query url.Values, head object, field string, all []T, write func(T) object) object {
	from, to, next := s.window(query, len(all))
	var items []object
	for _, v := range all[from:to] {
		items = append(items, write(v))
	}
	if items != nil {
		head[field] = items
	}
	put(head, "nextPageToken", next)
	return head
}
