package gateway

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/dnsway"
	"github.com/isthmus-mesh/isthmus/gateway/ports"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

const (
	// DefaultRange is of the loopback network, whose addresses need no route and no
	// privilege on Linux.
	DefaultRange = "127.77.0.0/16"
	// maxUpstreams bounds the resolvers: each is asked in turn.
	maxUpstreams = 8
	maxDNSTTL    = time.Hour
	maxDNSRate   = 1_000_000
	// maxPorts bounds the rules, each of which is tried for each service.
	maxPorts = 1024
	// dnsPort is of a resolver that is written without one.
	dnsPort = 53
)

// DNS is the way in by name: a DNS server, and listeners on the addresses that it
// answers with.
type DNS struct {
	// Address is ip:port, for UDP and TCP.
	Address string `yaml:"address"`
	// Caller is the SPIFFE ID given to whoever asks, and to whoever connects to a virtual
	// address.
	Caller string `yaml:"caller"`
	// Sources are the source ranges that may ask and connect, needed where Address or the
	// range of Virtual is not on loopback.
	Sources []netip.Prefix `yaml:"sources,omitempty"`
	// TTL of answers, 1s to 1h; default dnsway.DefaultTTL.
	TTL time.Duration `yaml:"ttl,omitempty"`
	// Upstreams are resolvers for all other names, ip or ip:port, asked in this order
	// beginning with the one that answered last; at most 8. None: other names are refused.
	Upstreams []string `yaml:"upstreams,omitempty"`
	// Rate is the queries a second of one source address; default dnsway.DefaultRate.
	Rate float64 `yaml:"queries_per_second,omitempty"`
	// Virtual are the addresses that services get.
	Virtual Virtual `yaml:"virtual,omitempty"`
}

// Virtual are the addresses that services get.
type Virtual struct {
	// Range is what the addresses are of; default DefaultRange. One that is not of
	// loopback is made the host's own by a local route, which needs the capability
	// NET_ADMIN unless the route is there.
	Range string `yaml:"range,omitempty"`
	// Retain is how long a service must be gone before its address may become another's;
	// default virtual.DefaultRetain.
	Retain time.Duration `yaml:"retain,omitempty"`
}

// PortNumber is the number of a port, for callers who know services by name and number.
type PortNumber struct {
	Number uint16 `yaml:"number"`
	// Port is a port name; empty is the only or default port.
	Port string `yaml:"port,omitempty"`
	// Services are those that it is for: "*", "*.namespace" or "name.namespace"; default
	// all.
	Services []policy.ServicePattern `yaml:"services,omitempty"`
}

func (d DNS) withDefaults() DNS {
	setDefault(&d.Virtual.Range, DefaultRange)
	if d.TTL == 0 {
		d.TTL = dnsway.DefaultTTL
	}
	if d.Rate == 0 {
		d.Rate = dnsway.DefaultRate
	}
	if d.Virtual.Retain == 0 {
		d.Virtual.Retain = virtual.DefaultRetain
	}
	return d
}

func (c Config) validateDNS(p *problems) {
	if c.DNS == nil {
		return
	}
	d, at := c.DNS, "listen.dns."
	p.way(at, "address", d.Address, "caller", d.Caller, "sources", d.Sources)
	if d.TTL < time.Second || d.TTL > maxDNSTTL {
		p.add(at+"ttl", d.TTL.String(), fmt.Sprintf("must be between 1s and %v", maxDNSTTL))
	}
	if len(d.Upstreams) > maxUpstreams {
		p.add(at+"upstreams", strconv.Itoa(len(d.Upstreams)), fmt.Sprintf("has more than %d entries", maxUpstreams))
	}
	own, _ := netip.ParseAddrPort(d.Address)
	for i, u := range d.Upstreams {
		a, err := upstream(u)
		switch field := fmt.Sprintf("%supstreams[%d]", at, i); {
		case err != nil:
			p.add(field, u, "must be an IP address, with a port or without")
		case a == own || own.Addr().IsUnspecified() && a.Addr().IsLoopback() && a.Port() == own.Port():
			p.add(field, u, "is this listener: it would ask itself")
		}
	}
	if !(d.Rate >= 1 && d.Rate <= maxDNSRate) {
		p.add(at+"queries_per_second", strconv.FormatFloat(d.Rate, 'g', -1, 64), fmt.Sprintf("must be between 1 and %d", maxDNSRate))
	}
	d.Virtual.validate(p, at+"virtual.", d, c.taken())
}

