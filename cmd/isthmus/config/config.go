package config

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/identity"
)

// The defaults of the file.
const (
	DefaultPath    = "/etc/isthmus/isthmus.yaml"
	DefaultDataDir = "/var/lib/isthmus"
	// DefaultAPISocket is where the operator's commands find the federation.
	DefaultAPISocket = "/run/isthmus/api.sock"
	// DefaultAPIAddress is the same API for tools on the host, with a token.
	DefaultAPIAddress = "127.0.0.1:7480"
	// DefaultMesh is the federation's mTLS listener for its gateways and, through
	// them, its peers.
	DefaultMesh = "127.0.0.1:7483"
)

// Config is one process: which sections it has decides which roles it plays.
type Config struct {
	// Cluster is the own cluster, and where in it this process runs.
	Cluster Cluster `yaml:"cluster"`
	// DataDir holds what each role keeps, in a folder of its own below it
	// (federation, gateway); default DefaultDataDir.
	DataDir string `yaml:"data_dir"`
	// Identity says where SVIDs come from: any SPIFFE Workload API, or files.
	Identity Identity `yaml:"identity"`
	// Log is the form of the log on standard error.
	Log Log `yaml:"log"`
	// Federation makes the process the cluster's federation service.
	Federation *Federation `yaml:"federation"`
	// Gateway makes the process one of the cluster's gateways.
	Gateway *Gateway `yaml:"gateway"`
}

// Cluster is the own cluster. Zone is where this process runs.
type Cluster struct {
	// Name is a DNS label, unique in the federation.
	Name string `yaml:"name"`
	// Cloud, such as aws, gcp or onprem: clusters of one cloud are nearer.
	Cloud string `yaml:"cloud"`
	// Region of the cloud; it needs Cloud.
	Region string `yaml:"region"`
	// Zone where this process runs; it needs Region. On AWS the zone's ID
	// (use1-az4), since zone names differ between accounts.
	Zone string `yaml:"zone"`
	// Labels are what traffic policies may rank the cluster by, here and in its peers
	// (label_priorities); at most 16.
	Labels map[string]string `yaml:"labels"`
	// Auto is "auto": the machine's metadata server (AWS, Google Cloud) is asked at
	// the start for what of cloud, region and zone is not written here.
	Auto string `yaml:"locality"`
	// Metadata is the metadata server's http://host:port; default the clouds' own,
	// http://169.254.169.254.
	Metadata string `yaml:"metadata"`
}

// AutoLocality is the one word of Cluster.Auto.
const AutoLocality = "auto"

// Locality of the process.
func (c Cluster) Locality() catalog.Locality {
	return catalog.Locality{Cloud: c.Cloud, Region: c.Region, Zone: c.Zone}
}

// Locate fills what is not written with what a metadata server has found. What is
// written wins: below a part that differs from what was found nothing is filled.
func (c *Cluster) Locate(found catalog.Locality) {
	for _, p := range []struct {
		have  *string
		found string
	}{{&c.Cloud, found.Cloud}, {&c.Region, found.Region}, {&c.Zone, found.Zone}} {
		if *p.have == "" {
			*p.have = p.found
		}
		if *p.have != p.found {
			return
		}
	}
}

// ClusterName is Name as the catalog's type.
func (c Cluster) ClusterName() catalog.ClusterName { return catalog.ClusterName(c.Name) }

// Identity says where SVIDs come from: any SPIFFE Workload API, or files.
type Identity struct {
	// TrustDomain is the SPIFFE trust domain of the cluster, such as
	// aws.example.org.
	TrustDomain string `yaml:"trust_domain"`
	// WorkloadAPI is "unix:///path" or "tcp://ip:port"; it excludes Files.
	WorkloadAPI string `yaml:"workload_api"`
	// Files are read instead: what spiffe-helper, cert-manager or another program
	// keeps on disk. They hold one SVID, and so serve a process of one role.
	Files *identity.Files `yaml:"files"`
	// ClusterID is the federation's SPIFFE ID; the gateways' are ClusterID +
	// "/gateway/NAME". Default: spiffe://TRUST_DOMAIN/isthmus/cluster/NAME.
	ClusterID string `yaml:"cluster_id"`
	// NoCache leaves key and SVID out of the data directory; the process then
	// cannot start while the Workload API is down.
	NoCache bool `yaml:"no_cache"`
}

// Log is the form of the log on standard error.
type Log struct {
	// Level is debug, info (default), warn or error.
	Level string `yaml:"level"`
	// Format is text (default) or json.
	Format string `yaml:"format"`
}

// Federation is the federation role.
type Federation struct {
	federation.Config `yaml:",inline"`
	// Sources are what the cluster's catalog is read from, merged in this order.
	// Each has exactly one of consul, file and exec.
	Sources []Source `yaml:"sources"`
	// SyncOut writes imported services back into a registry of the own cluster; left
	// out, nothing is written anywhere.
	SyncOut *SyncOut `yaml:"sync_out"`
}

// Gateway is the gateway role.
type Gateway struct {
	gateway.Config `yaml:",inline"`
	// Federation is the host:port of the own federation's mesh listener, or a list:
	// one of each replica. The gateway follows one of them, goes to the next where
	// it falls silent, and reports to all. Default the federation section's of the
	// same file, else DefaultMesh.
	Federation strictyaml.OneOrMore `yaml:"federation"`
}

// environment lets one file serve many hosts: ${NAME} in a value is the variable of
// that name.
var environment = strictyaml.Options{Variables: os.LookupEnv}

// Default is the configuration before the file is read.
func Default() Config {
	return Config{DataDir: DefaultDataDir, Log: Log{Level: "info", Format: "text"}}
}

// fill completes what follows from other fields.
func (c *Config) fill() {
	if c.Identity.ClusterID == "" && c.Identity.TrustDomain != "" && c.Cluster.Name != "" {
		c.Identity.ClusterID = "spiffe://" + c.Identity.TrustDomain + "/isthmus/cluster/" + c.Cluster.Name
	}
	if f := c.Federation; f != nil {
		set(&f.Listen, DefaultMesh)
		set(&f.DataDir, filepath.Join(c.DataDir, "federation"))
		if f.API.Socket == "" && f.API.Address == "" {
			f.API.Socket, f.API.Address = DefaultAPISocket, DefaultAPIAddress
		}
		for i := range f.Sources {
			f.Sources[i].fill()
		}
	}
	if g := c.Gateway; g != nil {
		set(&g.DataDir, filepath.Join(c.DataDir, "gateway"))
		if g.Name == "" {
			host, _ := os.Hostname() // a name that is no DNS label is reported
			g.Name, _, _ = strings.Cut(strings.ToLower(host), ".")
		}
		if len(g.Federation) == 0 {
			address := DefaultMesh
			if c.Federation != nil {
				address = cmp.Or(c.Federation.Advertise, c.Federation.Listen)
			}
			g.Federation = strictyaml.OneOrMore{address}
		}
		g.Config = g.WithDefaults()
	}
}

// FederationID is the federation's SPIFFE ID.
func (c *Config) FederationID() (spiffeid.ID, error) {
	return spiffeid.FromString(c.Identity.ClusterID)
}

// GatewayID is the gateway's SPIFFE ID.
func (c *Config) GatewayID() (spiffeid.ID, error) {
	return spiffeid.FromString(c.Identity.ClusterID + "/gateway/" + c.Gateway.Name)
}

// CacheFile is where a role keeps its SVID, or "".
func (c *Config) CacheFile(role string) string {
	if c.Identity.NoCache {
		return ""
	}
	return filepath.Join(c.DataDir, role, "identity.json")
}

func set(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
