package config

import (
	"errors"
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/dns"
	"github.com/isthmus-mesh/isthmus/discovery/exec"
	"github.com/isthmus-mesh/isthmus/discovery/file"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// Source is one entry of federation.sources: exactly one of the kinds, and what
// holds for all of them.
type Source struct {
	// Name is unique among the sources (DNS label); default: the kind. Where consul
	// lists datacenters or namespaces, each is a source that is called NAME-DATACENTER,
	// NAME-NAMESPACE or NAME-DATACENTER-NAMESPACE.
	Name string `yaml:"name"`
	// Allow are the address ranges that the source may publish. Loopback,
	// link-local and metadata addresses must be listed; none means every other
	// address.
	Allow []netip.Prefix `yaml:"allow"`
	// Guard says which withdrawals are held back, and for how long.
	Guard Guard `yaml:"guard"`

	// Consul reads Consul datacenters.
	Consul *consul.Config `yaml:"consul"`
	// DNS reads SRV records, or A and AAAA records.
	DNS *dns.Config `yaml:"dns"`
	// File reads a YAML file.
	File *file.Config `yaml:"file"`
	// Exec reads what a program prints.
	Exec *exec.Config `yaml:"exec"`
}

// Guard is discovery.GuardOptions; 0 is the default of each field.
type Guard struct {
	// Count and Share: a withdrawal of more than the larger of Count endpoints
	// and Share (0 to 1) of all is held back. Default 3 and 0.2.
	Count int     `yaml:"count"`
	Share float64 `yaml:"share"`
	// Reads complete reads over at least Window must agree with it before it
	// takes effect. Default 3 and 1m.
	Reads  int           `yaml:"reads"`
	Window time.Duration `yaml:"window"`
}

// Options is the guard as discovery takes it.
func (g Guard) Options() discovery.GuardOptions {
	return discovery.GuardOptions{Count: g.Count, Share: g.Share, Reads: g.Reads, Window: g.Window}
}

// Kind names the kind that is set, "" for none or several.
func (s *Source) Kind() string {
	kind := ""
	for _, k := range []struct {
		name string
		set  bool
	}{{"consul", s.Consul != nil}, {"dns", s.DNS != nil}, {"file", s.File != nil}, {"exec", s.Exec != nil}} {
		switch {
		case k.set && kind != "":
			return ""
		case k.set:
			kind = k.name
		}
	}
	return kind
}

// fill gives the source its name; that of an exec source may stand with the
// command, which is told it.
func (s *Source) fill() {
	if s.Exec != nil {
		set(&s.Name, s.Exec.Name)
	}
	set(&s.Name, s.Kind())
	if s.Exec != nil {
		set(&s.Exec.Name, s.Name)
	}
}

// Names are the names of the sources that the entry makes: its own, or one for each
// of several Consul datacenters.
func (s *Source) Names() []string {
	if s.Consul != nil {
		return s.Consul.SourceNames(s.Name)
	}
	return []string{s.Name}
}

func (s *Source) validate() error {
	var errs []error
	if s.Kind() == "" {
		errs = append(errs, strictyaml.Fail("", nil, "must have exactly one of consul, dns, file, exec"))
	} else {
		for _, name := range s.Names() {
			if _, err := catalog.ParseClusterName(name); err != nil { // the same rule: a DNS label
				errs = append(errs, strictyaml.Fail("name", name, "must be a DNS label"))
			}
		}
	}
	if s.Consul != nil {
		errs = append(errs, strictyaml.Within("consul", s.Consul.Validate()))
	}
	if s.DNS != nil {
		errs = append(errs, strictyaml.Within("dns", s.DNS.Validate()))
	}
	if s.File != nil {
		errs = append(errs, strictyaml.Within("file", s.File.Validate()))
	}
	if s.Exec != nil {
		errs = append(errs, strictyaml.Within("exec", s.Exec.Validate()))
	}
	if g := s.Guard; g.Count < 0 || g.Share < 0 || g.Share > 1 || g.Reads < 0 || g.Window < 0 {
		errs = append(errs, strictyaml.Fail("guard", nil, "count, reads and window must not be negative, share must be between 0 and 1"))
	}
	return errors.Join(errs...)
}
