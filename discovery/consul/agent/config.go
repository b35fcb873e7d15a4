package agent

import (
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// DefaultAddress is the local agent.
const DefaultAddress = "127.0.0.1:8500"

// OwnerMeta is the key of a service's meta that names the cluster which wrote the
// entry (see syncout). A source leaves such entries out, whoever wrote them: they
// are imports of some cluster, and would be exported again.
const OwnerMeta = "isthmus-owner"

// Config says which agent, and with what credentials.
type Config struct {
	// Address is the agent's host:port; default 127.0.0.1:8500.
	Address string `yaml:"address,omitempty"`
	// Scheme is http (default) or https.
	Scheme string `yaml:"scheme,omitempty"`
	// TokenFile holds the ACL token; it is read anew for every request, so that
	// a rotated token needs no restart.
	TokenFile string `yaml:"token_file,omitempty"`
	// TLS to the agent, for scheme https.
	TLS TLS `yaml:"tls,omitempty"`
}

// TLS to the agent; empty means the system's roots.
type TLS struct {
	// CAFile holds the roots that the agent's certificate is judged by, in PEM.
	CAFile string `yaml:"ca_file,omitempty"`
	// CertFile and KeyFile are the client's certificate, read at each handshake.
	CertFile string `yaml:"cert_file,omitempty"`
	KeyFile  string `yaml:"key_file,omitempty"`
	// ServerName is the name in the agent's certificate; empty means the address.
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

// Problems are those of all fields, the empty ones judged as their defaults.
func (c Config) Problems() (errs []error) {
	c = c.WithDefaults()
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
	if c.Scheme == "http" && c.TLS != (TLS{}) {
		fail("tls", nil, "is for scheme https")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		fail("tls", nil, "needs both cert_file and key_file, or neither")
	}
	return errs
}

// ValidName is the rule for names of nodes, datacenters, partitions and namespaces.
func ValidName(s string, most int) bool {
	return s != "" && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune(nameChars, r)
	})
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// token reads the ACL token, "" without a file.
func (c Config) token() (string, error) {
	if c.TokenFile == "" {
		return "", nil
	}
	data, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}
