package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/decisions"
)

// The defaults of Config. Ports are those of design section 11.
const (
	DefaultLink    = "0.0.0.0:7443"
	DefaultAdmin   = "127.0.0.1:7481"
	DefaultControl = "127.0.0.1:7482"
	DefaultDataDir = "/var/lib/isthmus/gateway"
	// DefaultDrainTimeout is how long streams may finish: most requests end
	// within a second, and service managers kill after 90 s.
	DefaultDrainTimeout = 30 * time.Second
)

// The words of Config.TLSLane.
const (
	TLSLaneOn  = "on"
	TLSLaneOff = "off"
)

// Config is the gateway section of the configuration file. The zero value of a
// field is its default.
type Config struct {
	// Name is a DNS label, unique in the cluster. It is the last part of the
	// gateway's SPIFFE ID. Default the first label of the host's name.
	Name string `yaml:"name"`
	// Advertise are the host:port at which peers' gateways reach the link port,
	// tried in order. Empty: this gateway takes no inbound links, it dials out.
	Advertise []string `yaml:"advertise,omitempty"`
	// TLSLane says whether links fall back to TLS over TCP where UDP does not come
	// through, on the port number of Link: on or off (default).
	TLSLane string `yaml:"tls_lane,omitempty"`
	// Listen is what the gateway listens on.
	Listen `yaml:"listen,omitempty"`
	// Consul is the service mesh that the gateway joins; none by default.
	Consul *Consul `yaml:"consul,omitempty"`
	// DataDir keeps the last good route tables; default DefaultDataDir.
	DataDir string `yaml:"data_dir,omitempty"`
	// DrainTimeout is how long streams may finish after the stop signal;
	// default DefaultDrainTimeout.
	DrainTimeout time.Duration `yaml:"drain_timeout,omitempty"`
	// FailBack is the pace at which a cluster or service that was out gets its
	// load back.
	FailBack FailBack `yaml:"fail_back,omitempty"`
	// AccessLog says which connections and requests are logged: all (default),
	// errors or off.
	AccessLog account.Log `yaml:"access_log,omitempty"`
	// DecisionLog says which verdicts of intentions are logged.
	DecisionLog DecisionLog `yaml:"decision_log,omitempty"`
	// Explain says which calls are kept to be explained afterwards.
	Explain Explain `yaml:"explain,omitempty"`
	// Limits bound what the process takes on.
	Limits Limits `yaml:"limits,omitempty"`
}

// DecisionLog is what is logged of who was allowed or denied what. Denials always are,
// a line a second for each caller, service and rule at most, with their count.
type DecisionLog struct {
	// Allowed says which allowed calls are logged, too: off (default), sample (a line
	// a minute for each caller, service and rule, with their count) or all.
	Allowed decisions.Allowed `yaml:"allowed,omitempty"`
}

// FailBack is the pace of a fail-back; the zero value is route.DefaultRamp: 60 s,
// then 10 % per 10 s. It is never faster than ready endpoints come back, and each relapse
// doubles Hold, up to five times.
type FailBack struct {
	// Hold is how long it must have been well before it gets anything.
	Hold time.Duration `yaml:"hold,omitempty"`
	// Step is the share of its load, above 0 and at most 1, that it gets more per
	// Interval.
	Step     float64       `yaml:"step,omitempty"`
	Interval time.Duration `yaml:"interval,omitempty"`
}

func (f FailBack) validate(p *problems) {
	if f.Hold < 0 {
		p.add("fail_back.hold", f.Hold.String(), "must not be negative")
	}
	if f.Step <= 0 || f.Step > 1 {
		p.add("fail_back.step", strconv.FormatFloat(f.Step, 'g', -1, 64), "must be above 0 and at most 1")
	}
	if f.Interval <= 0 {
		p.add("fail_back.interval", f.Interval.String(), "must be above 0")
	}
}

// Listen holds the addresses of a gateway, each ip:port. An empty HTTP or
// Control turns that listener off, as no entry of TCP does.
type Listen struct {
	// Link is the public port, of UDP and of TCP (TLSLane); default DefaultLink.
	Link string `yaml:"link,omitempty"`
	// HTTP takes HTTP/1.1, HTTP/2 (h2c) and gRPC by authority.
	HTTP string `yaml:"http,omitempty"`
	// HTTPCaller is the SPIFFE ID given to whoever calls on HTTP.
	HTTPCaller string `yaml:"http_caller,omitempty"`
	// HTTPSources are the source ranges that may connect to HTTP, needed where
	// it is not on loopback.
	HTTPSources []netip.Prefix `yaml:"http_sources,omitempty"`
	// TCP are listeners of one service each.
	TCP []TCPListener `yaml:"tcp,omitempty"`
	// UDP are listeners of one UDP service each.
	UDP []UDPListener `yaml:"udp,omitempty"`
	// MTLS are listeners of one service each, for workloads that prove who they are.
	MTLS []MTLSListener `yaml:"mtls,omitempty"`
	// SNI are listeners for TLS that is carried as it is, by its server name.
	SNI []SNIListener `yaml:"sni,omitempty"`
	// DNS answers for names of the mesh with addresses that it listens on.
	DNS *DNS `yaml:"dns,omitempty"`
	// Proxy are listeners for HTTP CONNECT and SOCKS5.
	Proxy []ProxyListener `yaml:"proxy,omitempty"`
	// Ports are the numbers by which callers of DNS and Proxy know ports, the first that
	// fits; default the number that a port is named by or that is well known by its name, 80
	// for http and grpc, 443 for tls.
	Ports []PortNumber `yaml:"ports,omitempty"`
	// Admin serves metrics and readiness; default DefaultAdmin.
	Admin string `yaml:"admin,omitempty"`
	// Control lets the own federation reach its peers; default DefaultControl.
	Control string `yaml:"control,omitempty"`
	// ControlAdvertise is the host:port told to the federation where it differs
	// from Control (all addresses, a translated address).
	ControlAdvertise string `yaml:"control_advertise,omitempty"`
	// WaysAdvertise is the IP address by which workloads reach HTTP and TCP where
	// these listen on all addresses; the federation is told, for its sync_out.
	WaysAdvertise string `yaml:"ways_advertise,omitempty"`
}

