package stand

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// readyWithin is generous: the first process of a run may wait for the disk.
const readyWithin = 60 * time.Second

// Object is one mapping of a configuration file.
type Object = map[string]any

// Stand is one scenario's set of clusters.
type Stand struct {
	T   testing.TB
	Dir string
	// Domains by trust domain.
	Domains  map[string]*Domain
	Clusters []*Cluster
}

// Domain is a trust domain with its embedded CA.
type Domain struct {
	TrustDomain string
	CA          *Process
	Socket      string
	Bundle      string
	// SVIDTTL and CATTL are lives of what the CA issues; 0 leaves them to it.
	SVIDTTL, CATTL time.Duration
	// Config has further keys of the CA's file.
	Config Object
	// External domains have another Workload API at Socket than that of an embedded
	// CA: the scenario runs it, and writes Bundle where a peer is to read it.
	External bool
	// Extra are SPIFFE IDs that the CA gives to the tests' own user, besides
	// those of the clusters.
	Extra []string
}

// Cluster is one cluster: its federation, its gateways, its catalog file.
type Cluster struct {
	Name, Cloud, Region, Zone string
	Domain                    *Domain
	Federation                *Process
	Mesh, API                 netip.AddrPort
	Gateways                  []*Gateway
	// Config is the federation's configuration file; change it before Start.
	Config Object
	// CatalogFile is read by the source "file"; see WriteCatalog.
	CatalogFile string
}

// Gateway is one gateway process and its addresses.
type Gateway struct {
	*Process
	Name                       string
	Link, HTTP, Admin, Control netip.AddrPort
	// TCP ways in, by what the scenario calls them.
	TCP map[string]netip.AddrPort
	// Config is the gateway's configuration file; change it before Start.
	Config Object
}

// ID is the federation's SPIFFE ID.
func (c *Cluster) ID() string {
	return "spiffe://" + c.Domain.TrustDomain + "/isthmus/cluster/" + c.Name
}

// Caller is the identity that the cluster's listeners assign.
func (c *Cluster) Caller() string {
	return "spiffe://" + c.Domain.TrustDomain + "/" + c.Name + "/client"
}

// Spec describes one cluster of a stand.
type Spec struct {
	Name, Cloud, Region, Zone string
	TrustDomain               string
	// Gateways is how many; 0 means 1.
	Gateways int
	// TCP are ways in of every gateway: the name of each and the service
	// ("db.default" or "db.default:port").
	TCP map[string]string
}

