package dnsway

import (
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/ports"
	"github.com/isthmus-mesh/isthmus/gateway/virtual"
)

const (
	// zone holds the names of the mesh.
	zone = "mesh."
	// server is the zone's name server, as its SOA record names it.
	server = "isthmus"
	// negativeTTL is short, so that a service that has just come is found.
	negativeTTL = 5 * time.Second
)

// answer is what is known of a question.
type answer struct {
	rcode         int
	records       []dns.RR
	extra         []dns.RR
	apex          string // of the zone that the question is in
	note          string // for people, as an extended error (RFC 8914)
	noteCode      uint16
	authoritative bool
}

func failed(code uint16, note string) answer {
	return answer{rcode: dns.RcodeServerFailure, noteCode: code, note: note}
}

// name is a name of the zone, as far as its form goes.
type name struct {
	key   virtual.Key
	port  string // of a SRV name
	proto string
}

// inZone answers a question for a name of the mesh.
func (w *Way) inZone(q *dns.Question) answer {
	a := answer{apex: zone, authoritative: true}
	v := w.look()
	if v == nil {
		return failed(dns.ExtendedErrorCodeNotReady, "the gateway has no route table yet")
	}
	labels := dns.SplitDomainName(lower(q.Name))
	labels = labels[:len(labels)-1]
	if len(labels) == 0 {
		a.records = w.apexRecords(q)
		return a
	}
	if len(labels) == 1 && labels[0] == server {
		a.records = w.serverRecords(q)
		return a
	}
	n, leaf, exists := v.read(labels)
	if !exists {
		a.rcode = dns.RcodeNameError
		return a
	}
	if leaf == nil {
		return a // there are names below it, and no records
	}
	w.leafRecords(&a, q, &n, leaf)
	return a
}

// read finds what labels name: the service, or nil where there are only names below.
func (v *view) read(labels []string) (n name, s *route.Service, exists bool) {
	rest := labels
	if strings.HasPrefix(rest[0], "_") {
		if len(rest) > 1 && strings.HasPrefix(rest[1], "_") {
			n.port, n.proto, rest = rest[0][1:], rest[1][1:], rest[2:]
		} else {
			n.proto, rest = rest[0][1:], rest[1:]
		}
	}
	if n.proto == "" {
		switch len(rest) {
		case 1:
			return n, nil, v.hasBelow(rest[0])
		case 2:
			if v.service(rest, &n) == nil {
				return n, nil, v.hasIn(rest[0], rest[1])
			}
		}
	}
	s = v.service(rest, &n)
	if s == nil || n.proto == "" {
		return n, s, s != nil
	}
	for _, p := range s.Ports {
		if protoOf(p) == n.proto && (n.port == "" || p.Name == n.port) {
			if n.port == "" {
				return n, nil, true
			}
			return n, s, true
		}
	}
	return n, nil, false
}

// service is what "name.namespace" or "name.namespace.cluster" names, if it exists.
func (v *view) service(labels []string, n *name) *route.Service {
	if len(labels) != 2 && len(labels) != 3 {
		return nil
	}
	service, err := catalog.NewServiceName(labels[0], labels[1])
	if err != nil || service.IsFederation() {
		return nil
	}
	n.key = virtual.Key{Service: service}
	if len(labels) == 3 {
		n.key.Cluster = catalog.ClusterName(labels[2])
	}
	return v.find(n.key)
}

// protoOf is the label of a port's transport.
func protoOf(p catalog.Port) string {
	if p.Protocol == catalog.UDP {
		return "udp"
	}
	return "tcp"
}

