package dns

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// The defaults and bounds of a Config.
const (
	DefaultTimeout = 2 * time.Second
	minTimeout     = 50 * time.Millisecond
	maxTimeout     = 30 * time.Second
	// DefaultMinTTL keeps records with a TTL of 0, which Consul gives by
	// default, from being asked for all the time.
	DefaultMinTTL = 5 * time.Second
	minMinTTL     = 100 * time.Millisecond
	// DefaultMaxTTL bounds how old an answer gets, whatever its TTL says.
	DefaultMaxTTL = 5 * time.Minute
	maxMaxTTL     = 24 * time.Hour
	maxResolvers  = 16
	maxServices   = 10_000
	// defaultPort is of a resolver that is written without one.
	defaultPort = 53
)

// Config of the DNS as a source.
type Config struct {
	// Resolvers are addresses, with a port or without: recursive ones, or the
	// authoritative ones of the names (Consul's agents are). They are asked in
	// this order, beginning with the one that answered last.
	Resolvers []string `yaml:"resolvers"`
	// Services are the names that are read.
	Services []Service `yaml:"services"`
	// TCP asks over TCP from the start. Consul needs it: its answers over UDP have
	// what fits, and do not say that there is more, unless it is told to.
	TCP bool `yaml:"tcp,omitempty"`
	// Timeout of one query to one resolver.
	Timeout time.Duration `yaml:"timeout,omitempty"`
	// MinTTL and MaxTTL bound how long an answer is used before it is asked for
	// again.
	MinTTL time.Duration `yaml:"min_ttl,omitempty"`
	MaxTTL time.Duration `yaml:"max_ttl,omitempty"`
}

// Service is one name as one port of a service.
type Service struct {
	// Service is the catalog's name. Several entries may name the same one, each
	// with a port of its own.
	Service catalog.ServiceName `yaml:"service"`
	// SRV is the name of SRV records, which bring ports and weights.
	SRV string `yaml:"srv,omitempty"`
	// Host is a name of A and AAAA records; Port is what they serve.
	Host string `yaml:"host,omitempty"`
	Port uint16 `yaml:"port,omitempty"`
	// PortName and Protocol are the catalog's; default: "default", tcp.
	PortName string           `yaml:"port_name,omitempty"`
	Protocol catalog.Protocol `yaml:"protocol,omitempty"`
	// Family says which addresses are asked for; default: both.
	Family Family `yaml:"family,omitempty"`
}

// Family is a choice of addresses.
type Family string

// The families.
const (
	Both Family = "both"
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// types are the records that hold a family's addresses.
func (f Family) types() []uint16 {
	switch f {
	case IPv4:
		return []uint16{dns.TypeA}
	case IPv6:
		return []uint16{dns.TypeAAAA}
	case Both:
	}
	return []uint16{dns.TypeA, dns.TypeAAAA}
}

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.MinTTL = cmp.Or(c.MinTTL, DefaultMinTTL)
	c.MaxTTL = cmp.Or(c.MaxTTL, max(DefaultMaxTTL, c.MinTTL))
	c.Services = slices.Clone(c.Services)
	for i := range c.Services {
		s := &c.Services[i]
		s.PortName = cmp.Or(s.PortName, catalog.DefaultPort)
		s.Protocol = cmp.Or(s.Protocol, catalog.TCP)
		s.Family = cmp.Or(s.Family, Both)
	}
	return c
}

// Validate reports every problem; it resolves nothing.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	list := func(field string, n, most int) {
		switch {
		case n == 0:
			fail(field, nil, "is missing")
		case n > most:
			fail(field, n, fmt.Sprintf("has more than %d entries", most))
		}
	}
	list("resolvers", len(c.Resolvers), maxResolvers)
	for i, r := range c.Resolvers {
		if _, err := resolverAddress(r); err != nil {
			fail(fmt.Sprintf("resolvers[%d]", i), r, "must be an IP address, with a port or without")
		}
	}
	for _, d := range []struct {
		field            string
		value, low, high time.Duration
	}{
		{"timeout", c.Timeout, minTimeout, maxTimeout}, {"min_ttl", c.MinTTL, minMinTTL, maxMaxTTL}, {"max_ttl", c.MaxTTL, c.MinTTL, maxMaxTTL},
	} {
		if d.value < d.low || d.value > d.high {
			fail(d.field, d.value.String(), fmt.Sprintf("must be between %v and %v", d.low, d.high))
		}
	}
	list("services", len(c.Services), maxServices)
	ports := map[string]int{}
	for i, s := range c.Services {
		field := fmt.Sprintf("services[%d]", i)
		errs = append(errs, strictyaml.Within(field, s.validate()))
		key := s.Service.String() + " " + s.PortName
		if first, twice := ports[key]; twice && !s.Service.IsZero() {
			fail(field+".port_name", s.PortName, fmt.Sprintf("is the port of services[%d], too", first))
		} else {
			ports[key] = i
		}
	}
	return errors.Join(errs...)
}

func (s Service) validate() error {
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	switch {
	case s.Service.IsZero():
		fail("service", nil, "is missing")
	case s.Service.IsFederation():
		fail("service", s.Service.String(), "federation.* is reserved")
	}
	if (s.SRV == "") == (s.Host == "") {
		fail("srv", s.SRV, "must have either srv or host")
	}
	for field, name := range map[string]string{"srv": s.SRV, "host": s.Host} {
		if labels, ok := dns.IsDomainName(name); name != "" && (!ok || labels < 1) {
			fail(field, name, "must be a domain name")
		}
	}
	if s.Host != "" && s.Port == 0 {
		fail("port", nil, "is missing: A and AAAA records have none")
	}
	if s.SRV != "" && s.Port != 0 {
		fail("port", s.Port, "comes with the SRV records")
	}
	if _, err := catalog.ParseClusterName(s.PortName); err != nil { // the same rule: a DNS label
		fail("port_name", s.PortName, "must be a DNS label")
	}
	if !s.Protocol.Valid() {
		fail("protocol", string(s.Protocol), fmt.Sprintf("must be one of %v", catalog.Protocols()))
	}
	if !slices.Contains([]Family{Both, IPv4, IPv6}, s.Family) {
		fail("family", string(s.Family), "must be both, ipv4 or ipv6")
	}
	return errors.Join(errs...)
}

// resolverAddress reads "ip" and "ip:port".
func resolverAddress(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, defaultPort), nil
	}
	a, err := netip.ParseAddrPort(s)
	if err == nil && a.Port() == 0 {
		err = errors.New("port 0")
	}
	return a, err
}
