package cloudmap

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Namespace is one namespace to read.
type Namespace struct {
	// Namespace is the namespace's HTTP name; for one with DNS it is the domain.
	// It must exist.
	Namespace string `yaml:"namespace"`
	// Services to read; none means every service, which then are listed.
	Services []string `yaml:"services"`
	// Protocol of instances that say nothing themselves, by the attribute
	// isthmus-protocol; default tcp.
	Protocol catalog.Protocol `yaml:"protocol"`
}

// Namespaces of one account.
type Namespaces []Namespace

// maxName is AWS's bound of a namespace's name.
const maxName = 1024

// Validate reports every problem.
func (ns Namespaces) Validate() []error {
	var errs []error
	if len(ns) > unit.MaxRules {
		return []error{strictyaml.Fail("", len(ns), fmt.Sprintf("at most %d namespaces", unit.MaxRules))}
	}
	for i, n := range ns {
		at := fmt.Sprintf("[%d]", i)
		if n.Namespace == "" || len(n.Namespace) > maxName {
			errs = append(errs, strictyaml.Fail(at+".namespace", n.Namespace, fmt.Sprintf("must have 1 to %d characters", maxName)))
		}
		if slices.ContainsFunc(ns[:i], func(o Namespace) bool { return o.Namespace == n.Namespace }) {
			errs = append(errs, strictyaml.Fail(at+".namespace", n.Namespace, "is listed twice"))
		}
		if len(n.Services) > unit.MaxRules {
			errs = append(errs, strictyaml.Fail(at+".services", len(n.Services), fmt.Sprintf("at most %d", unit.MaxRules)))
			continue
		}
		for j, s := range n.Services {
			field := fmt.Sprintf("%s.services[%d]", at, j)
			if s == "" {
				errs = append(errs, strictyaml.Fail(field, s, "is empty"))
			}
			errs = append(errs, unit.ValidateService(field, s)...)
			if slices.Contains(n.Services[:j], s) {
				errs = append(errs, strictyaml.Fail(field, s, "is listed twice"))
			}
		}
		errs = append(errs, unit.ValidateProtocol(at+".protocol", n.Protocol)...)
	}
	return errs
}
