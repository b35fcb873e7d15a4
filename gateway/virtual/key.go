package virtual

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Key is what has an address: a service, or a service in one cluster.
type Key struct {
	Service catalog.ServiceName
	// Cluster pins connections to one cluster; "" leaves the choice to routing.
	Cluster catalog.ClusterName
}

// String is "name.namespace" or "name.namespace.cluster".
func (k Key) String() string {
	if k.Cluster == "" {
		return k.Service.String()
	}
	return k.Service.String() + "." + string(k.Cluster)
}

// hash is where in a range of n addresses the key begins to look for one.
func (k Key) hash(n uint64) uint64 {
	sum := sha256.Sum256([]byte(k.String()))
	return binary.BigEndian.Uint64(sum[:8]) % n
}

// maxHostBits bounds what is used of a range: more addresses than that are never
// needed, and a prefix of IPv6 has more than can be counted.
const maxHostBits = 24

// span is the usable addresses of a range, numbered from 0.
type span struct {
	first netip.Addr
	n     uint64
}

// spanOf leaves out the first address, which stands for the network, and of IPv4 the
// last one, which broadcasts.
func spanOf(p netip.Prefix) span {
	bits := min(p.Addr().BitLen()-p.Bits(), maxHostBits)
	n := uint64(1)<<bits - 1
	if p.Addr().Is4() && n > 0 {
		n--
	}
	return span{first: p.Masked().Addr().Next(), n: n}
}

// at is the address with number i.
func (s span) at(i uint64) netip.Addr {
	b := s.first.As16()
	low := binary.BigEndian.Uint64(b[8:]) + i // the host bits are zero above maxHostBits: no carry
	binary.BigEndian.PutUint64(b[8:], low)
	a := netip.AddrFrom16(b)
	if s.first.Is4() {
		return a.Unmap()
	}
	return a
}

// CheckRange says what is wrong with a range; "" if nothing is.
func CheckRange(p netip.Prefix) string {
	switch a := p.Addr(); {
	case !p.IsValid():
		return "must be a prefix, such as 127.77.0.0/16"
	case a.Is4In6() || a.Zone() != "":
		return "must be written as IPv4 or plain IPv6"
	case p != p.Masked():
		return "must have no host bits"
	case spanOf(p).n < minAddresses:
		return "is too small: at least a /29 of IPv4 or a /125 of IPv6"
	case a.IsMulticast() || a.IsUnspecified() || p.Contains(netip.MustParseAddr("255.255.255.255")):
		return "must be addresses that can be connected to"
	case p.Contains(netip.MustParseAddr("127.0.0.1")) || p.Contains(netip.IPv6Loopback()):
		return "must not contain the host's own loopback address"
	}
	return ""
}

// minAddresses is the fewest addresses of a range.
const minAddresses = 6
