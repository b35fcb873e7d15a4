package dnsway

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

var errNoReverse = errors.New("is no address in reverse")

// reverseAddress reads a whole address from a name below in-addr.arpa or ip6.arpa.
func reverseAddress(qname string) (netip.Addr, error) {
	labels := dns.SplitDomainName(lower(qname))
	if len(labels) < 2 || labels[len(labels)-1] != "arpa" {
		return netip.Addr{}, errNoReverse
	}
	kind, digits := labels[len(labels)-2], labels[:len(labels)-2]
	var b strings.Builder
	switch {
	case kind == "in-addr" && len(digits) == 4:
		for i := 3; i >= 0; i-- {
			b.WriteString(digits[i])
			if i > 0 {
				b.WriteByte('.')
			}
		}
	case kind == "ip6" && len(digits) == 32:
		for i := 31; i >= 0; i-- {
			if len(digits[i]) != 1 {
				return netip.Addr{}, errNoReverse
			}
			b.WriteString(digits[i])
			if i > 0 && i%4 == 0 {
				b.WriteByte(':')
			}
		}
	default:
		return netip.Addr{}, errNoReverse
	}
	a, err := netip.ParseAddr(b.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", errNoReverse, err)
	}
	return a, nil
}

// inReverse answers whose a virtual address is.
func (w *Way) inReverse(q *dns.Question, at netip.Addr) answer {
	a := answer{apex: reverseApex(q.Name, w.o.Book.Range()), authoritative: true}
	v := w.look()
	if v == nil {
		return failed(dns.ExtendedErrorCodeNotReady, "the gateway has no route table yet")
	}
	k, ok := w.o.Book.At(at)
	if !ok || v.find(k) == nil {
		a.rcode = dns.RcodeNameError
		return a
	}
	if q.Qtype == dns.TypePTR {
		a.records = []dns.RR{&dns.PTR{Hdr: w.header(q.Name, dns.TypePTR), Ptr: k.String() + "." + zone}}
	}
	return a
}

// reverseApex is the reverse zone of a name in a range: as many labels as the range
// fixes.
func reverseApex(qname string, p netip.Prefix) string {
	bitsPerLabel := 8
	if p.Addr().Is6() {
		bitsPerLabel = 4
	}
	labels := dns.SplitDomainName(qname)
	return strings.Join(labels[len(labels)-2-p.Bits()/bitsPerLabel:], ".") + "."
}
