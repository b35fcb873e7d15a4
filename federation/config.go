package federation

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// The defaults of Config, those of a host that runs one federation.
const (
	DefaultListen     = "127.0.0.1:7483"
	DefaultAPISocket  = "/run/isthmus/api.sock"
	DefaultAPIAddress = "127.0.0.1:7480"
	DefaultDataDir    = "/var/lib/isthmus/federation"
)

const (
	// MaxPeers bounds the clusters that one federation exchanges with: each costs
	// a connection both ways and a catalog in memory.
	MaxPeers = 200
	// maxBootstraps bounds the bootstrap addresses of one peer: they are tried in
	// turn, and a roster replaces them after the first exchange.
	maxBootstraps = 16
	// maxSocketPath is what sockaddr_un holds on every system that we run on
	// (104 on macOS, 108 on Linux, with the final NUL).
	maxSocketPath = 103
)

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
	Peers     []Peer `yaml:"peers"`
	// Exports, Imports, Intentions and Traffic are the policy that the file holds.
	// The REST API lists them with origin "config" and refuses to change them.
	Exports    []policy.Export    `yaml:"exports"`
	Imports    []policy.Import    `yaml:"imports"`
	Intentions []policy.Intention `yaml:"intentions"`
	Traffic    []policy.Traffic   `yaml:"traffic_policies"`
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
}

// Peer is another cluster: who it is, where its gateways are first found, and
// which callers it may speak for.
type Peer struct {
	Name catalog.ClusterName `yaml:"name"`
	// ID is the SPIFFE ID of the peer's federation; its gateways' are
	// ID/gateway/NAME. Nothing that the peer sends can change it.
	ID string `yaml:"id"`
	// Gateways are bootstrap addresses (host:port), used until the peer has sent
	// its roster. Empty: the peer dials us.
	Gateways []string `yaml:"gateways"`
	// Bundle is the first bundle of the peer's trust domain. It may be left out
	// where the peer shares our trust domain or the Workload API knows its bundle.
	Bundle BundleFile `yaml:"bundle"`
	// Asserts are the caller IDs that the peer's gateways may speak for; empty:
	// none, and then no intention can allow one of its callers. Patterns of two
	// peers must not overlap.
	Asserts []policy.IDPattern `yaml:"asserts"`
	// Cloud and Region place the peer.
	Cloud  string `yaml:"cloud"`
	Region string `yaml:"region"`
}

// BundleFile names a SPIFFE bundle document on disk.
type BundleFile struct {
	File string `yaml:"file"`
}

// Locality is where the peer runs.
func (p Peer) Locality() catalog.Locality { return catalog.Locality{Cloud: p.Cloud, Region: p.Region} }

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
	v.peers(c.Peers)
	v = append(v, c.Policy().Validate())
	v.policyPeers(&c)
	return errors.Join(v...)
}

// policyPeers refuses rules about clusters that are no peers: they would do
// nothing, silently.
func (v *problems) policyPeers(c *Config) {
	known := func(name string) bool {
		return name == "*" || slices.ContainsFunc(c.Peers, func(p Peer) bool { return string(p.Name) == name })
	}
	for i, e := range c.Exports {
		for j, to := range e.To {
			if !known(to) {
				v.fail(fmt.Sprintf("exports[%d].to[%d]", i, j), to, "is no peer of this configuration")
			}
		}
	}
	for i, m := range c.Imports {
		if !known(string(m.From)) {
			v.fail(fmt.Sprintf("imports[%d].from", i), string(m.From), "is no peer of this configuration")
		}
	}
}

type problems []error

func (v *problems) fail(field string, value any, rule string) {
	*v = append(*v, strictyaml.Fail(field, value, rule))
}

func (v *problems) hostPort(field, value string) {
	if rule := hostPortRule(value); rule != "" {
		v.fail(field, value, rule)
	}
}

// hostPortRule says what is wrong with a host:port, or "".
func hostPortRule(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "must be host:port"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "must end in a port number, 0 to 65535"
	}
	return ""
}

func (v *problems) api(a API) {
	if len(a.Socket) > maxSocketPath {
		v.fail("api.socket", a.Socket, fmt.Sprintf("has %d characters, at most %d fit a unix socket's path", len(a.Socket), maxSocketPath))
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

func (v *problems) peers(peers []Peer) {
	if len(peers) > MaxPeers {
		v.fail("peers", len(peers), fmt.Sprintf("has more than %d entries", MaxPeers))
		return
	}
	names, ids := map[catalog.ClusterName]int{}, map[string]int{}
	for i, p := range peers {
		at := fmt.Sprintf("peers[%d]", i)
		if _, err := catalog.ParseClusterName(string(p.Name)); err != nil {
			v.fail(at+".name", string(p.Name), err.Error())
		} else if first, twice := names[p.Name]; twice {
			v.fail(at+".name", string(p.Name), fmt.Sprintf("is the name of peers[%d] already", first))
		} else {
			names[p.Name] = i
		}
		if id, err := spiffeid.FromString(p.ID); err != nil {
			v.fail(at+".id", p.ID, "must be the SPIFFE ID of the peer's federation: "+err.Error())
		} else if id.Path() == "" {
			v.fail(at+".id", p.ID, "must have a path: a trust domain alone is no federation")
		} else if first, twice := ids[p.ID]; twice {
			v.fail(at+".id", p.ID, fmt.Sprintf("is the id of peers[%d] already: one identity, one cluster", first))
		} else {
			ids[p.ID] = i
		}
		v.peerAddresses(at, p)
		v.asserts(at, peers[:i], p)
	}
}

func (v *problems) peerAddresses(at string, p Peer) {
	if len(p.Gateways) > maxBootstraps {
		v.fail(at+".gateways", len(p.Gateways), fmt.Sprintf("has more than %d entries", maxBootstraps))
	}
	for j, g := range p.Gateways {
		v.hostPort(fmt.Sprintf("%s.gateways[%d]", at, j), g)
	}
	if err := p.Locality().Validate(); err != nil {
		v.fail(at+".region", p.Region, err.Error())
	}
}

// asserts checks that no two peers may speak for the same caller: an intention
// that allows the caller would then allow both.
func (v *problems) asserts(at string, before []Peer, p Peer) {
	for j, a := range p.Asserts {
		field := fmt.Sprintf("%s.asserts[%d]", at, j)
		if _, err := policy.ParseIDPattern(string(a)); err != nil {
			v.fail(field, string(a), err.Error())
			continue
		}
		for k, o := range before {
			if slices.ContainsFunc(o.Asserts, a.Overlap) {
				v.fail(field, string(a), fmt.Sprintf("overlaps with what peers[%d] (%s) asserts; one caller, one cluster", k, o.Name))
			}
		}
	}
}