// leafRecords answers for a name that stands for a service.
func (w *Way) leafRecords(a *answer, q *dns.Question, n *name, s *route.Service) {
	if q.Qtype == dns.TypeANY { // RFC 8482
		a.records = []dns.RR{&dns.HINFO{Hdr: w.header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"}}
		return
	}
	wanted := q.Qtype == w.addressType() && n.port == "" || q.Qtype == dns.TypeSRV && n.port != ""
	if !wanted {
		return
	}
	numbers := ports.Of(w.o.Rules, s)
	if n.port != "" {
		numbers = ofPort(numbers, n.port)
	}
	if len(numbers) == 0 {
		a.noteCode, a.note = dns.ExtendedErrorCodeOther, "no port of "+n.key.Service.String()+" has a number here: listen.ports gives it one"
		return
	}
	address, err := w.address(n.key, s)
	if err != nil {
		w.metrics.failures.Inc()
		if w.mayComplain() {
			w.o.Log.Error("no virtual address", "service", n.key.String(), "err", err)
		}
		*a = failed(dns.ExtendedErrorCodeOther, err.Error())
		return
	}
	if n.port == "" {
		a.records = []dns.RR{w.addressRecord(q.Name, address)}
		return
	}
	target := n.key.String() + "." + zone
	a.records = []dns.RR{&dns.SRV{Hdr: w.header(q.Name, dns.TypeSRV), Weight: 1, Port: numbers[0].Number, Target: target}}
	a.extra = []dns.RR{w.addressRecord(target, address)}
}

func ofPort(all []ports.Number, port string) []ports.Number {
	for i := range all {
		if all[i].Port == port {
			return all[i : i+1]
		}
	}
	return nil
}

// address is the virtual address of a service, which is listened on when it returns.
func (w *Way) address(k virtual.Key, s *route.Service) (netip.Addr, error) {
	a, err := w.o.Book.Assign(k)
	if err != nil || w.o.Hub.Listens(k, a) {
		return a, err
	}
	err = w.o.Hub.Set(a, targets(w.o.Rules, k, s))
	if err != nil && w.o.Hub.Listens(k, a) {
		if w.mayComplain() {
			w.o.Log.Warn("a virtual port cannot be listened on", "service", k.String(), "address", a.String(), "err", err)
		}
		return a, nil
	}
	return a, err
}

// targets are where the numbers of a service lead.
func targets(rules []ports.Rule, k virtual.Key, s *route.Service) map[virtual.Port]virtual.Target {
	out := map[virtual.Port]virtual.Target{}
	for _, n := range ports.Of(rules, s) {
		out[virtual.Port{Number: n.Number, UDP: n.UDP}] = virtual.Target{Key: k, Port: n.Port}
	}
	return out
}

func (w *Way) addressType() uint16 {
	if w.o.Book.Range().Addr().Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

func (w *Way) addressRecord(owner string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: w.header(owner, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: w.header(owner, dns.TypeAAAA), AAAA: a.AsSlice()}
}

func (w *Way) header(owner string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET, Ttl: uint32(w.o.TTL / time.Second)}
}

// apexRecords are those of the zone itself.
func (w *Way) apexRecords(q *dns.Question) []dns.RR {
	switch q.Qtype {
	case dns.TypeSOA:
		return []dns.RR{w.soa(q.Name)}
	case dns.TypeNS:
		return []dns.RR{&dns.NS{Hdr: w.header(q.Name, dns.TypeNS), Ns: server + "." + zone}}
	}
	return nil
}

// serverRecords are the address of this server, where it listens on one.
func (w *Way) serverRecords(q *dns.Question) []dns.RR {
	a := w.at.Addr()
	if a.IsUnspecified() || (q.Qtype != dns.TypeA || !a.Is4()) && (q.Qtype != dns.TypeAAAA || !a.Is6()) {
		return nil
	}
	return []dns.RR{w.addressRecord(q.Name, a)}
}

// soa says for how long what does not exist may be remembered (RFC 2308).
func (w *Way) soa(apex string) dns.RR {
	serial := uint32(1)
	if plan := w.o.Plan(); plan != nil {
		serial = uint32(plan.Table().Version)
	}
	ttl := uint32(min(negativeTTL, w.o.TTL) / time.Second)
	h := w.header(apex, dns.TypeSOA)
	h.Ttl = ttl
	return &dns.SOA{
		Hdr: h, Ns: server + "." + zone, Mbox: "hostmaster." + zone, Serial: serial,
		Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}
}

// lower folds ASCII only.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
