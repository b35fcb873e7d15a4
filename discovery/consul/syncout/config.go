package syncout

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// The defaults of Config.
const (
	DefaultPrefix     = "isthmus/sync-out"
	DefaultSessionTTL = 10 * time.Second
)

const (
	maxTags   = 16
	maxPrefix = 200
	// maxNode is what fits a DNS label.
	maxNode = catalog.MaxLabelLen
)

// Config says where imported services are registered, and which. They are
// registered in the agent's own datacenter: a session belongs to the agent's node.
type Config struct {
	agent.Config `yaml:",inline"`
	// Node is the name of the node that holds the entries; default isthmus-CLUSTER.
	// It belongs to no agent.
	Node string `yaml:"node,omitempty"`
	// Lock is the key that the writer locks; default isthmus/sync-out/CLUSTER.
	Lock string `yaml:"lock,omitempty"`
	// Namespace is the catalog namespace whose services are registered under their
	// bare names; others are NAME-NAMESPACE. Default: default.
	Namespace string `yaml:"namespace,omitempty"`
	// HTTP registers also the HTTP and gRPC services that have no TCP way in, with
	// the address of the gateways' HTTP way in. Only services of the namespace
	// "default", since their names in Consul's DNS say which service is meant.
	HTTP bool `yaml:"http,omitempty"`
	// Loopback registers ways in on loopback addresses, too: right where every host
	// that asks Consul has a gateway of its own there.
	Loopback bool `yaml:"loopback,omitempty"`
	// Tags of every entry.
	Tags []string `yaml:"tags,omitempty"`
	// SessionTTL is how long a writer that is gone keeps its lock at least; Consul
	// takes 10s to 24h unless its servers are told otherwise.
	SessionTTL time.Duration `yaml:"session_ttl,omitempty"`
}

// WithDefaults fills the empty fields for a cluster.
func (c Config) WithDefaults(cluster catalog.ClusterName) Config {
	c.Config = c.Config.WithDefaults()
	c.Node = cmp.Or(c.Node, "isthmus-"+string(cluster))
	c.Lock = cmp.Or(c.Lock, DefaultPrefix+"/"+string(cluster))
	c.Namespace = cmp.Or(c.Namespace, catalog.DefaultNamespace)
	c.SessionTTL = cmp.Or(c.SessionTTL, DefaultSessionTTL)
	return c
}

// Validate reports every problem; it touches neither network nor files.
func (c Config) Validate() error {
	c = c.WithDefaults("x")
	errs := c.Problems()
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if !agent.ValidName(c.Node, maxNode) {
		fail("node", c.Node, "must be letters, digits, - and _, at most 63")
	}
	if c.Lock == "" || len(c.Lock) > maxPrefix || strings.ContainsAny(c.Lock, "\x00?#% ") || strings.Contains(c.Lock, "//") || strings.HasPrefix(c.Lock, "/") || strings.HasSuffix(c.Lock, "/") {
		fail("lock", c.Lock, "must be a key of 1 to 200 characters without space, '?', '#', '%' or '//', with no '/' at its ends")
	}
	if _, err := catalog.NewServiceName("x", c.Namespace); err != nil {
		fail("namespace", c.Namespace, "must be a DNS label")
	}
	if len(c.Tags) > maxTags {
		fail("tags", len(c.Tags), "at most 16")
	}
	for _, tag := range c.Tags {
		if _, err := catalog.ParseClusterName(tag); err != nil { // it is a part of a DNS name
			fail("tags", tag, "must be a DNS label")
		}
	}
	if c.SessionTTL < time.Second || c.SessionTTL > 24*time.Hour {
		fail("session_ttl", c.SessionTTL.String(), "must be between 1s and 24h")
	}
	return errors.Join(errs...)
}
