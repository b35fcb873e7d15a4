package ports

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Rule gives a port of services a number.
type Rule struct {
	Number uint16
	// Port is a port's name; "" the only port, or the one named default.
	Port string
	// Services are those that it is for; none means all.
	Services []policy.ServicePattern
}

func (r *Rule) fits(s catalog.ServiceName) bool {
	return len(r.Services) == 0 || slices.ContainsFunc(r.Services, func(p policy.ServicePattern) bool { return p.Match(s) })
}

// Number is a port and its number.
type Number struct {
	Number uint16
	Port   string
	// UDP says that it is a number of UDP; of TCP otherwise.
	UDP bool
}

// wellKnown are numbers by the names that people give to ports: those of IANA's
// registry, and what is as common.
var wellKnown = map[string]uint16{ //nolint:gochecknoglobals // a constant
	"ssh": 22, "smtp": 25, "http": 80, "web": 80, "ldap": 389, "https": 443, "submission": 587, "ldaps": 636,
	"mssql": 1433, "mqtt": 1883, "etcd": 2379, "mysql": 3306, "mariadb": 3306, "nats": 4222, "postgres": 5432,
	"postgresql": 5432, "amqp": 5672, "redis": 6379, "cassandra": 9042, "prometheus": 9090, "kafka": 9092,
	"elasticsearch": 9200, "memcached": 11211, "mongodb": 27017, "mongo": 27017,
}

// wellKnownUDP are those of UDP.
var wellKnownUDP = map[string]uint16{ //nolint:gochecknoglobals // a constant
	"dns": 53, "domain": 53, "tftp": 69, "ntp": 123, "snmp": 161, "snmptrap": 162, "quic": 443, "http3": 443, "h3": 443,
	"ike": 500, "syslog": 514, "radius": 1812, "stun": 3478, "sip": 5060, "coap": 5683, "statsd": 8125, "wireguard": 51820,
}

// Of are the numbers of a service's ports, the first of a port being the one that SRV
// records tell. Rules come first, in their order; a port that no rule knows has the number
// that it is named by, or that is well known by its name, or that its protocol has by
// default. A number is given once for TCP and once for UDP.
func Of(rules []Rule, s *route.Service) []Number {
	var out []Number
	add := func(number uint16, p catalog.Port) {
		udp := p.Protocol == catalog.UDP
		if number != 0 && !slices.ContainsFunc(out, func(n Number) bool { return n.Number == number && n.UDP == udp }) {
			out = append(out, Number{number, p.Name, udp})
		}
	}
	for i := range rules {
		r := &rules[i]
		if p, ok := catalog.FindPort(s.Ports, r.Port); ok && r.fits(s.Name) {
			add(r.Number, p)
		}
	}
	unnamed, _ := catalog.FindPort(s.Ports, "")
	for _, p := range s.Ports {
		if slices.ContainsFunc(out, func(n Number) bool { return n.Port == p.Name }) {
			continue
		}
		byName, err := strconv.ParseUint(p.Name, 10, 16)
		if err != nil {
			byName = 0 // which is no number
		}
		byProtocol := uint16(0)
		if p.Name == unnamed.Name {
			byProtocol = map[catalog.Protocol]uint16{catalog.HTTP: 80, catalog.GRPC: 80, catalog.TLS: 443}[p.Protocol]
		}
		known := wellKnown
		if p.Protocol == catalog.UDP {
			known = wellKnownUDP
		}
		add(cmp.Or(uint16(byName), known[p.Name], byProtocol), p)
	}
	return out
}

// Find is the port that a caller means by a number of TCP: the one that has it, or the only one
// whatever the number. A service that is not in the table has whatever port one likes:
// that it is unknown is for others to say.
func Find(t *route.Table, rules []Rule, name catalog.ServiceName, number uint16) (port string, ok bool) {
	i, found := slices.BinarySearchFunc(t.Services, name, func(s route.Service, n catalog.ServiceName) int { return s.Name.Compare(n) })
	if !found {
		return "", true
	}
	s := &t.Services[i]
	for _, n := range Of(rules, s) {
		if n.Number == number && !n.UDP {
			return n.Port, true
		}
	}
	only := ""
	for _, p := range s.Ports {
		switch {
		case p.Protocol == catalog.UDP:
		case only != "":
			return "", false
		default:
			only = p.Name
		}
	}
	return only, only != ""
}
