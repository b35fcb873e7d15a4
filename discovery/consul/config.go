package consul

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const (
	// DefaultAddress is the local agent.
	DefaultAddress = "127.0.0.1:8500"
	// DefaultWait is how long a blocking query waits; Consul's own default.
	DefaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
	// DefaultRequestTimeout is what any other query gets, and what a blocking one
	// gets beyond its wait.
	DefaultRequestTimeout = 15 * time.Second
	maxRequestTimeout     = 5 * time.Minute
)

// Config of one Consul datacenter as a source.
type Config struct {
	// Address is the agent's host:port.
	Address string `yaml:"address"`
	// Scheme is http or https.
	Scheme string `yaml:"scheme,omitempty"`
	// Datacenter to read; empty means the agent's own.
	Datacenter string `yaml:"datacenter,omitempty"`
	// TokenFile holds the ACL token; it is read anew for every request, so that
	// a rotated token needs no restart. The token needs service:read and node:read.
	TokenFile string `yaml:"token_file,omitempty"`
	TLS       TLS    `yaml:"tls,omitempty"`
	// AddressTag prefers the tagged address of that name ("wan", "lan_ipv4") of
	// service, then node, over their plain addresses.
	AddressTag string `yaml:"address_tag,omitempty"`
	// Namespace is the catalog namespace that the services are put in.
	Namespace string `yaml:"namespace,omitempty"`
	// Protocol of services that say nothing themselves; they say it with the
	// service meta key "isthmus-protocol" or "protocol".
	Protocol catalog.Protocol `yaml:"protocol,omitempty"`
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

// TLS to the agent; empty means the system's roots.
type TLS struct {
	CAFile     string `yaml:"ca_file,omitempty"`
	CertFile   string `yaml:"cert_file,omitempty"`
	KeyFile    string `yaml:"key_file,omitempty"`
	ServerName string `yaml:"server_name,omitempty"`
}

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	if c.Address == "" {
		c.Address = DefaultAddress
	}
	if c.Scheme == "" {
		c.Scheme = "http"
	}
	if c.Namespace == "" {
		c.Namespace = catalog.DefaultNamespace
	}
	if c.Protocol == "" {
		c.Protocol = catalog.TCP
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
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	host, port, err := net.SplitHostPort(c.Address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
		fail("address", c.Address, "must be host:port")
	}
	if c.Scheme != "http" && c.Scheme != "https" {
		fail("scheme", c.Scheme, "must be http or https")
	}
	if _, err := catalog.NewServiceName("x", c.Namespace); err != nil {
		fail("namespace", c.Namespace, "must be a DNS label")
	}
	if _, ok := knownProtocol(string(c.Protocol)); !ok {
		fail("protocol", string(c.Protocol), "must be tcp, http, grpc or tls")
	}
	if c.Wait < time.Second || c.Wait > maxWait {
		fail("wait", c.Wait.String(), "must be between 1s and 10m, which is what Consul accepts")
	}
	if c.RequestTimeout < 10*time.Millisecond || c.RequestTimeout > maxRequestTimeout {
		fail("request_timeout", c.RequestTimeout.String(), "must be between 10ms and 5m")
	}
	if c.Scheme == "http" && c.TLS != (TLS{}) {
		fail("tls", nil, "is for scheme https")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		fail("tls", nil, "needs both cert_file and key_file, or neither")
	}
	return errors.Join(errs...)
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
