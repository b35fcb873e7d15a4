package federation

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// The defaults of Config, those of a host that runs one federation.
const (
	DefaultListen     = "127.0.0.1:7483"
	DefaultAPISocket  = "/run/isthmus/api.sock"
	DefaultAPIAddress = "127.0.0.1:7480"
	DefaultDataDir    = "/var/lib/isthmus/federation"
)

// MaxPeers bounds the clusters that one federation exchanges with, wherever they
// are kept.
const MaxPeers = policy.MaxPeers

// maxSocketPath is what sockaddr_un holds on every system that we run on (104 on
// macOS, 108 on Linux, with the final NUL).
const maxSocketPath = 103

// Config is the `federation:` section of the configuration file, without its
// sources: they are built by the caller (see Options.Sources). A command that
// reads a file embeds it with `yaml:",inline"`.
type Config struct {
	// Listen is the mesh listener's host:port (TCP, mTLS); default DefaultListen.
	Listen string `yaml:"listen"`
	// Advertise is the host:port by which the own gateways reach Listen; empty
	// means the address that Listen was bound to.
	Advertise string `yaml:"advertise"`
	API       API    `yaml:"api"`
	// Peers are the other clusters that the file names. The REST API lists them with
	// origin "config" beside those that were joined over it.
	Peers []Peer `yaml:"peers"`
	// Exports, Imports, Intentions and Traffic are the policy that the file holds.
	// The REST API lists them with origin "config" and refuses to change them.
	Exports    []policy.Export    `yaml:"exports"`
	Imports    []policy.Import    `yaml:"imports"`
	Intentions []policy.Intention `yaml:"intentions"`
	Traffic    []policy.Traffic   `yaml:"traffic_policies"`
	// PriceBook is the path of a file that says what a GB costs between places, see
	// docs/price.md. It is followed as it changes; empty knows no prices.
	PriceBook string `yaml:"price_book"`
	// BundleEndpoint publishes the own trust domain's bundle to whoever asks; left
	// out, nothing is published.
	BundleEndpoint BundleServer `yaml:"bundle_endpoint"`
	// Store says where policies, peers and the history are kept.
	Store StoreConfig `yaml:"store"`
	// DataDir keeps the store, the API token and the last good catalogs. It is
	// made with mode 0700 if it does not exist; default DefaultDataDir.
	DataDir string `yaml:"data_dir"`
}

// API is where the REST API listens. With neither Socket nor Address set it
// listens on both defaults, else on what is set only.
type API struct {
	// Socket is the path of a Unix socket, made with mode 0600; whoever may open
	// it needs no token.
	Socket string `yaml:"socket"`
	// Address is a loopback ip:port, where a bearer token is asked for.
	Address string `yaml:"address"`
	// TokenFile holds the token of Address; empty means DataDir/api.token. It is
	// written with mode 0600 and a random token if it does not exist.
	TokenFile string `yaml:"token_file"`
	// Admin is the ip:port of /metrics, /healthz and /readyz alone, which need no
	// token; empty serves them on the other listeners only. On an address that others
	// reach, they read the names of services and peers.
	Admin string `yaml:"admin"`
	// MTLS is a listener for clients on other hosts, known by their SPIFFE IDs.
	MTLS api.MTLSConfig `yaml:"mtls"`
	// Auth says who may use the API, and for what.
	Auth api.AuthConfig `yaml:"auth"`
}

// Peer is another cluster: see policy.Peer.
type Peer = policy.Peer

// Policy is the policy that the file holds.
func (c Config) Policy() policy.Set {
	return policy.Set{Exports: c.Exports, Imports: c.Imports, Intentions: c.Intentions, Traffic: c.Traffic}
}

// WithDefaults returns the configuration with each empty field at its default.
func (c Config) WithDefaults() Config {
	c.Listen = cmp.Or(c.Listen, DefaultListen)
	if c.API.Socket == "" && c.API.Address == "" {
		c.API.Socket, c.API.Address = DefaultAPISocket, DefaultAPIAddress
	}
	c.DataDir = cmp.Or(c.DataDir, DefaultDataDir)
	c.API.TokenFile = cmp.Or(c.API.TokenFile, filepath.Join(c.DataDir, "api.token"))
	return c
}

// Validate reports every problem at once, each a *strictyaml.FieldError with the
// path of the field, its value and the rule. It looks at nothing but c: no file
// is opened and no name resolved. Empty fields are judged as their defaults.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var v problems
	v.hostPort("listen", c.Listen)
	if c.Advertise != "" {
		v.hostPort("advertise", c.Advertise)
	} else if ap, err := netip.ParseAddrPort(c.Listen); err == nil && ap.Addr().IsUnspecified() {
		v.fail("advertise", "", "is required where listen is every address: gateways must be told one")
	}
	v.api(c.API)
	if s := c.Store; s.Consul != nil {
		v = append(v, strictyaml.Within("store.consul", s.Consul.Validate()))
	}
	if _, err := catalog.ParseClusterName(c.Store.Replica); err != nil && c.Store.Replica != "" {
		v.fail("store.replica", c.Store.Replica, "must be a DNS label")
	}
	v.bundleServer(c.BundleEndpoint)
	v.bundleEndpoints(c.Peers)
	v = append(v, policy.ValidatePeers(c.Peers), c.Policy().Validate())
	return errors.Join(v...)
}

type problems []error

func (v *problems) fail(field string, value any, rule string) {
	*v = append(*v, strictyaml.Fail(field, value, rule))
}

func (v *problems) hostPort(field, value string) {
	if rule := policy.HostPortRule(value); rule != "" {
		v.fail(field, value, rule)
	}
}

// apiMTLS: a listener that admits nobody, or roles that nobody can come with, are
// mistakes.
func (v *problems) apiMTLS(a API) {
	hasIDs := slices.ContainsFunc(a.Auth.Roles, func(r api.RoleConfig) bool { return len(r.IDs) > 0 })
	if a.MTLS.Address == "" {
		if hasIDs {
			v.fail("api.mtls.address", "", "is required where api.auth.roles names ids: they come over no other listener")
		}
		return
	}
	if _, err := netip.ParseAddrPort(a.MTLS.Address); err != nil {
		v.fail("api.mtls.address", a.MTLS.Address, "must be ip:port")
	}
	if !hasIDs {
		v.fail("api.auth.roles", "", "must name ids where api.mtls is set: the listener would admit nobody")
	}
}

func (v *problems) api(a API) {
	if len(a.Socket) > maxSocketPath {
		v.fail("api.socket", a.Socket, fmt.Sprintf("has %d characters, at most %d fit a unix socket's path", len(a.Socket), maxSocketPath))
	}
	if errs := strictyaml.Within("api.auth", a.Auth.Validate()); errs != nil {
		*v = append(*v, errs)
	}
	v.apiMTLS(a)
	if _, err := netip.ParseAddrPort(a.Admin); a.Admin != "" && err != nil {
		v.fail("api.admin", a.Admin, "must be ip:port")
	}
	if a.Address == "" {
		return
	}
	ap, err := netip.ParseAddrPort(a.Address)
	switch {
	case err != nil:
		v.fail("api.address", a.Address, "must be ip:port")
	case !ap.Addr().Unmap().IsLoopback():
		v.fail("api.address", a.Address, "must be a loopback address: the token would travel in clear text elsewhere")
	}
}
