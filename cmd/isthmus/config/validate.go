package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// Load reads and checks the file. The error is strictyaml.Problems when the
// file could be read at all: every problem, with its place.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse is Load of what a file holds.
func Parse(path string, data []byte) (*Config, error) {
	c := Default()
	err := environment.DecodeValid(path, data, &c, func() error {
		c.fill()
		return c.Validate()
	})
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// Validate reports every problem; fill has run.
func (c *Config) Validate() error {
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if _, err := catalog.ParseClusterName(c.Cluster.Name); err != nil {
		fail("cluster.name", c.Cluster.Name, "must be a DNS label, unique in the federation")
	}
	errs = append(errs, strictyaml.Within("cluster", c.Cluster.validate()))
	if c.DataDir == "" {
		fail("data_dir", "", "must name a folder")
	}
	errs = append(errs, strictyaml.Within("identity", c.Identity.validate()), strictyaml.Within("log", c.Log.validate()))
	if c.Federation == nil && c.Gateway == nil {
		fail("", nil, "needs a federation section, a gateway section or both: they say what this process does")
	}
	if f := c.Federation; f != nil {
		errs = append(errs, strictyaml.Within("federation", f.Validate()))
		names := map[string]int{}
		for i, s := range f.Sources {
			at := fmt.Sprintf("federation.sources[%d]", i)
			errs = append(errs, strictyaml.Within(at, s.validate()))
			for _, name := range s.Names() {
				if first, twice := names[name]; twice && first != i {
					fail(at+".name", name, fmt.Sprintf("is the name of sources[%d] already; give each a name", first))
				}
				names[name] = i
			}
		}
		if f.SyncOut != nil {
			errs = append(errs, strictyaml.Within("federation.sync_out", f.SyncOut.validate()))
		}
		for i, p := range f.Peers {
			if string(p.Name) == c.Cluster.Name {
				fail(fmt.Sprintf("federation.peers[%d].name", i), string(p.Name), "is the own cluster's name")
			}
		}
	}
	if g := c.Gateway; g != nil {
		errs = append(errs, strictyaml.Within("gateway", g.Validate()))
	}
	if c.Identity.Files != nil && c.Federation != nil && c.Gateway != nil {
		fail("identity.files", nil, "hold one svid, but federation and gateway have an id each: run them as two processes, or use a workload_api")
	}
	return errors.Join(errs...)
}

func (i Identity) validate() error {
	var errs []error
	td, err := spiffeid.TrustDomainFromString(i.TrustDomain)
	if err != nil {
		errs = append(errs, strictyaml.Fail("trust_domain", i.TrustDomain, "must be a SPIFFE trust domain such as aws.example.org"))
	}
	reached := strings.HasPrefix(i.WorkloadAPI, "unix:///") || strings.HasPrefix(i.WorkloadAPI, "tcp://")
	switch {
	case i.Files == nil && !reached:
		errs = append(errs, strictyaml.Fail("workload_api", i.WorkloadAPI, "must be unix:///path or tcp://ip:port, or files must be set"))
	case i.Files != nil && i.WorkloadAPI != "":
		errs = append(errs, strictyaml.Fail("workload_api", i.WorkloadAPI, "must not be set beside files: an identity has one source"))
	}
	if i.Files != nil {
		errs = append(errs, strictyaml.Within("files", i.validateFiles(td)))
	}
	if err == nil && i.ClusterID != "" { // it may be made from the trust domain
		id, idErr := spiffeid.FromString(i.ClusterID)
		switch {
		case idErr != nil || id.Path() == "":
			errs = append(errs, strictyaml.Fail("cluster_id", i.ClusterID, "must be a SPIFFE ID with a path"))
		case id.TrustDomain() != td:
			errs = append(errs, strictyaml.Fail("cluster_id", i.ClusterID, "must be in the own trust domain "+td.Name()))
		}
	}
	return errors.Join(errs...)
}

func (i Identity) validateFiles(own spiffeid.TrustDomain) error {
	var errs []error
	for _, p := range i.Files.Problems() {
		errs = append(errs, strictyaml.Fail(p.Field, p.Value, p.Rule))
	}
	for n, f := range i.Files.Federated {
		if !own.IsZero() && f.TrustDomain == own {
			errs = append(errs, strictyaml.Fail(fmt.Sprintf("federated[%d].trust_domain", n), own.Name(), "must not be the own trust domain"))
		}
	}
	return errors.Join(errs...)
}

func (l Log) validate() error {
	var errs []error
	switch l.Level {
	case "debug", "info", "warn", "error":
	default:
		errs = append(errs, strictyaml.Fail("level", l.Level, "must be debug, info, warn or error"))
	}
	switch l.Format {
	case "text", "json":
	default:
		errs = append(errs, strictyaml.Fail("format", l.Format, "must be text or json"))
	}
	return errors.Join(errs...)
}
