package config

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/discovery/consul/syncout"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// SyncOut writes imported services back into a registry of the own cluster; left
// out, nothing is written anywhere.
type SyncOut struct {
	// Consul registers them in Consul's catalog.
	Consul *syncout.Config `yaml:"consul"`
}

func (s *SyncOut) validate() error {
	var errs []error
	if s.Consul == nil {
		errs = append(errs, strictyaml.Fail("", nil, "must have consul"))
	} else {
		errs = append(errs, strictyaml.Within("consul", s.Consul.Validate()))
	}
	return errors.Join(errs...)
}
