package consulca

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// DefaultAddress is the local agent.
const DefaultAddress = "127.0.0.1:8500"

// Config says how the agent is reached.
type Config struct {
	// Address is the agent's host:port; default DefaultAddress.
	Address string `yaml:"address,omitempty"`
	// Scheme is http (default) or https. What crosses it are private keys: http is for
	// an agent on this host.
	Scheme string `yaml:"scheme,omitempty"`
	// TokenFile holds the ACL token, read anew for every request. It needs
	// service:write on every service whose certificate is asked for.
	TokenFile string `yaml:"token_file,omitempty"`
	// Partition and Namespace of the services, in Consul Enterprise.
	Partition string `yaml:"partition,omitempty"`
	Namespace string `yaml:"namespace,omitempty"`
	TLS       TLS    `yaml:"tls,omitempty"`
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
	return c
}

// Problem is one thing that is wrong with a Config.
type Problem struct {
	Field, Value, Rule string
}

// Problems returns everything that is wrong; it touches neither network nor files.
func (c Config) Problems() []Problem {
	c = c.WithDefaults()
	var all []Problem
	bad := func(field, value, rule string) { all = append(all, Problem{field, value, rule}) }
	host, port, err := net.SplitHostPort(c.Address)
	n, perr := strconv.ParseUint(port, 10, 16)
	switch {
	case err != nil || host == "" || perr != nil || n == 0:
		bad("address", c.Address, "must be host:port")
	case c.Scheme == "http" && !loopback(host):
		bad("scheme", c.Scheme, "must be https, since "+c.Address+" is not on this host and private keys cross it")
	}
	if c.Scheme != "http" && c.Scheme != "https" {
		bad("scheme", c.Scheme, "must be http or https")
	}
	if c.Scheme == "http" && c.TLS != (TLS{}) {
		bad("tls", "", "is for scheme https")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls", "", "needs both cert_file and key_file, or neither")
	}
	return all
}

// loopback reports whether host is this one.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// CheckService reports why name cannot be a service of the mesh: Consul writes it
// into a SPIFFE ID and a DNS name.
func CheckService(name string) error {
	if name == "" || len(name) > 63 || strings.Trim(name, "-") != name {
		return fmt.Errorf("must be a DNS label")
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("must be of letters, digits, \"-\" and \"_\"")
		}
	}
	return nil
}

// token reads the ACL token, "" without a file.
func (c Config) token() (string, error) {
	if c.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
