package demo

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"time"
)

// Kind is what a process of the demo does.
type Kind string

// The kinds of process.
const (
	KindCA         Kind = "ca"
	KindFederation Kind = "federation"
	KindGateway    Kind = "gateway"
	KindService    Kind = "service"
)

// Process is one process of the demo.
type Process struct {
	Kind Kind
	// Cluster is empty for a CA, which serves a trust domain.
	Cluster string
	// Name is unique among the cluster's processes.
	Name string
	// Args are the binary's arguments.
	Args []string
	// Log is the file that takes its output.
	Log string
}

// ID is how the command line names the process: "cluster/name", or the name of
// a process that belongs to no cluster.
func (p Process) ID() string {
	if p.Cluster == "" {
		return p.Name
	}
	return p.Cluster + "/" + p.Name
}

// Cluster is one cluster of the demo.
type Cluster struct {
	Name, Cloud, Region, Zone string
	TrustDomain               string
	Mesh, API                 netip.AddrPort
	Gateways                  []Gateway
	Services                  []Service
}

// ID is the federation's SPIFFE ID.
func (c Cluster) ID() string {
	return "spiffe://" + c.TrustDomain + "/isthmus/cluster/" + c.Name
}

// Caller is the identity that the cluster's gateways give to their callers.
func (c Cluster) Caller() string {
	return "spiffe://" + c.TrustDomain + "/" + c.Name + "/shop"
}

// Gateway is one gateway of a cluster. Public is the relay's address, which
// peers dial; Link is the socket behind it.
type Gateway struct {
	Name                       string
	Link, HTTP, Admin, Control netip.AddrPort
	TCP                        map[string]netip.AddrPort
	Public                     netip.AddrPort
}

// Service is one instance of a small HTTP service.
type Service struct {
	Name    string
	Address netip.AddrPort
}

// Domain is a trust domain and its embedded CA.
type Domain struct {
	TrustDomain string
	Socket      string
	Bundle      string
	Admin       netip.AddrPort
}

// Plan is the whole demo.
type Plan struct {
	Dir      string
	Clusters []Cluster
	Domains  []Domain
	// OneWay is the delay between two clusters, by their names.
	OneWay func(a, b string) time.Duration
}

// serviceNames are what every cluster runs, but for the smallest.
var serviceNames = map[string][]string{
	"aws-us-east-1":   {"web", "billing", "inventory"},
	"gcp-us-central1": {"web", "billing", "inventory"},
	"onprem-ams":      {"billing", "inventory"},
}

// NewPlan lays out the demo below dir. rtt is the round trip between the two
// nearest clusters; the others are 3 and 5 times as far. port hands out free
// loopback addresses.
func NewPlan(dir string, rtt time.Duration, port func() (netip.AddrPort, error)) (*Plan, error) {
	const cloud, onprem = "cloud.isthmus.demo", "onprem.isthmus.demo"
	p := &Plan{Dir: dir, OneWay: delays(rtt)}
	for _, td := range []string{cloud, onprem} {
		p.Domains = append(p.Domains, Domain{
			TrustDomain: td,
			Socket:      socketPath(dir, filepath.Join("ca", td+".sock")),
			Bundle:      filepath.Join(dir, "ca", td+".bundle.json"),
		})
	}
	p.Clusters = []Cluster{
		{Name: "aws-us-east-1", Cloud: "aws", Region: "us-east-1", Zone: "use1-az4", TrustDomain: cloud},
		{Name: "gcp-us-central1", Cloud: "gcp", Region: "us-central1", Zone: "us-central1-a", TrustDomain: cloud},
		{Name: "onprem-ams", Cloud: "onprem", Region: "ams", Zone: "rack-1", TrustDomain: onprem},
	}
	var err error
	take := func() (a netip.AddrPort) {
		if err == nil {
			a, err = port()
		}
		return a
	}
	for i := range p.Domains {
		p.Domains[i].Admin = take()
	}
	for i := range p.Clusters {
		c := &p.Clusters[i]
		c.Mesh, c.API = take(), take()
		gateways := 1
		if i == 0 {
			gateways = 2
		}
		for n := range gateways {
			g := Gateway{
				Name: fmt.Sprintf("gateway-%d", n+1),
				Link: take(), HTTP: take(), Admin: take(), Control: take(),
				TCP: map[string]netip.AddrPort{},
			}
			for _, s := range serviceNames[p.Clusters[0].Name] {
				g.TCP[s] = take()
			}
			c.Gateways = append(c.Gateways, g)
		}
		for _, s := range serviceNames[c.Name] {
			c.Services = append(c.Services, Service{Name: s, Address: take()})
		}
	}
	return p, err
}

// delays is half the round trip between two clusters.
func delays(rtt time.Duration) func(a, b string) time.Duration {
	return func(a, b string) time.Duration {
		switch {
		case a == b:
			return 0
		case a != "onprem-ams" && b != "onprem-ams":
			return rtt / 2
		case a == "aws-us-east-1" || b == "aws-us-east-1":
			return rtt * 3 / 2
		default:
			return rtt * 5 / 2
		}
	}
}

// Processes lists every process, in the order in which they start: identities
// first, then what needs them.
func (p *Plan) Processes() []Process {
	var out []Process
	add := func(kind Kind, cluster, name string, args ...string) {
		log := filepath.Join(p.Dir, "logs", name+".log")
		if cluster != "" {
			log = filepath.Join(p.Dir, "logs", cluster+"-"+name+".log")
		}
		out = append(out, Process{Kind: kind, Cluster: cluster, Name: name, Args: args, Log: log})
	}
	for _, d := range p.Domains {
		add(KindCA, "", "ca-"+d.TrustDomain, "ca", "serve", "--config", p.caConfig(d))
	}
	for _, c := range p.Clusters {
		for _, s := range c.Services {
			add(KindService, c.Name, s.Name, "demo", "service",
				"--name", s.Name, "--cluster", c.Name, "--zone", c.Zone,
				"--listen", s.Address.String())
		}
	}
	for _, c := range p.Clusters {
		add(KindFederation, c.Name, "federation", "run", "--config", p.federationConfig(c))
	}
	for _, c := range p.Clusters {
		for _, g := range c.Gateways {
			add(KindGateway, c.Name, g.Name, "run", "--config", p.gatewayConfig(c, g))
		}
	}
	return out
}

func (p *Plan) caConfig(d Domain) string {
	return filepath.Join(p.Dir, "ca", d.TrustDomain+".yaml")
}

func (p *Plan) federationConfig(c Cluster) string {
	return filepath.Join(p.Dir, c.Name, "federation.yaml")
}

func (p *Plan) gatewayConfig(c Cluster, g Gateway) string {
	return filepath.Join(p.Dir, c.Name, g.Name+".yaml")
}

func (p *Plan) domain(trustDomain string) Domain {
	for _, d := range p.Domains {
		if d.TrustDomain == trustDomain {
			return d
		}
	}
	return Domain{}
}
