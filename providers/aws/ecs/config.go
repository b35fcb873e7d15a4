package ecs

import (
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Cluster is one cluster to read.
type Cluster struct {
	// Cluster is the cluster's name or ARN; it must exist.
	Cluster string `yaml:"cluster"`
	// Services to read; none means every service of the cluster.
	Services []Service `yaml:"services"`
}

// Service is one ECS service, and what becomes of it.
type Service struct {
	// Name of the ECS service.
	Name string `yaml:"name"`
	// Service is the catalog's name; default Name.
	Service string `yaml:"service"`
	// Ports; default the port mappings of the task definition.
	Ports []unit.Port `yaml:"ports"`
}

// Clusters of one account.
type Clusters []Cluster

// maxName is AWS's bound of a service's name.
const maxName = 255

// Validate reports every problem.
func (cs Clusters) Validate() []error {
	var errs []error
	if len(cs) > unit.MaxRules {
		return []error{strictyaml.Fail("", len(cs), fmt.Sprintf("at most %d clusters", unit.MaxRules))}
	}
	for i, c := range cs {
		at := fmt.Sprintf("[%d]", i)
		if c.Cluster == "" {
			errs = append(errs, strictyaml.Fail(at+".cluster", nil, "is missing"))
		}
		if slices.ContainsFunc(cs[:i], func(o Cluster) bool { return o.Cluster == c.Cluster }) {
			errs = append(errs, strictyaml.Fail(at+".cluster", c.Cluster, "is listed twice"))
		}
		if len(c.Services) > unit.MaxRules {
			errs = append(errs, strictyaml.Fail(at+".services", len(c.Services), fmt.Sprintf("at most %d", unit.MaxRules)))
			continue
		}
		for j, s := range c.Services {
			field := fmt.Sprintf("%s.services[%d]", at, j)
			if s.Name == "" || len(s.Name) > maxName {
				errs = append(errs, strictyaml.Fail(field+".name", s.Name, fmt.Sprintf("must have 1 to %d characters", maxName)))
			}
			if slices.ContainsFunc(c.Services[:j], func(o Service) bool { return o.Name == s.Name }) {
				errs = append(errs, strictyaml.Fail(field+".name", s.Name, "is listed twice"))
			}
			errs = append(errs, unit.ValidateService(field+".service", s.Service)...)
			errs = append(errs, unit.ValidatePorts(field+".ports", s.Ports)...)
		}
	}
	return errs
}

// service is the entry for an ECS service; false where it is not to be read.
func (c Cluster) service(name string) (Service, bool) {
	if len(c.Services) == 0 {
		return Service{Name: name, Service: name}, true
	}
	for _, s := range c.Services {
		if s.Name == name {
			if s.Service == "" {
				s.Service = s.Name
			}
			return s, true
		}
	}
	return Service{}, false
}