// TCPListener is the way in of one service: every connection goes to it.
type TCPListener struct {
	Address string `yaml:"address"`
	// Service is "name.namespace", or "name" in the default namespace.
	Service string `yaml:"service"`
	// Port is a port name; empty is the only or default port.
	Port string `yaml:"port,omitempty"`
	// Caller is the SPIFFE ID given to whoever connects.
	Caller string `yaml:"caller"`
	// Sources are the source ranges that may connect, needed where Address is
	// not on loopback.
	Sources []netip.Prefix `yaml:"sources,omitempty"`
	// ProxyProtocol is for connections that come through a balancer, which says for whom
	// they are; Sources then are about those. Each connection must have its header.
	ProxyProtocol *ProxyProtocol `yaml:"proxy_protocol,omitempty"`
}

// WithDefaults returns the configuration with each empty field at its default.
func (c Config) WithDefaults() Config {
	setDefault(&c.TLSLane, TLSLaneOff)
	setDefault(&c.Link, DefaultLink)
	setDefault(&c.Admin, DefaultAdmin)
	setDefault(&c.Control, DefaultControl)
	setDefault(&c.DataDir, DefaultDataDir)
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.FailBack == (FailBack{}) {
		c.FailBack = FailBack(route.DefaultRamp())
	}
	if c.AccessLog == "" {
		c.AccessLog = account.LogAll
	}
	if c.DecisionLog.Allowed == "" {
		c.DecisionLog.Allowed = decisions.Off
	}
	c.Explain = c.Explain.withDefaults()
	c.Limits = c.Limits.withDefaults()
	if c.Consul != nil {
		c.Consul = new(c.Consul.withDefaults())
	}
	if c.DNS != nil {
		c.DNS = new(c.DNS.withDefaults())
	}
	return c
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

// Validate reports every problem of the configuration, each with field, value
// and rule. It touches neither network nor files. Empty fields are judged as
// their defaults.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var p problems
	if _, err := catalog.ParseClusterName(c.Name); err != nil { // the same rule: a DNS label
		p.add("name", c.Name, "must be a DNS label (a-z, 0-9, inner \"-\")")
	}
	for i, a := range c.Advertise {
		p.hostPort(fmt.Sprintf("advertise[%d]", i), a)
	}
	if c.TLSLane != TLSLaneOn && c.TLSLane != TLSLaneOff {
		p.add("tls_lane", c.TLSLane, "must be on or off")
	}
	p.address("listen.link", c.Link)
	p.address("listen.admin", c.Admin)
	p.address("listen.control", c.Control)
	if c.ControlAdvertise != "" {
		p.hostPort("listen.control_advertise", c.ControlAdvertise)
	}
	if a, err := netip.ParseAddr(c.WaysAdvertise); c.WaysAdvertise != "" && (err != nil || a.IsUnspecified() || a.Zone() != "") {
		p.add("listen.ways_advertise", c.WaysAdvertise, "must be an IP address that workloads can dial")
	}
	if c.HTTP != "" {
		p.way("listen.", "http", c.HTTP, "http_caller", c.HTTPCaller, "http_sources", c.HTTPSources)
	}
	seen := make(map[string]int, len(c.TCP))
	for i, l := range c.TCP {
		l.validate(&p, fmt.Sprintf("listen.tcp[%d].", i))
		if j, dup := seen[l.Address]; dup && !ephemeral(l.Address) {
			p.add(fmt.Sprintf("listen.tcp[%d].address", i), l.Address, fmt.Sprintf("is already taken by listen.tcp[%d]", j))
		}
		seen[l.Address] = i
	}
	c.validateUDP(&p)
	c.validateMTLS(&p)
	c.validateSNI(&p)
	c.validateDNS(&p)
	c.validateProxy(&p)
	c.validatePorts(&p)
	if c.DrainTimeout < 0 {
		p.add("drain_timeout", c.DrainTimeout.String(), "must not be negative")
	}
	c.FailBack.validate(&p)
	if !c.AccessLog.Valid() {
		p.add("access_log", string(c.AccessLog), "must be all, errors or off")
	}
	if !c.DecisionLog.Allowed.Valid() {
		p.add("decision_log.allowed", string(c.DecisionLog.Allowed), "must be off, sample or all")
	}
	c.Explain.validate(&p)
	c.Limits.validate(&p)
	return errors.Join(p...)
}

func (l TCPListener) validate(p *problems, at string) {
	p.way(at, "address", l.Address, "caller", l.Caller, "sources", l.Sources)
	p.service(at, l.Service, l.Port)
	l.ProxyProtocol.validate(p, at+"proxy_protocol.")
}
