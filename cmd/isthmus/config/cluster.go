package config

import (
	"cmp"
	"errors"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/providers/metadata"
)

func (c Cluster) validate() error {
	var errs []error
	where := c.Locality()
	switch c.Auto {
	case "":
		if c.Metadata != "" {
			errs = append(errs, strictyaml.Fail("metadata", c.Metadata, "is for locality: auto"))
		}
	case AutoLocality:
		// What is missing is filled at the start: these stand for it.
		c.Locate(catalog.Locality{Cloud: cmp.Or(c.Cloud, "x"), Region: cmp.Or(c.Region, "x"), Zone: cmp.Or(c.Zone, "x")})
		where = c.Locality()
		if c.Metadata == "" {
			break
		}
		if err := metadata.CheckEndpoint(c.Metadata); err != nil {
			errs = append(errs, strictyaml.Fail("metadata", c.Metadata, err.Error()))
		}
	default:
		errs = append(errs, strictyaml.Fail("locality", c.Auto, "must be auto, or be left out where cloud, region and zone say it"))
	}
	if err := where.Validate(); err != nil {
		errs = append(errs, strictyaml.Fail("", c.Locality().String(), err.Error()))
	}
	errs = append(errs, policy.CheckClusterLabels(c.Labels))
	return errors.Join(errs...)
}
