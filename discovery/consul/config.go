package consul

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const (
	// DefaultWait is how long a blocking query waits; Consul's own default.
	DefaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	// DefaultRequestTimeout is what any other query gets, and what a blocking one
	// gets beyond its wait.
	DefaultRequestTimeout = 15 * time.Second
	maxRequestTimeout     = 5 * time.Minute
	// maxName bounds what Consul calls datacenters, partitions and namespaces.
	maxName = 64
)

// Config of the datacenters that are read through one agent.
type Config struct {
	agent.Config `yaml:",inline"`
	// Datacenter to read; empty means the agent's own.
	Datacenter string `yaml:"datacenter,omitempty"`
	// Datacenters are read instead of Datacenter, each as a source of its own that
	// is called NAME-DATACENTER: each has its last good state and its guard, and
	// one that cannot be reached leaves the others alone.
	Datacenters []Datacenter `yaml:"datacenters,omitempty"`
	// Partition is Consul Enterprise's admin partition; empty sends none.
	Partition string `yaml:"partition,omitempty"`
	// Namespaces are Consul Enterprise's namespaces to read, each as a source of
	// its own that is called NAME-NAMESPACE; none sends none.
	Namespaces []Namespace `yaml:"namespaces,omitempty"`
	// AddressTag prefers the tagged address of that name ("wan", "lan_ipv4") of
	// service, then node, over their plain addresses.
	AddressTag string `yaml:"address_tag,omitempty"`
	// Namespace is the catalog namespace that the services are put in.
	Namespace string `yaml:"namespace,omitempty"`
	// Protocol of services that say nothing themselves; they say it with the
	// service meta key "isthmus-protocol" or "protocol".
	Protocol catalog.Protocol `yaml:"protocol,omitempty"`
	// Connect says how instances behind a sidecar are dialed: auto (default; by
	// mTLS through the sidecar where their own address takes no plaintext from
	// elsewhere), sidecar (always) or plain (never). An instance may say it itself
	// with the service meta key "isthmus-connect".
	Connect Connect `yaml:"connect,omitempty"`
	// LabelMeta are the service meta keys that become endpoint labels; "*" is
	// all. Tags of the form key=value become labels where the key is listed here,
	// too.
	LabelMeta []string `yaml:"label_meta,omitempty"`
	// LabelTags makes every other tag T the label "tag:T" with the value "true".
	LabelTags bool `yaml:"label_tags,omitempty"`
	// AcceptFiltered takes answers that ACLs have filtered for the whole. Without
	// it they are failures, since a token that lost a permission looks like a
	// catalog that lost its services.
	AcceptFiltered bool `yaml:"accept_filtered,omitempty"`
	// Wait is how long a blocking query waits.
	Wait time.Duration `yaml:"wait,omitempty"`
	// RequestTimeout bounds other queries, and a blocking one beyond its wait.
	RequestTimeout time.Duration `yaml:"request_timeout,omitempty"`
}

// Datacenter is one that is read through the agent.
type Datacenter struct {
	// Name is the datacenter's in Consul.
	Name string `yaml:"name"`
	// Locality (cloud/region or cloud/region/zone) is that of instances whose
	// locality Consul does not know; default the cluster's.
	Locality string `yaml:"locality,omitempty"`
	// Labels are put on every endpoint, over its own.
	Labels map[string]string `yaml:"labels,omitempty"`
}

// Namespace is one of Consul Enterprise's.
type Namespace struct {
	// Name is the namespace's in Consul; nothing is made of it.
	Name string `yaml:"name"`
	// As is the catalog namespace that its services are put in; default Name.
	As string `yaml:"as,omitempty"`
}

// Connect says how instances of Consul's service mesh are dialed.
type Connect string

// The values of Connect.
const (
	ConnectAuto    Connect = "auto"
	ConnectSidecar Connect = "sidecar"
	ConnectPlain   Connect = "plain"
)

func (c Connect) valid() bool {
	return slices.Contains([]Connect{ConnectAuto, ConnectSidecar, ConnectPlain}, c)
}

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	c.Config = c.Config.WithDefaults()
	if c.Namespace == "" {
		c.Namespace = catalog.DefaultNamespace
	}
	if c.Protocol == "" {
		c.Protocol = catalog.TCP
	}
	if c.Connect == "" {
		c.Connect = ConnectAuto
	}
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = DefaultRequestTimeout
	}
	return c
}

// Validate reports every problem; it touches neither network nor files.
func (c Config) Validate() error {
	c = c.WithDefaults()
	errs := c.Config.Problems()
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if _, err := catalog.NewServiceName("x", c.Namespace); err != nil {
		fail("namespace", c.Namespace, "must be a DNS label")
	}
	if _, ok := knownProtocol(string(c.Protocol)); !ok {
		fail("protocol", string(c.Protocol), "must be tcp, http, grpc or tls")
	}
	if !c.Connect.valid() {
		fail("connect", string(c.Connect), "must be auto, sidecar or plain")
	}
	if c.Wait < time.Second || c.Wait > maxWait {
		fail("wait", c.Wait.String(), "must be between 1s and 10m, which is what Consul accepts")
	}
	if c.RequestTimeout < 10*time.Millisecond || c.RequestTimeout > maxRequestTimeout {
		fail("request_timeout", c.RequestTimeout.String(), "must be between 10ms and 5m")
	}
	return errors.Join(append(errs, c.validateViews()...)...)
}

// validateViews checks what is read besides the agent's own view.
func (c Config) validateViews() (errs []error) {
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	name := func(field, value string) {
		if !agent.ValidName(value, maxName) {
			fail(field, value, "must be a name of Consul's: letters, digits, - and _, at most 64")
		}
	}
	if c.Datacenter != "" {
		name("datacenter", c.Datacenter)
	}
	if c.Partition != "" {
		name("partition", c.Partition)
	}
	if c.Datacenter != "" && len(c.Datacenters) > 0 {
		fail("datacenter", c.Datacenter, "must not be set beside datacenters")
	}
	for i, d := range c.Datacenters {
		at := fmt.Sprintf("datacenters[%d]", i)
		name(at+".name", d.Name)
		if _, err := catalog.ParseLocality(d.Locality); err != nil && d.Locality != "" {
			fail(at+".locality", d.Locality, err.Error())
		}
		for _, k := range slices.Sorted(maps.Keys(d.Labels)) {
			if err := catalog.CheckLabel(k, d.Labels[k]); err != nil {
				fail(at+".labels", k, err.Error())
			}
		}
	}
	for i, n := range c.Namespaces {
		at := fmt.Sprintf("namespaces[%d]", i)
		name(at+".name", n.Name)
		if _, err := catalog.NewServiceName("x", n.catalog()); err != nil {
			fail(at+".as", n.catalog(), "must be a DNS label: the catalog namespace, where the Consul namespace's name is none")
		}
	}
	if n := max(1, len(c.Datacenters)) * max(1, len(c.Namespaces)); n > maxViews {
		fail("datacenters", n, fmt.Sprintf("times namespaces may be at most %d: one agent allows a client so many connections", maxViews))
	}
	seen := map[string]bool{}
	for _, n := range c.SourceNames("x") {
		if seen[n] {
			fail("datacenters", strings.TrimPrefix(n, "x-"), "is given twice")
		}
		seen[n] = true
	}
	return errs
}

func knownProtocol(s string) (catalog.Protocol, bool) {
	switch strings.ToLower(s) {
	case "tcp":
		return catalog.TCP, true
	case "http", "http2":
		return catalog.HTTP, true
	case "grpc":
		return catalog.GRPC, true
	case "tls":
		return catalog.TLS, true
	}
	return "", false
}