// New lays out clusters that export everything to each other, import everything
// and allow each other's callers; a scenario changes the files' content before
// Start. Catalogs are files, empty at first.
func New(t testing.TB, specs ...Spec) *Stand {
	t.Helper()
	// short, because Unix sockets live below it
	dir, err := os.MkdirTemp("", "isthmus-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Stand{T: t, Dir: dir, Domains: map[string]*Domain{}}
	for _, spec := range specs {
		s.addCluster(spec)
	}
	s.connect()
	return s
}

func (s *Stand) addCluster(spec Spec) {
	c := &Cluster{
		Name: spec.Name, Cloud: spec.Cloud, Region: spec.Region, Zone: spec.Zone,
		Domain: s.domain(spec.TrustDomain), Mesh: FreePort(s.T), API: FreePort(s.T),
		CatalogFile: filepath.Join(s.Dir, spec.Name, "catalog.yaml"),
	}
	s.Clusters = append(s.Clusters, c)
	c.Config = Object{
		"cluster":  Object{"name": c.Name, "cloud": c.Cloud, "region": c.Region},
		"data_dir": filepath.Join(s.Dir, c.Name, "data"),
		"log":      Object{"level": "debug"},
		"identity": Object{"trust_domain": c.Domain.TrustDomain, "workload_api": "unix://" + c.Domain.Socket},
		"federation": Object{
			"listen":  c.Mesh.String(),
			"api":     Object{"address": c.API.String()},
			"sources": []any{Object{"file": Object{"path": c.CatalogFile}, "allow": []any{"127.0.0.0/8"}}},
			"exports": []any{Object{"name": "all", "services": []any{"*"}, "to": []any{"*"}}},
		},
	}
	c.Federation = NewProcess(s.T, filepath.Join(s.Dir, "logs"), c.Name+"-federation",
		Binary(s.T), "run", "--config", filepath.Join(s.Dir, c.Name, "federation.yaml"))
	for n := range max(1, spec.Gateways) {
		c.Gateways = append(c.Gateways, s.newGateway(c, fmt.Sprintf("gw%d", n+1), spec.TCP))
	}
	c.WriteCatalog(s.T)
}

func (s *Stand) newGateway(c *Cluster, name string, tcp map[string]string) *Gateway {
	g := &Gateway{
		Name: name, Link: FreePort(s.T), HTTP: FreePort(s.T), Admin: FreePort(s.T), Control: FreePort(s.T),
		TCP: map[string]netip.AddrPort{},
	}
	var ways []any
	for way, service := range tcp {
		g.TCP[way] = FreePort(s.T)
		service, port, _ := strings.Cut(service, ":")
		listener := Object{"address": g.TCP[way].String(), "service": service, "caller": c.Caller()}
		if port != "" {
			listener["port"] = port
		}
		ways = append(ways, listener)
	}
	g.Config = Object{
		"cluster":  Object{"name": c.Name, "cloud": c.Cloud, "region": c.Region, "zone": c.Zone},
		"data_dir": filepath.Join(s.Dir, c.Name, "data-"+name),
		"log":      Object{"level": "debug"},
		"identity": Object{"trust_domain": c.Domain.TrustDomain, "workload_api": "unix://" + c.Domain.Socket},
		"gateway": Object{
			"name": name, "federation": c.Mesh.String(), "advertise": []any{g.Link.String()},
			"listen": Object{
				"link": g.Link.String(), "http": g.HTTP.String(), "http_caller": c.Caller(), "tcp": ways,
				"admin": g.Admin.String(), "control": g.Control.String(),
			},
		},
	}
	g.Process = NewProcess(s.T, filepath.Join(s.Dir, "logs"), c.Name+"-"+name,
		Binary(s.T), "run", "--config", filepath.Join(s.Dir, c.Name, name+".yaml"))
	return g
}

func (s *Stand) domain(trustDomain string) *Domain {
	if d, ok := s.Domains[trustDomain]; ok {
		return d
	}
	d := &Domain{
		TrustDomain: trustDomain,
		Socket:      filepath.Join(s.Dir, trustDomain+".sock"),
		Bundle:      filepath.Join(s.Dir, trustDomain+".bundle.json"),
	}
	d.CA = NewProcess(s.T, filepath.Join(s.Dir, "logs"), "ca-"+trustDomain,
		Binary(s.T), "ca", "serve", "--config", filepath.Join(s.Dir, trustDomain+".yaml"))
	s.Domains[trustDomain] = d
	return d
}

// connect makes every cluster every other's peer.
func (s *Stand) connect() {
	var callers []any
	for _, c := range s.Clusters {
		callers = append(callers, c.Caller())
	}
	for _, c := range s.Clusters {
		var peers, imports []any
		for _, o := range s.Clusters {
			if o == c {
				continue
			}
			var addresses []any
			for _, g := range o.Gateways {
				addresses = append(addresses, g.Link.String())
			}
			peer := Object{
				"name": o.Name, "id": o.ID(), "cloud": o.Cloud, "region": o.Region, "gateways": addresses,
				"asserts": []any{"spiffe://" + o.Domain.TrustDomain + "/" + o.Name + "/*"},
			}
			if o.Domain != c.Domain {
				peer["bundle"] = Object{"file": o.Domain.Bundle}
			}
			peers = append(peers, peer)
			imports = append(imports, Object{"name": "from-" + o.Name, "from": o.Name, "services": []any{"*"}})
		}
		f := c.Section()
		f["peers"], f["imports"] = peers, imports
		f["intentions"] = []any{Object{"name": "clients", "services": []any{"*"}, "callers": callers, "action": "allow"}}
	}
}

// Section is the federation section of the cluster's file.
func (c *Cluster) Section() Object { return c.Config["federation"].(Object) }

// Section is the gateway section of the gateway's file.
func (g *Gateway) Section() Object { return g.Config["gateway"].(Object) }

// Start writes the files and starts every process, and waits until each gateway
// is ready.
func (s *Stand) Start() {
	s.T.Helper()
	s.StartCAs()
	for _, c := range s.Clusters {
		s.writeConfig(filepath.Join(s.Dir, c.Name, "federation.yaml"), c.Config)
		for _, g := range c.Gateways {
			s.writeConfig(filepath.Join(s.Dir, c.Name, g.Name+".yaml"), g.Config)
		}
	}
	for _, d := range s.Domains {
		if d.External {
			continue
		}
		Eventually(s.T, readyWithin, "bundle of "+d.TrustDomain, func() error {
			_, err := os.Stat(d.Bundle)
			return err
		})
	}
	for _, c := range s.Clusters {
		c.Federation.Start()
	}
	for _, c := range s.Clusters {
		for _, g := range c.Gateways {
			g.Start()
		}
	}
	for _, c := range s.Clusters {
		for _, g := range c.Gateways {
			g.AwaitReady()
		}
	}
}

// StartCAs starts the embedded CAs that do not run yet: before Start where a
// scenario carries bundles by hand.
func (s *Stand) StartCAs() {
	s.T.Helper()
	for _, d := range s.Domains {
		if !d.External && !d.CA.Running() {
			s.startCA(d)
		}
	}
}

func (s *Stand) startCA(d *Domain) {
	var entries []any
	for _, c := range s.Clusters {
		if c.Domain != d {
			continue
		}
		entries = append(entries, Object{"id": c.ID(), "uid": os.Getuid()})
		for _, g := range c.Gateways {
			entries = append(entries, Object{"id": c.ID() + "/gateway/" + g.Name, "uid": os.Getuid()})
		}
	}
	for _, id := range d.Extra {
		entries = append(entries, Object{"id": id, "uid": os.Getuid()})
	}
	config := Object{
		"trust_domain": d.TrustDomain, "dir": filepath.Join(s.Dir, "ca-"+d.TrustDomain),
		"socket": d.Socket, "bundle_file": d.Bundle, "entries": entries,
	}
	maps.Copy(config, d.Config)
	if d.SVIDTTL != 0 {
		config["svid_ttl"] = d.SVIDTTL.String()
	}
	if d.CATTL != 0 {
		config["ca_ttl"] = d.CATTL.String()
	}
	s.writeConfig(filepath.Join(s.Dir, d.TrustDomain+".yaml"), config)
	d.CA.Start()
}

// writeConfig writes JSON, which is YAML.
func (s *Stand) writeConfig(path string, v Object) {
	s.T.Helper()
	data, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		s.T.Fatal(err)
	}
}

