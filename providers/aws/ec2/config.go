package ec2

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Rule makes the instances with some tags endpoints of a service.
type Rule struct {
	// Service is the service's name, or ServiceTag the tag whose value is.
	Service    string `yaml:"service"`
	ServiceTag string `yaml:"service_tag"`
	// Tags choose the instances.
	Tags unit.Tags `yaml:"tags"`
	// Ports of each instance.
	Ports []unit.Port `yaml:"ports"`
}

// Rules of one account.
type Rules []Rule

// Validate reports every problem.
func (rs Rules) Validate() []error {
	var errs []error
	if len(rs) > unit.MaxRules {
		return []error{strictyaml.Fail("", len(rs), fmt.Sprintf("at most %d rules", unit.MaxRules))}
	}
	for i, r := range rs {
		at := fmt.Sprintf("[%d]", i)
		if (r.Service == "") == (r.ServiceTag == "") {
			errs = append(errs, strictyaml.Fail(at, nil, "must have exactly one of service and service_tag"))
		}
		errs = append(errs, unit.ValidateService(at+".service", r.Service)...)
		if len(r.Tags) == 0 && r.ServiceTag == "" {
			errs = append(errs, strictyaml.Fail(at+".tags", nil, "must choose by at least one tag; every instance is no service"))
		}
		errs = append(errs, unit.ValidateTags(at+".tags", r.Tags)...)
		if len(r.Ports) == 0 {
			errs = append(errs, strictyaml.Fail(at+".ports", nil, "must name at least one port"))
		}
		errs = append(errs, unit.ValidatePorts(at+".ports", r.Ports)...)
	}
	return errs
}