// taken are the addresses that other listeners have, by field.
func (c Config) taken() map[string]string {
	taken := map[string]string{"listen.link": c.Link, "listen.http": c.HTTP, "listen.admin": c.Admin, "listen.control": c.Control, "listen.dns.address": c.DNS.Address}
	for i := range c.TCP {
		taken[fmt.Sprintf("listen.tcp[%d].address", i)] = c.TCP[i].Address
	}
	for i := range c.UDP {
		taken[fmt.Sprintf("listen.udp[%d].address", i)] = c.UDP[i].Address
	}
	for i := range c.MTLS {
		taken[fmt.Sprintf("listen.mtls[%d].address", i)] = c.MTLS[i].Address
	}
	for i := range c.SNI {
		taken[fmt.Sprintf("listen.sni[%d].address", i)] = c.SNI[i].Address
	}
	for i := range c.Proxy {
		taken[fmt.Sprintf("listen.proxy[%d].address", i)] = c.Proxy[i].Address
	}
	return taken
}

func (v Virtual) validate(p *problems, at string, d *DNS, taken map[string]string) {
	r, err := netip.ParsePrefix(v.Range)
	switch {
	case err != nil:
		p.add(at+"range", v.Range, "must be a prefix, such as "+DefaultRange)
	case virtual.CheckRange(r) != "":
		p.add(at+"range", v.Range, virtual.CheckRange(r))
	case !r.Addr().IsLoopback() && len(d.Sources) == 0:
		p.add("listen.dns.sources", "", fmt.Sprintf("must list source ranges, since %s is not of loopback and whoever connects is taken for caller", v.Range))
	}
	for _, field := range slices.Sorted(maps.Keys(taken)) {
		address := taken[field]
		if a, err := netip.ParseAddrPort(address); err == nil && r.IsValid() && r.Contains(a.Addr()) {
			p.add(field, address, "is of the range of listen.dns.virtual, whose addresses are given to services")
		}
	}
	if v.Retain < 0 {
		p.add(at+"retain", v.Retain.String(), "must not be negative")
	}
}

// validatePorts checks the numbers of ports.
func (c Config) validatePorts(p *problems) {
	const at = "listen.ports"
	if len(c.Ports) > maxPorts {
		p.add(at, strconv.Itoa(len(c.Ports)), fmt.Sprintf("has more than %d entries", maxPorts))
	}
	for i, port := range c.Ports {
		field := fmt.Sprintf("%s[%d].", at, i)
		if port.Number == 0 {
			p.add(field+"number", "0", "must be between 1 and 65535")
		}
		if port.Port != "" {
			if _, err := catalog.ParseClusterName(port.Port); err != nil {
				p.add(field+"port", port.Port, "must be a port name, which is a DNS label")
			}
		}
		for j, s := range port.Services {
			if canonical, err := policy.ParseServicePattern(string(s)); err != nil || canonical != s {
				p.add(fmt.Sprintf("%sservices[%d]", field, j), string(s), "must be *, *.namespace or name.namespace")
			}
		}
	}
}

// portRules are the numbers of ports, as ways in read them.
func (c Config) portRules() []ports.Rule {
	rules := make([]ports.Rule, 0, len(c.Ports))
	for _, p := range c.Ports {
		rules = append(rules, ports.Rule{Number: p.Number, Port: p.Port, Services: p.Services})
	}
	return rules
}

// upstream reads a resolver's address.
func upstream(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, dnsPort), nil
	}
	return netip.ParseAddrPort(s)
}
