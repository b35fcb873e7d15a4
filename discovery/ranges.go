package discovery

import (
	"net/netip"
	"slices"
)

// Refusal says why an endpoint's address is not taken from a source. The values
// are a closed set: they are labels of a metric.
type Refusal string

// The reasons. None means that the address is fine.
const (
	None        Refusal = ""
	Unspecified Refusal = "unspecified"
	Loopback    Refusal = "loopback"
	LinkLocal   Refusal = "link_local"
	Metadata    Refusal = "metadata"
	Multicast   Refusal = "multicast"
	Mapped      Refusal = "mapped"
	Outside     Refusal = "outside"
)

// Refusals are all reasons.
func Refusals() []Refusal {
	return []Refusal{Unspecified, Loopback, LinkLocal, Metadata, Multicast, Mapped, Outside}
}

// special are ranges that mean something to the machine that dials: whoever
// writes a catalog could make the gateway connect to its own admin port or to
// the cloud's metadata service with it. The narrower range comes first.
var special = []struct {
	prefix netip.Prefix
	reason Refusal
}{
	{netip.MustParsePrefix("169.254.169.254/32"), Metadata}, // AWS, Google Cloud, Azure, OpenStack
	{netip.MustParsePrefix("169.254.170.2/32"), Metadata},   // AWS: credentials of ECS tasks
	{netip.MustParsePrefix("169.254.170.23/32"), Metadata},  // AWS: credentials of EKS pods
	{netip.MustParsePrefix("fd00:ec2::/32"), Metadata},      // AWS: metadata ::254, EKS credentials ::23
	{netip.MustParsePrefix("fd20:ce::254/128"), Metadata},   // Google Cloud over IPv6
	{netip.MustParsePrefix("168.63.129.16/32"), Metadata},   // Azure: WireServer
	{netip.MustParsePrefix("100.100.100.200/32"), Metadata}, // Alibaba Cloud
	{netip.MustParsePrefix("0.0.0.0/8"), Unspecified},       // "this host" (RFC 1122): Linux connects 0.0.0.0 to itself
	{netip.MustParsePrefix("::/128"), Unspecified},
	{netip.MustParsePrefix("127.0.0.0/8"), Loopback},
	{netip.MustParsePrefix("::1/128"), Loopback},
	{netip.MustParsePrefix("169.254.0.0/16"), LinkLocal},
	{netip.MustParsePrefix("fe80::/10"), LinkLocal},
	{netip.MustParsePrefix("224.0.0.0/4"), Multicast},
	{netip.MustParsePrefix("255.255.255.255/32"), Multicast}, // broadcast
	{netip.MustParsePrefix("ff00::/8"), Multicast},
	{netip.MustParsePrefix("::ffff:0:0/96"), Mapped},
}

// nat64 is the well-known prefix whose last four bytes are an IPv4 address
// (RFC 6052): a second spelling of each special address.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// Ranges are the addresses that a source may publish. The zero value is every
// address that is not special (loopback, link-local, cloud metadata,
// unspecified, multicast, IPv4-mapped).
type Ranges struct {
	allow []netip.Prefix
}

// NewRanges restricts a source to the listed prefixes; none means the zero
// value. A special range is allowed by a prefix inside of it only: 0.0.0.0/0
// opens neither 127.0.0.1 nor 169.254.169.254, and 169.254.0.0/16 opens
// link-local addresses without those of the metadata services.
func NewRanges(allow ...netip.Prefix) Ranges { return Ranges{slices.Clone(allow)} }

// Check returns why a is refused, or None.
func (r Ranges) Check(a netip.Addr) Refusal {
	a = a.WithZone("")
	if a.Is4In6() {
		if !r.lists(netip.MustParsePrefix("::ffff:0:0/96"), a) {
			return Mapped
		}
		if s, reason := specialOf(a.Unmap()); reason != None && !r.lists(s, a.Unmap()) {
			return reason
		}
		return None
	}
	if nat64.Contains(a) {
		b := a.As16()
		inner := netip.AddrFrom4([4]byte(b[12:16]))
		if s, reason := specialOf(inner); reason != None && !r.lists(s, inner) {
			return reason
		}
	}
	if s, reason := specialOf(a); reason != None {
		if r.lists(s, a) {
			return None
		}
		return reason
	}
	if len(r.allow) > 0 && !slices.ContainsFunc(r.allow, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return Outside
	}
	return None
}

// lists reports whether a prefix inside of the special range s allows a.
func (r Ranges) lists(s netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(r.allow, func(p netip.Prefix) bool {
		return p.Bits() >= s.Bits() && s.Contains(p.Addr()) && p.Contains(a)
	})
}

func specialOf(a netip.Addr) (netip.Prefix, Refusal) {
	for _, s := range special {
		if s.prefix.Contains(a) {
			return s.prefix, s.reason
		}
	}
	return netip.Prefix{}, None
}
