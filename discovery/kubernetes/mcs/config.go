package mcs

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const (
	// DefaultOwner is the mark of what a Sync makes.
	DefaultOwner = "isthmus"
	// DefaultHold is how long an import must have been gone before it is withdrawn.
	DefaultHold = time.Minute
	// DefaultSuffix ends the hosts of service entries.
	DefaultSuffix = "mesh"

	maxHold       = 24 * time.Hour
	maxNumbers    = 256
	maxNamespaces = 256
	maxPeers      = 256
	// maxOwner leaves room in the name of an export.
	maxOwner = 40
	// maxObjects bounds what one Sync makes of a kind.
	maxObjects = 10_000
)

// Config of a Sync.
type Config struct {
	kubeapi.Connection `yaml:",inline"`
	// Owner marks what is made; a DNS label. Two that sync different Kubernetes
	// clusters with one federation have different ones.
	Owner string `yaml:"owner,omitempty"`
	// Namespaces are those that are looked at; empty means all.
	Namespaces []string `yaml:"namespaces,omitempty"`
	// Lease is what makes the Sync the only one.
	Lease Lease `yaml:"lease"`
	// Exports, Imports and ServiceEntries say what is done; nothing is by default.
	Exports        *Exports        `yaml:"exports,omitempty"`
	Imports        *Imports        `yaml:"imports,omitempty"`
	ServiceEntries *ServiceEntries `yaml:"service_entries,omitempty"`
}

// Lease says where the Lease is.
type Lease struct {
	Namespace string `yaml:"namespace"`
	// Name defaults to isthmus-sync-OWNER.
	Name string `yaml:"name,omitempty"`
}

// Exports makes exports of ServiceExports.
type Exports struct {
	// To are the peers that are offered them; default all ("*").
	To []string `yaml:"to,omitempty"`
}

// Imports makes ServiceImports of imports.
type Imports struct {
	// Hold is how long an import must have been gone before it is withdrawn, and a gateway
	// before what points at it is.
	Hold time.Duration `yaml:"hold,omitempty"`
	// PlainNames calls the Service of an import like the import itself where no other
	// Service is called so.
	PlainNames bool `yaml:"plain_names,omitempty"`
	// Ports are the numbers under which imports' ports are called.
	Ports []PortNumber `yaml:"ports,omitempty"`
}

// PortNumber is the number of a port of an import. Names of ports cross clusters, their
// numbers do not.
type PortNumber struct {
	Service catalog.ServiceName `yaml:"service"`
	// Port is the port's name; default the only one, or "default".
	Port   string `yaml:"port,omitempty"`
	Number uint16 `yaml:"number"`
}

// ServiceEntries makes Istio's ServiceEntry objects of imports.
type ServiceEntries struct {
	// Suffix ends the hosts: NAME.NAMESPACE.SUFFIX.
	Suffix string `yaml:"suffix,omitempty"`
}

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	if c.Owner == "" {
		c.Owner = DefaultOwner
	}
	if c.Lease.Name == "" {
		c.Lease.Name = "isthmus-sync-" + c.Owner
	}
	if c.Exports != nil && len(c.Exports.To) == 0 {
		c.Exports = &Exports{To: []string{"*"}}
	}
	if c.Imports != nil && c.Imports.Hold == 0 {
		imports := *c.Imports
		imports.Hold = DefaultHold
		c.Imports = &imports
	}
	if c.ServiceEntries != nil && c.ServiceEntries.Suffix == "" {
		c.ServiceEntries = &ServiceEntries{Suffix: DefaultSuffix}
	}
	return c
}

// Validate reports every problem; it touches neither network nor files.
func (c Config) Validate() error {
	c = c.WithDefaults()
	errs := []error{c.Connection.Validate()}
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	label := func(field, value string) {
		if _, err := catalog.ParseClusterName(value); err != nil {
			fail(field, value, "must be a DNS label")
		}
	}
	if label("owner", c.Owner); len(c.Owner) > maxOwner {
		fail("owner", c.Owner, fmt.Sprintf("has more than %d characters", maxOwner))
	}
	label("lease.namespace", c.Lease.Namespace)
	label("lease.name", c.Lease.Name)
	if len(c.Namespaces) > maxNamespaces {
		fail("namespaces", len(c.Namespaces), fmt.Sprintf("at most %d", maxNamespaces))
	}
	for i, ns := range c.Namespaces {
		label(fmt.Sprintf("namespaces[%d]", i), ns)
	}
	if c.Exports == nil && c.Imports == nil {
		fail("", nil, "has neither exports nor imports: there is nothing to do")
	}
	if c.Exports != nil {
		if len(c.Exports.To) > maxPeers {
			fail("exports.to", len(c.Exports.To), fmt.Sprintf("at most %d", maxPeers))
		}
		for i, to := range c.Exports.To {
			if to != "*" {
				label(fmt.Sprintf("exports.to[%d]", i), to)
			}
		}
	}
	if c.Imports != nil {
		errs = append(errs, c.Imports.validate()...)
	}
	if c.ServiceEntries != nil {
		if c.Imports == nil {
			fail("service_entries", nil, "are of imports: it needs imports")
		}
		for _, part := range splitDots(c.ServiceEntries.Suffix) {
			label("service_entries.suffix", part)
		}
	}
	return errors.Join(errs...)
}

func (i *Imports) validate() []error {
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if i.Hold < time.Millisecond || i.Hold > maxHold {
		fail("imports.hold", i.Hold.String(), "must be between 1ms and 24h")
	}
	if len(i.Ports) > maxNumbers {
		fail("imports.ports", len(i.Ports), fmt.Sprintf("at most %d", maxNumbers))
	}
	for n, p := range i.Ports {
		field := fmt.Sprintf("imports.ports[%d]", n)
		if p.Service.IsZero() {
			fail(field+".service", "", "is missing")
		}
		if p.Number == 0 {
			fail(field+".number", p.Number, "must be 1 to 65535")
		}
		if slices.ContainsFunc(i.Ports[:n], func(o PortNumber) bool { return o.Service == p.Service && o.Port == p.Port }) {
			fail(field, p.Service.String(), "the port is given twice")
		}
	}
	return errs
}
