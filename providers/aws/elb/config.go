package elb

import (
	"fmt"
	"regexp"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Rule makes the targets of one target group endpoints of a service.
type Rule struct {
	// Name is the target group's, in each region of the account; it must exist.
	Name string `yaml:"name"`
	// Service is the service's name; default Name.
	Service string `yaml:"service"`
	// Port is the name of the service's port; default "default". Two target groups
	// can be two ports of one service.
	Port string `yaml:"port"`
	// Protocol; default what the target group says.
	Protocol catalog.Protocol `yaml:"protocol"`
}

// Rules of one account.
type Rules []Rule

var nameForm = regexp.MustCompile(`^[A-Za-z0-9](-?[A-Za-z0-9]){0,31}$`)

// Validate reports every problem.
func (rs Rules) Validate() []error {
	var errs []error
	if len(rs) > unit.MaxRules {
		return []error{strictyaml.Fail("", len(rs), fmt.Sprintf("at most %d target groups", unit.MaxRules))}
	}
	for i, r := range rs {
		at := fmt.Sprintf("[%d]", i)
		if !nameForm.MatchString(r.Name) || len(r.Name) > 32 {
			errs = append(errs, strictyaml.Fail(at+".name", r.Name, "must be a target group's name: 1 to 32 letters, digits and inner -"))
		} else if r.Service == "" && !unit.IsLabel(r.Name) {
			errs = append(errs, strictyaml.Fail(at+".service", nil, fmt.Sprintf("is needed: the name %q is no DNS label", r.Name)))
		}
		errs = append(errs, unit.ValidateService(at+".service", r.Service)...)
		if r.Port != "" && !unit.IsLabel(r.Port) {
			errs = append(errs, strictyaml.Fail(at+".port", r.Port, "must be a DNS label"))
		}
		errs = append(errs, unit.ValidateProtocol(at+".protocol", r.Protocol)...)
	}
	return errs
}
