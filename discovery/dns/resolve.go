package dns

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// maxTargets bounds the hosts of one SRV name: each costs a query or two.
	maxTargets = 256
	// targetsAtOnce bounds the queries for them.
	targetsAtOnce = 8
	// maxEndpoints bounds what one name comes to: records and the addresses of their
	// targets multiply.
	maxEndpoints = 10_000
)

// resolved is what an entry of the configuration came to.
type resolved struct {
	endpoints []catalog.Endpoint
	// exists is false for NXDOMAIN: there is no such service.
	exists bool
	ttl    time.Duration
	// left counts by reason what is no valid value.
	left map[string]int
}

// The reasons for leaving a record out.
const (
	badTarget = "target" // an SRV target without an address
	badPort   = "port"   // an SRV record with port 0
)

// resolve asks for all that an entry needs; half of it is none.
func (a *asker) resolve(ctx context.Context, s Service) (resolved, error) {
	if s.SRV != "" {
		return a.resolveSRV(ctx, s)
	}
	name := dns.Fqdn(s.Host)
	addresses, f, err := a.addresses(ctx, name, s.Family)
	out := resolved{exists: f.exists, ttl: f.ttl}
	for _, ip := range addresses {
		at := netip.AddrPortFrom(ip, s.Port)
		out.endpoints = append(out.endpoints, endpoint(s, at.String(), at, 1, catalog.Unknown))
	}
	return out, err
}

func endpoint(s Service, id string, at netip.AddrPort, weight uint32, health catalog.Health) catalog.Endpoint {
	return catalog.Endpoint{ID: s.PortName + "/" + id, Port: s.PortName, Address: at, Weight: weight, Health: health}
}

// addresses are those of a host, without repetition.
func (a *asker) addresses(ctx context.Context, name string, family Family) ([]netip.Addr, found, error) {
	all := found{ttl: maxMaxTTL}
	var out []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, qtype := range family.types() {
		f, err := a.lookup(ctx, name, qtype)
		if err != nil {
			return nil, found{}, err
		}
		all.exists = all.exists || f.exists
		all.ttl = min(all.ttl, f.ttl)
		for _, rr := range f.records {
			ip, ok := address(rr)
			if ok && !seen[ip] {
				seen[ip] = true
				out = append(out, ip)
			}
		}
	}
	return out, all, nil
}

func address(rr dns.RR) (netip.Addr, bool) {
	switch r := rr.(type) {
	case *dns.A:
		ip, ok := netip.AddrFromSlice(r.A.To4())
		return ip, ok
	case *dns.AAAA:
		ip, ok := netip.AddrFromSlice(r.AAAA.To16())
		return ip.Unmap(), ok
	}
	return netip.Addr{}, false
}

// resolveSRV asks for the targets' addresses, too, whatever the answer brought
// along: what comes along may be cut without a word.
func (a *asker) resolveSRV(ctx context.Context, s Service) (resolved, error) {
	name := dns.Fqdn(s.SRV)
	f, err := a.lookup(ctx, name, dns.TypeSRV)
	if err != nil {
		return resolved{}, err
	}
	out := resolved{exists: f.exists, ttl: f.ttl, left: map[string]int{}}
	var records []*dns.SRV
	targets := map[string]int{}
	for _, rr := range f.records {
		r, ok := rr.(*dns.SRV)
		switch {
		case !ok || r.Target == ".": // the service is decidedly not there
			continue
		case r.Port == 0:
			out.left[badPort]++
			continue
		}
		records = append(records, r)
		if key := dns.CanonicalName(r.Target); len(targets) < maxTargets+1 {
			if _, known := targets[key]; !known {
				targets[key] = len(targets)
			}
		}
	}
	if len(targets) > maxTargets {
		return resolved{}, fmt.Errorf("%s SRV: %w", name, failed(answer, "more than %d targets", maxTargets))
	}
	hosts := make([][]netip.Addr, len(targets))
	ttls := make([]time.Duration, len(targets))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(targetsAtOnce)
	for target, i := range targets {
		g.Go(func() error {
			addresses, f, err := a.addresses(gctx, target, s.Family)
			hosts[i], ttls[i] = addresses, f.ttl
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return resolved{}, err
	}
	for _, ttl := range ttls {
		out.ttl = min(out.ttl, ttl)
	}
	of := func(target string) []netip.Addr { return hosts[targets[dns.CanonicalName(target)]] }
	n := 0
	for _, r := range records {
		n += len(of(r.Target))
	}
	if n > maxEndpoints {
		return resolved{}, fmt.Errorf("%s SRV: %w", name, failed(answer, "more than %d endpoints", maxEndpoints))
	}
	out.take(s, records, of)
	return out, nil
}

// take maps SRV records. Of the lowest priority that has an address all are in
// use, with their weights; what is kept for the case that none of those can be
// reached is in maintenance: visible, and without a call until the DNS says
// otherwise. A weight of 0, "hardly any", is 1.
func (out *resolved) take(s Service, records []*dns.SRV, hosts func(string) []netip.Addr) {
	best := -1
	for _, r := range records {
		if p := int(r.Priority); len(hosts(r.Target)) > 0 && (best < 0 || p < best) {
			best = p
		}
	}
	seen := map[string]bool{}
	for _, r := range records {
		addresses := hosts(r.Target)
		if len(addresses) == 0 {
			out.left[badTarget]++
		}
		health := catalog.Unknown
		if int(r.Priority) != best {
			health = catalog.Maintenance
		}
		for _, ip := range addresses {
			at := netip.AddrPortFrom(ip, r.Port)
			id := strings.TrimSuffix(dns.CanonicalName(r.Target), ".") + "/" + at.String()
			if !seen[id] {
				seen[id] = true
				out.endpoints = append(out.endpoints, endpoint(s, id, at, max(1, uint32(r.Weight)), health))
			}
		}
	}
}
