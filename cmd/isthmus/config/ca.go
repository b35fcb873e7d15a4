package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
	"github.com/isthmus-mesh/isthmus/identity/ca"
)

// CA is the file of `isthmus ca serve`.
type CA struct {
	// TrustDomain is the domain that it speaks for.
	TrustDomain spiffeid.TrustDomain `yaml:"trust_domain"`
	// Dir keeps the roots and their keys (mode 0700); nobody else may write there.
	Dir string `yaml:"dir"`
	// Socket is the absolute path of the Unix socket at which workloads reach the
	// Workload API, at most 103 bytes.
	Socket string `yaml:"socket"`
	// SVIDTTL is the life of an SVID, 2s to 24h; 0 means 1h.
	SVIDTTL time.Duration `yaml:"svid_ttl"`
	// CATTL is the life of a root, at least four times svid_ttl; 0 means 720h.
	CATTL time.Duration `yaml:"ca_ttl"`
	// BundleFile is where the own bundle is written for peers in other trust
	// domains; empty means nowhere.
	BundleFile string `yaml:"bundle_file"`
	// BundleEndpoint publishes the own bundle to whoever asks; left out, nothing is
	// published.
	BundleEndpoint CABundleEndpoint `yaml:"bundle_endpoint"`
	// Hosts lets other hosts of the trust domain join (isthmus ca token, isthmus ca
	// agent); left out, none can.
	Hosts CAHosts `yaml:"hosts"`
	// Entries give the processes of a user their identities.
	Entries []CAEntry `yaml:"entries"`
	// Federated are the bundles of other trust domains that workloads are given.
	Federated []CAFederated `yaml:"federated"`
	// Admin is the loopback ip:port of /metrics, /healthz and /readyz; empty
	// serves none.
	Admin string `yaml:"admin"`
	// Log is the form of the log on standard error.
	Log Log `yaml:"log"`
}

// CAEntry gives processes of a user an identity.
type CAEntry struct {
	// ID is the SPIFFE ID; a user may have several.
	ID spiffeid.ID `yaml:"id"`
	// UID is the user's number, as the kernel names it for the other end of the
	// socket; default the CA's own.
	UID *uint32 `yaml:"uid"`
	// Host is the host whose processes are meant, by the name that it joins with;
	// default the CA's own. There the default of uid is the agent's own user.
	Host string `yaml:"host"`
	// Hint tells a workload with several SVIDs what this one is for.
	Hint string `yaml:"hint"`
}

// CABundleEndpoint publishes the own bundle.
type CABundleEndpoint struct {
	// Address is the host:port to listen on (TCP).
	Address string `yaml:"address"`
	// Profile is https_spiffe, where the server is spiffe://TRUST_DOMAIN/isthmus/ca,
	// or https_web.
	Profile string `yaml:"profile"`
	// CertFile and KeyFile are the PEM files of https_web, read again when they
	// change.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Config is the endpoint as its server takes it.
func (e CABundleEndpoint) Config() bundleendpoint.ServerConfig {
	return bundleendpoint.ServerConfig{
		Address: e.Address, Profile: bundleendpoint.Profile(e.Profile), CertFile: e.CertFile, KeyFile: e.KeyFile,
	}
}

func (e CABundleEndpoint) validate() error {
	if e == (CABundleEndpoint{}) {
		return nil
	}
	var errs []error
	for _, p := range e.Config().Problems() {
		errs = append(errs, strictyaml.Fail(p.Field, p.Value, p.Rule))
	}
	return errors.Join(errs...)
}

// CAHosts is how other hosts reach the CA.
type CAHosts struct {
	// Address is the host:port to listen on (TCP, TLS).
	Address string `yaml:"address"`
	// Advertise is the host:port that join tokens name; default address.
	Advertise string `yaml:"advertise"`
}

// CAFederated is another trust domain's bundle.
type CAFederated struct {
	// TrustDomain is the other domain.
	TrustDomain spiffeid.TrustDomain `yaml:"trust_domain"`
	// BundleFile holds its bundle document; it is read again when it changes.
	BundleFile string `yaml:"bundle_file"`
}

// LoadCA reads and checks the file of an embedded CA.
func LoadCA(path string) (*CA, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	c := CA{Log: Default().Log}
	err = environment.DecodeValid(path, data, &c, func() error {
		return errors.Join(c.Config().Validate(), validateAdmin(c.Admin), strictyaml.Within("bundle_endpoint", c.BundleEndpoint.validate()), strictyaml.Within("log", c.Log.validate()))
	})
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// validateAdmin keeps what needs no token on the host.
func validateAdmin(address string) error {
	if address == "" {
		return nil
	}
	if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().Unmap().IsLoopback() {
		return strictyaml.Fail("admin", address, "must be ip:port of a loopback address")
	}
	return nil
}

// Config is the file as the CA takes it.
func (c *CA) Config() ca.Config {
	out := ca.Config{
		TrustDomain: c.TrustDomain, Dir: c.Dir, Socket: c.Socket, SVIDTTL: c.SVIDTTL, CATTL: c.CATTL, BundleFile: c.BundleFile,
		Hosts: ca.Hosts{Address: c.Hosts.Address, Advertise: c.Hosts.Advertise},
	}
	for _, e := range c.Entries {
		out.Entries = append(out.Entries, ca.Entry{ID: e.ID, UID: e.UID, Host: e.Host, Hint: e.Hint})
	}
	for _, f := range c.Federated {
		out.Federated = append(out.Federated, ca.Federated{TrustDomain: f.TrustDomain, BundleFile: f.BundleFile})
	}
	return out
}
