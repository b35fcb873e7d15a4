package consulkv

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// The defaults of Config.
const (
	DefaultAddress = "127.0.0.1:8500"
	DefaultPrefix  = "isthmus"
	// DefaultWait is short: after Consul was restored from a backup its indexes are
	// lower, and a query that waits for a higher one learns of it at its end.
	DefaultWait           = 10 * time.Second
	DefaultRequestTimeout = 5 * time.Second
	// DefaultSessionTTL is the least that Consul's servers take by default
	// (session_ttl_min). They end a session between one and two of it.
	DefaultSessionTTL = 10 * time.Second
)

// Config says which Consul, and where in it.
type Config struct {
	// Address is the host:port of an agent, or a list of several: the next one is
	// taken where one does not answer. Default 127.0.0.1:8500.
	Address strictyaml.OneOrMore `yaml:"address"`
	// Scheme is http (default) or https.
	Scheme string `yaml:"scheme"`
	// Datacenter to use; empty means the agent's own.
	Datacenter string `yaml:"datacenter"`
	// TokenFile holds the ACL token; it is read anew for every request. The token
	// needs key:write and key:list below the prefix, and session:write.
	TokenFile string `yaml:"token_file"`
	// Prefix of every key, one for each cluster; default isthmus/CLUSTER.
	Prefix string `yaml:"prefix"`
	// TLS to the agent, for scheme https.
	TLS TLS `yaml:"tls"`
	// SessionTTL is how long a replica that is gone keeps its lease at least;
	// Consul takes 10s to 24h unless its servers are told otherwise.
	SessionTTL time.Duration `yaml:"session_ttl"`
	// Wait is how long a blocking query waits.
	Wait time.Duration `yaml:"wait"`
	// RequestTimeout bounds other requests, and a blocking one beyond its wait.
	RequestTimeout time.Duration `yaml:"request_timeout"`
}

// TLS to the agent; empty means the system's roots.
type TLS struct {
	// CAFile holds the roots that the agent's certificate is judged by, in PEM.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the client's certificate, read at each handshake.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is the name in the agent's certificate; empty means the address.
	ServerName string `yaml:"server_name"`
}

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	if len(c.Address) == 0 {
		c.Address = strictyaml.OneOrMore{DefaultAddress}
	}
	if c.Scheme == "" {
		c.Scheme = "http"
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	c.Prefix = strings.Trim(c.Prefix, "/")
	for d, v := range map[*time.Duration]time.Duration{
		&c.SessionTTL: DefaultSessionTTL, &c.Wait: DefaultWait, &c.RequestTimeout: DefaultRequestTimeout,
	} {
		if *d == 0 {
			*d = v
		}
	}
	return c
}

const (
	maxAddresses = 8
	maxPrefix    = 200
)

// Validate reports every problem; it touches neither network nor files.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if len(c.Address) > maxAddresses {
		fail("address", len(c.Address), "has too many entries: at most 8")
	}
	for _, a := range c.Address {
		host, port, err := net.SplitHostPort(a)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
			fail("address", a, "must be host:port")
		}
	}
	if c.Scheme != "http" && c.Scheme != "https" {
		fail("scheme", c.Scheme, "must be http or https")
	}
	if c.Prefix == "" || len(c.Prefix) > maxPrefix || strings.ContainsAny(c.Prefix, "\x00?#% ") || strings.Contains(c.Prefix, "//") {
		fail("prefix", c.Prefix, "must be 1 to 200 characters without space, '?', '#', '%' or '//'")
	}
	if c.Scheme == "http" && c.TLS != (TLS{}) {
		fail("tls", nil, "is for scheme https")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		fail("tls", nil, "needs both cert_file and key_file, or neither")
	}
	if c.SessionTTL < time.Second || c.SessionTTL > 24*time.Hour {
		fail("session_ttl", c.SessionTTL.String(), "must be between 1s and 24h")
	}
	if c.Wait < time.Second || c.Wait > 10*time.Minute {
		fail("wait", c.Wait.String(), "must be between 1s and 10m, which is what Consul accepts")
	}
	if c.RequestTimeout < 100*time.Millisecond || c.RequestTimeout > time.Minute {
		fail("request_timeout", c.RequestTimeout.String(), "must be between 100ms and 1m")
	}
	return errors.Join(errs...)
}
