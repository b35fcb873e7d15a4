package gcp

import (
	"cmp"
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// validation gathers what is wrong with a Config.
type validation struct {
	errs     []error
	projects map[string]bool
	// protocols are what the ports of each service speak, as first said.
	protocols map[string]catalog.Protocol
}

func (v *validation) fail(field string, value any, rule string) {
	v.errs = append(v.errs, strictyaml.Fail(field, value, rule))
}

func within[T cmp.Ordered](v *validation, field string, value, low, high T) {
	if value < low || value > high {
		v.fail(field, fmt.Sprint(value), fmt.Sprintf("must be between %v and %v", low, high))
	}
}

func (v *validation) list(field string, n, low, high int) {
	switch {
	case n < low:
		v.fail(field, nil, "is missing")
	case n > high:
		v.fail(field, n, fmt.Sprintf("has more than %d entries", high))
	}
}

func (v *validation) label(field, key string) {
	if !labelKey.MatchString(key) {
		v.fail(field, key, "must be a label's key: at most 63 lower-case letters, digits, \"_\" and \"-\", a letter first")
	}
}

func (v *validation) instances(i Instances) {
	v.label("instances.service_label", i.ServiceLabel)
	v.label("instances.namespace_label", i.NamespaceLabel)
	v.label("instances.port_label", i.PortLabel)
	v.label("instances.protocol_label", i.ProtocolLabel)
	if _, err := catalog.NewServiceName("x", i.Namespace); err != nil {
		v.fail("instances.namespace", i.Namespace, "must be a DNS label")
	}
	v.ports("instances", "", i.Ports, 0, catalog.MaxPorts, true)
}

func (v *validation) groups(field string, groups []Group, least, most int) {
	v.list(field, len(groups), 0, maxEntries)
	for i, g := range groups {
		at := fmt.Sprintf("%s[%d]", field, i)
		if !resourceName.MatchString(g.Name) {
			v.fail(at+".name", g.Name, "must be a resource's name: at most 63 of a-z, 0-9 and inner \"-\", a letter first")
		}
		if g.Service.IsZero() {
			v.fail(at+".service", nil, "is missing")
		} else if g.Service.IsFederation() {
			v.fail(at+".service", g.Service.String(), "federation.* is reserved")
		}
		v.narrow(at, g.Projects, g.Locations)
		v.ports(at, g.Service.String(), g.Ports, least, most, false)
	}
}

// ports checks a list of ports; numbered ones must all have a number.
func (v *validation) ports(at, service string, ports []Port, least, most int, numbered bool) {
	if len(ports) < least || len(ports) > most {
		v.fail(at+".ports", len(ports), fmt.Sprintf("must be %d to %d", least, most))
		return
	}
	seen := map[string]bool{}
	for i, p := range ports {
		field := fmt.Sprintf("%s.ports[%d]", at, i)
		if _, err := catalog.ParseClusterName(p.Name); err != nil { // the same rule: a DNS label
			v.fail(field+".name", p.Name, "must be a DNS label")
		}
		if seen[p.Name] {
			v.fail(field+".name", p.Name, "is the name of two ports")
		}
		seen[p.Name] = true
		v.protocol(field+".protocol", p.Protocol)
		if numbered && p.Port == 0 {
			v.fail(field+".port", nil, "is missing")
		}
		if service == "" {
			continue
		}
		key := service + " " + p.Name
		if first, known := v.protocols[key]; known && first != p.Protocol {
			v.fail(field+".protocol", string(p.Protocol), fmt.Sprintf("port %s of service %s has the protocol %s above", p.Name, service, first))
			continue
		}
		v.protocols[key] = p.Protocol
	}
}

func (v *validation) protocol(field string, p catalog.Protocol) {
	if !p.Valid() {
		v.fail(field, string(p), fmt.Sprintf("must be one of %v", catalog.Protocols()))
	}
}

func (v *validation) narrow(at string, projects, locations []string) {
	for i, p := range projects {
		if !v.projects[p] {
			v.fail(fmt.Sprintf("%s.projects[%d]", at, i), p, "is not one of projects")
		}
	}
	v.list(at+".locations", len(locations), 0, maxNames)
	for i, l := range locations {
		if !resourceName.MatchString(l) {
			v.fail(fmt.Sprintf("%s.locations[%d]", at, i), l, "must be a zone or a region")
		}
	}
}

func (v *validation) directories(all []Directory) {
	v.list("service_directory", len(all), 0, maxEntries)
	for i, d := range all {
		at := fmt.Sprintf("service_directory[%d]", i)
		v.list(at+".locations", len(d.Locations), 1, maxNames)
		v.narrow(at, d.Projects, d.Locations)
		if d.Namespace != "" && !resourceName.MatchString(d.Namespace) {
			v.fail(at+".namespace", d.Namespace, "must be a namespace's name: at most 63 of a-z, 0-9 and inner \"-\", a letter first")
		}
		if d.As != "" {
			if _, err := catalog.NewServiceName("x", d.As); err != nil {
				v.fail(at+".as", d.As, "must be a DNS label")
			}
		}
		v.protocol(at+".protocol", d.Protocol)
	}
}