// Service is one service of a catalog file.
type Service struct {
	Name     string
	Port     string
	Protocol string
	// Addresses are the endpoints' ip:port.
	Addresses []string
}

// WriteCatalog replaces the cluster's catalog file in one step.
func (c *Cluster) WriteCatalog(t testing.TB, services ...Service) {
	t.Helper()
	list := []any{}
	for _, s := range services {
		var endpoints []any
		for _, a := range s.Addresses {
			endpoints = append(endpoints, Object{"address": a, "port": s.Port, "zone": c.Zone})
		}
		list = append(list, Object{
			"name": s.Name, "ports": []any{Object{"name": s.Port, "protocol": s.Protocol}}, "endpoints": endpoints,
		})
	}
	data, err := json.Marshal(Object{"services": list})
	if err == nil {
		err = os.MkdirAll(filepath.Dir(c.CatalogFile), 0o700)
	}
	if err == nil {
		err = os.WriteFile(c.CatalogFile+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(c.CatalogFile+".new", c.CatalogFile)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// AwaitReady waits for the gateway's /readyz.
func (g *Gateway) AwaitReady() {
	g.t.Helper()
	Eventually(g.t, readyWithin, g.Process.Name+" ready", func() error {
		_, err := Get("http://" + g.Admin.String() + "/readyz")
		return err
	})
}

// Get reads a URL; an answer other than 200 is an error that shows it.
func Get(url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.500s", url, resp.Status, body)
	}
	return body, err
}
