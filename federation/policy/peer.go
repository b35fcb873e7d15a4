package policy

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Bounds of the peers of one cluster.
const (
	// MaxPeers bounds the clusters that one federation exchanges with: each costs
	// a connection both ways and a catalog in memory.
	MaxPeers = 200
	// MaxBootstraps bounds the bootstrap addresses of one peer: they are tried in
	// turn, and a roster replaces them after the first exchange.
	MaxBootstraps = 16
	// MaxInlineBundle bounds a bundle document that is kept with its peer, so that
	// the peer fits one item of the store. A root takes about 1 KiB.
	MaxInlineBundle = 128 << 10
)

// Peer is another cluster: who it is, where its gateways are first found, and
// which callers it may speak for.
type Peer struct {
	Name catalog.ClusterName `json:"name" yaml:"name"`
	// ID is the SPIFFE ID of the peer's federation; its gateways' are
	// ID/gateway/NAME. Nothing that the peer sends can change it.
	ID string `json:"id" yaml:"id"`
	// Gateways are bootstrap addresses (host:port), used until the peer has sent
	// its roster. Empty: the peer dials us.
	Gateways []string `json:"gateways,omitempty" yaml:"gateways"`
	// Bundle says where the bundle of the peer's trust domain comes from. It may be
	// left out where the peer shares our trust domain or the Workload API knows its
	// bundle.
	Bundle PeerBundle `json:"bundle,omitzero" yaml:"bundle"`
	// Asserts are the caller IDs that the peer's gateways may speak for; empty:
	// none, and then no intention can allow one of its callers. Patterns of two
	// peers must not overlap.
	Asserts []IDPattern `json:"asserts,omitempty" yaml:"asserts"`
	// Cloud and Region place the peer.
	Cloud  string `json:"cloud,omitempty" yaml:"cloud"`
	Region string `json:"region,omitempty" yaml:"region"`
	// Labels are what traffic policies may rank the cluster by (label_priorities);
	// they go before those that its own federation tells.
	Labels map[string]string `json:"labels,omitempty" yaml:"labels"`
	// MaxPriority is the highest priority that calls of the peer's callers are given
	// here, whatever its gateways say of them: critical ("" means it), default or low.
	MaxPriority CallPriority `json:"max_priority,omitempty" yaml:"max_priority"`
	// Quota bounds what the peer may make this cluster hold and do.
	Quota PeerQuota `json:"quota,omitzero" yaml:"quota"`
}

// PeerBundle says where the first bundle of a peer's trust domain comes from: at
// most one of File and Document. Later bundles come from Endpoint, or where there
// is none from the peer itself.
type PeerBundle struct {
	// File is the path of a SPIFFE bundle document on the federation's host. It is
	// read again when it changes.
	File string `json:"file,omitempty" yaml:"file"`
	// Document is a SPIFFE bundle document itself, JSON as text.
	Document string `json:"document,omitempty" yaml:"document"`
	// Endpoint is the trust domain's bundle endpoint, which is then asked for every
	// later bundle, and the peer's federation no longer.
	Endpoint BundleEndpoint `json:"endpoint,omitzero" yaml:"endpoint"`
}

// BundleEndpoint is a SPIFFE bundle endpoint of another trust domain; the zero
// value is none. Who follows it judges the fields.
type BundleEndpoint struct {
	// URL begins with https:// and has no user info; redirects are not followed.
	URL string `json:"url" yaml:"url"`
	// Profile is https_spiffe or https_web.
	Profile string `json:"profile" yaml:"profile"`
	// SPIFFEID is the server's, with https_spiffe. It is verified against the bundle
	// that is held for its trust domain: the first one comes from file or document.
	SPIFFEID string `json:"spiffe_id,omitempty" yaml:"spiffe_id"`
	// CAFile holds the PEM certificates that the server's certificate is checked
	// against, with https_web; default the system's.
	CAFile string `json:"ca_file,omitempty" yaml:"ca_file"`
}

// Set reports whether there is an endpoint.
func (e BundleEndpoint) Set() bool { return e != BundleEndpoint{} }

// Locality is where the peer runs.
func (p Peer) Locality() catalog.Locality { return catalog.Locality{Cloud: p.Cloud, Region: p.Region} }

// Equal reports whether both say the same.
func (p Peer) Equal(o Peer) bool {
	return p.Name == o.Name && p.ID == o.ID && p.Bundle == o.Bundle && p.Quota == o.Quota && p.MaxPriority == o.MaxPriority && p.Cloud == o.Cloud && p.Region == o.Region &&
		maps.Equal(p.Labels, o.Labels) && slices.Equal(p.Gateways, o.Gateways) && slices.Equal(p.Asserts, o.Asserts)
}

// Validate reports every problem of the peer taken alone, as Export.Validate does.
func (p Peer) Validate() error {
	found := newProblems()
	p.validate(found)
	return found.err()
}

