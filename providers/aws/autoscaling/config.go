package autoscaling

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Rule makes the instances of groups endpoints of a service.
type Rule struct {
	// Service is the service's name, or ServiceTag the group's tag whose value is;
	// without both it is the group's name.
	Service    string `yaml:"service"`
	ServiceTag string `yaml:"service_tag"`
	// Groups by name; or Tags that the groups have. One that is named must exist.
	Groups []string  `yaml:"groups"`
	Tags   unit.Tags `yaml:"tags"`
	// Ports of each instance.
	Ports []unit.Port `yaml:"ports"`
}

// Rules of one account.
type Rules []Rule

// maxName is AWS's bound of a group's name.
const maxName = 255

// Validate reports every problem.
func (rs Rules) Validate() []error {
	var errs []error
	if len(rs) > unit.MaxRules {
		return []error{strictyaml.Fail("", len(rs), fmt.Sprintf("at most %d rules", unit.MaxRules))}
	}
	for i, r := range rs {
		at := fmt.Sprintf("[%d]", i)
		if r.Service != "" && r.ServiceTag != "" {
			errs = append(errs, strictyaml.Fail(at, nil, "must have at most one of service and service_tag"))
		}
		errs = append(errs, unit.ValidateService(at+".service", r.Service)...)
		if (len(r.Groups) == 0) == (len(r.Tags) == 0) {
			errs = append(errs, strictyaml.Fail(at, nil, "must have exactly one of groups and tags"))
		}
		if len(r.Groups) > unit.MaxRules {
			errs = append(errs, strictyaml.Fail(at+".groups", len(r.Groups), fmt.Sprintf("at most %d", unit.MaxRules)))
		}
		for j, g := range r.Groups {
			if g == "" || len(g) > maxName {
				errs = append(errs, strictyaml.Fail(fmt.Sprintf("%s.groups[%d]", at, j), g, fmt.Sprintf("must have 1 to %d characters", maxName)))
			}
		}
		errs = append(errs, unit.ValidateTags(at+".tags", r.Tags)...)
		if len(r.Ports) == 0 {
			errs = append(errs, strictyaml.Fail(at+".ports", nil, "must name at least one port"))
		}
		errs = append(errs, unit.ValidatePorts(at+".ports", r.Ports)...)
	}
	return errs
}
