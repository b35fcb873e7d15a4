package gcptest

import "strings"

// World is what the projects hold.
type World map[string]*Project

// Project is one of them.
type Project struct {
	// Zones and Regions exist, with resources or without.
	Zones, Regions []string
	Instances      []Instance
	ManagedGroups  []ManagedGroup
	EndpointGroups []EndpointGroup
	Namespaces     []Namespace
}

// Instance of Compute Engine. Empty fields: RUNNING, no external address.
type Instance struct {
	Zone, Name, IP, ExternalIP, IPv6, Status string
	Labels                                   map[string]string
}

// ManagedGroup is zonal or regional, as its location is.
type ManagedGroup struct {
	Location, Name string
	NamedPorts     map[string]int
	Members        []Member
}

// Member of a managed group; empty fields: RUNNING, NONE, without a health check.
type Member struct {
	Zone, Name, Status, Action string
	Health                     string
}

// EndpointGroup is a network endpoint group, zonal or regional.
type EndpointGroup struct {
	Location, Name string
	Endpoints      []NetworkEndpoint
}

// NetworkEndpoint of a group; Health empty means that nobody checks it.
type NetworkEndpoint struct {
	IP, FQDN, Instance, Health string
	Port                       int
	Annotations                map[string]string
}

// Namespace of Service Directory.
type Namespace struct {
	Location, Name string
	Services       []Service
}

// Service of a namespace.
type Service struct {
	Name        string
	Annotations map[string]string
	Endpoints   []Endpoint
}

// Endpoint of a service.
type Endpoint struct {
	Name, Address string
	Port          int
	Annotations   map[string]string
}

// scope is the key of a location in aggregated lists. Zones end in "-a" to "-z".
func scope(location string) string {
	if i := strings.LastIndexByte(location, '-'); i >= 0 && i == len(location)-2 {
		return "zones/" + location
	}
	return "regions/" + location
}

// object is JSON in the making.
type object = map[string]any

// put sets a field that is not empty.
func put[T comparable](o object, name string, value T) {
	var zero T
	if value != zero {
		o[name] = value
	}
}

const computeURL = "https://www.googleapis.com/compute/v1/projects/"

func (i Instance) json(project string) object {
	self := computeURL + project + "/zones/" + i.Zone + "/instances/" + i.Name
	nic := object{"kind": "compute#networkInterface", "name": "nic0", "network": computeURL + project + "/global/networks/default"}
	put(nic, "networkIP", i.IP)
	put(nic, "ipv6Address", i.IPv6)
	if i.ExternalIP != "" {
		nic["accessConfigs"] = []object{{"kind": "compute#accessConfig", "type": "ONE_TO_ONE_NAT", "natIP": i.ExternalIP}}
	}
	o := object{
		"kind": "compute#instance", "id": "4242", "name": i.Name, "selfLink": self, "status": or(i.Status, "RUNNING"),
		"zone": computeURL + project + "/zones/" + i.Zone, "networkInterfaces": []object{nic},
		"machineType":       computeURL + project + "/zones/" + i.Zone + "/machineTypes/e2-small",
		"creationTimestamp": "2026-01-02T03:04:05.678-08:00",
	}
	if len(i.Labels) > 0 {
		o["labels"] = i.Labels
	}
	return o
}

func (g ManagedGroup) json(project string) object {
	none := 0
	for _, m := range g.Members {
		if or(m.Action, "NONE") == "NONE" {
			none++
		}
	}
	o := object{
		"kind": "compute#instanceGroupManager", "id": "4711", "name": g.Name, "baseInstanceName": g.Name,
		"selfLink":      computeURL + project + "/" + scope(g.Location) + "/instanceGroupManagers/" + g.Name,
		"instanceGroup": computeURL + project + "/" + scope(g.Location) + "/instanceGroups/" + g.Name,
		"targetSize":    len(g.Members), "currentActions": object{"none": none},
	}
	field, _, _ := strings.Cut(scope(g.Location), "s/")
	o[field] = computeURL + project + "/" + scope(g.Location)
	var ports []object
	for name, port := range g.NamedPorts {
		ports = append(ports, object{"name": name, "port": port})
	}
	if ports != nil {
		o["namedPorts"] = ports
	}
	return o
}

func (m Member) json(project string) object {
	o := object{
		"instance": computeURL + project + "/zones/" + m.Zone + "/instances/" + m.Name, "name": m.Name, "id": "4242",
		"instanceStatus": or(m.Status, "RUNNING"), "currentAction": or(m.Action, "NONE"),
		"version": object{"instanceTemplate": computeURL + project + "/global/instanceTemplates/t"},
	}
	if m.Health != "" {
		o["instanceHealth"] = []object{{"healthCheck": computeURL + project + "/global/healthChecks/h", "detailedHealthState": m.Health}}
	}
	return o
}

func (g EndpointGroup) json(project string) object {
	field, _, _ := strings.Cut(scope(g.Location), "s/")
	return object{
		"kind": "compute#networkEndpointGroup", "id": "4712", "name": g.Name, "size": len(g.Endpoints),
		"selfLink": computeURL + project + "/" + scope(g.Location) + "/networkEndpointGroups/" + g.Name,
		field:      computeURL + project + "/" + scope(g.Location), "networkEndpointType": "GCE_VM_IP_PORT",
	}
}

func (e NetworkEndpoint) json(project string, health bool) object {
	n := object{}
	put(n, "ipAddress", e.IP)
	put(n, "fqdn", e.FQDN)
	put(n, "port", e.Port)
	put(n, "instance", e.Instance)
	if len(e.Annotations) > 0 {
		n["annotations"] = e.Annotations
	}
	o := object{"networkEndpoint": n}
	if e.Health != "" && health {
		o["healths"] = []object{{
			"healthState": e.Health, "backendService": object{"backendService": computeURL + project + "/global/backendServices/b"},
		}}
	}
	return o
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