func (p Peer) validate(v problems) {
	checkName(v, string(p.Name))
	if id, err := spiffeid.FromString(p.ID); err != nil {
		v.add("id", p.ID, "must be the SPIFFE ID of the peer's federation: %v", err)
	} else if id.Path() == "" {
		v.add("id", p.ID, "must have a path: a trust domain alone is no federation")
	}
	checkCount(v, "gateways", len(p.Gateways), 0, MaxBootstraps)
	for i, g := range p.Gateways {
		if rule := HostPortRule(g); rule != "" {
			v.add(fmt.Sprintf("gateways[%d]", i), g, "%s", rule)
		}
	}
	p.Bundle.validate(v.at("bundle"))
	p.Quota.validate(v.at("quota"))
	checkCount(v, "asserts", len(p.Asserts), 0, MaxAsserts)
	for i, a := range p.Asserts {
		if _, err := ParseIDPattern(string(a)); err != nil {
			v.add(fmt.Sprintf("asserts[%d]", i), a, "%v", err)
		}
	}
	if err := p.Locality().Validate(); err != nil {
		v.add("region", p.Region, "%v", err)
	}
	validateClusterLabels(v, p.Labels)
	p.MaxPriority.validate(v, "max_priority")
}

func (b PeerBundle) validate(v problems) {
	if b.File != "" && b.Document != "" {
		v.add("document", "", "excludes file: a bundle has one place to come from")
	}
	if len(b.Document) > MaxInlineBundle {
		v.add("document", "", "has %d bytes, at most %d", len(b.Document), MaxInlineBundle)
	}
}

// HostPortRule says what is wrong with a host:port, or "".
func HostPortRule(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return "must be host:port"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "must end in a port number, 0 to 65535"
	}
	// Addresses of others come here from tokens and peers, and go on in header
	// fields, logs and an operator's terminal: in brackets anything would pass for a
	// host.
	if _, err := netip.ParseAddr(host); len(host) > maxHost || !everyByte(host, inHost) || err != nil && strings.ContainsAny(host, ":%") {
		return "must have a DNS name or an IP address for its host"
	}
	return ""
}

// maxHost is the longest DNS name, its final dot included.
const maxHost = 254

func inHost(c byte) bool { return isAlphanumeric(c) || strings.IndexByte("-._:%", c) >= 0 }

// CheckAmong reports what keeps p from being a peer beside others: a name or an
// ID that is taken, a caller that two could speak for. Problems are as those of
// Validate, which p has passed; an entry of p's own name is not compared.
func (p Peer) CheckAmong(others []Peer) error {
	v := newProblems()
	p.checkAmong(v, others, func(i int) string { return fmt.Sprintf("peer %s", others[i].Name) })
	return v.err()
}

func (p Peer) checkAmong(v problems, others []Peer, call func(int) string) {
	for i, o := range others {
		if o.Name == p.Name {
			continue
		}
		if o.ID == p.ID {
			v.add("id", p.ID, "is the id of %s already: one identity, one cluster", call(i))
		}
		if p.Bundle.Endpoint.Set() && o.Bundle.Endpoint.Set() && p.Bundle.Endpoint != o.Bundle.Endpoint && p.sameDomain(o) {
			// Two endpoints of one domain count its bundles by two rows of numbers.
			v.add("bundle.endpoint.url", p.Bundle.Endpoint.URL, "differs from that of %s, a peer of the same trust domain", call(i))
		}
		for j, a := range p.Asserts {
			if slices.ContainsFunc(o.Asserts, a.Overlap) {
				v.add(fmt.Sprintf("asserts[%d]", j), a, "overlaps with what %s asserts; one caller, one cluster", call(i))
			}
		}
	}
}

func (p Peer) sameDomain(o Peer) bool {
	a, errA := spiffeid.FromString(p.ID)
	b, errB := spiffeid.FromString(o.ID)
	return errA == nil && errB == nil && a.TrustDomain() == b.TrustDomain()
}

// ValidatePeers reports every problem of a list of peers ("peers[3].id"), those
// between two of them included.
func ValidatePeers(peers []Peer) error {
	v := newProblems()
	if len(peers) > MaxPeers {
		v.add("peers", len(peers), "has more than %d entries", MaxPeers)
		return v.err()
	}
	first := make(map[catalog.ClusterName]int, len(peers))
	for i, p := range peers {
		at := v.at("peers[%d]", i)
		p.validate(at)
		if j, taken := first[p.Name]; taken {
			at.add("name", p.Name, "is the name of peers[%d] already", j)
		} else {
			first[p.Name] = i
		}
		p.checkAmong(at, peers[:i], func(j int) string { return fmt.Sprintf("peers[%d] (%s)", j, peers[j].Name) })
	}
	return v.err()
}
