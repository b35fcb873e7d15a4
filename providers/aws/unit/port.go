package unit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// MaxRules bounds each list of a configuration.
const MaxRules = 256

// Port is a port as a configuration names it.
type Port struct {
	// Name of the service's port; "" is catalog.DefaultPort.
	Name string `yaml:"name"`
	// Port is the number.
	Port uint16 `yaml:"port"`
	// Protocol is tcp (default), http, grpc, tls or udp.
	Protocol catalog.Protocol `yaml:"protocol"`
}

// Catalog is the port as the catalog has it.
func (p Port) Catalog() catalog.Port {
	c := catalog.Port{Name: p.Name, Protocol: p.Protocol}
	if c.Name == "" {
		c.Name = catalog.DefaultPort
	}
	if c.Protocol == "" {
		c.Protocol = catalog.TCP
	}
	return c
}

// ValidatePorts reports every problem of a list of ports.
func ValidatePorts(field string, ports []Port) []error {
	var errs []error
	if len(ports) > catalog.MaxPorts {
		return []error{strictyaml.Fail(field, len(ports), fmt.Sprintf("a service has at most %d ports", catalog.MaxPorts))}
	}
	for i, p := range ports {
		at := fmt.Sprintf("%s[%d]", field, i)
		if p.Port == 0 {
			errs = append(errs, strictyaml.Fail(at+".port", nil, "must be 1 to 65535"))
		}
		if !IsLabel(p.Catalog().Name) {
			errs = append(errs, strictyaml.Fail(at+".name", p.Name, "must be a DNS label"))
		}
		if slices.ContainsFunc(ports[:i], func(o Port) bool { return o.Catalog().Name == p.Catalog().Name }) {
			errs = append(errs, strictyaml.Fail(at+".name", p.Catalog().Name, "is the name of two ports"))
		}
		errs = append(errs, ValidateProtocol(at+".protocol", p.Protocol)...)
	}
	return errs
}

// ValidateProtocol reports a protocol that the catalog does not have; "" is a
// default.
func ValidateProtocol(field string, p catalog.Protocol) []error {
	if p == "" || p.Valid() {
		return nil
	}
	return []error{strictyaml.Fail(field, string(p), fmt.Sprintf("must be one of %v", catalog.Protocols()))}
}

// IsLabel reports whether s is a DNS label, as the catalog's names are.
func IsLabel(s string) bool {
	_, err := catalog.NewServiceName(s, "")
	return err == nil
}

// ValidateService reports a name that no service can have; "" is left to the
// caller.
func ValidateService(field, name string) []error {
	if name == "" {
		return nil
	}
	n, err := catalog.NewServiceName(name, "")
	switch {
	case err != nil:
		return []error{strictyaml.Fail(field, name, "must be a DNS label")}
	case n.IsFederation():
		return []error{strictyaml.Fail(field, name, "is reserved for the federation services themselves")}
	}
	return nil
}

// Tags choose resources: each key has one of its values.
type Tags map[string]strictyaml.OneOrMore

// The bounds of AWS: a filter has at most 200 values, a key 128 characters, a value
// 256.
const (
	maxTagValues = 200
	maxTagKey    = 128
	maxTagValue  = 256
)

// ValidateTags reports every problem of tags.
func ValidateTags(field string, tags Tags) []error {
	var errs []error
	for key, values := range tags {
		at := field + "." + key
		switch {
		case key == "" || len(key) > maxTagKey:
			errs = append(errs, strictyaml.Fail(at, key, fmt.Sprintf("a key has 1 to %d characters", maxTagKey)))
		case len(values) == 0 || len(values) > maxTagValues:
			errs = append(errs, strictyaml.Fail(at, len(values), fmt.Sprintf("must have 1 to %d values", maxTagValues)))
		}
		for _, v := range values {
			if len(v) > maxTagValue {
				errs = append(errs, strictyaml.Fail(at, v, fmt.Sprintf("a value has at most %d characters", maxTagValue)))
			} else if strings.ContainsAny(v, "*?") {
				errs = append(errs, strictyaml.Fail(at, v, "wildcards (* and ?) are not used here: they would match more than is written"))
			}
		}
	}
	return errs
}

// Match reports whether what has the tags of t.
func (t Tags) Match(what map[string]string) bool {
	for key, values := range t {
		v, ok := what[key]
		if !ok || !slices.Contains(values, v) {
			return false
		}
	}
	return true
}
