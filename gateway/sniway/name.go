package sniway

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/authority"
)

// The ways in which a server name is none that is served.
var (
	ErrNoName    = errors.New("has no server name")
	ErrUnknown   = errors.New("is no name of a service")
	ErrReserved  = authority.ErrReserved
	errNoSubsets = fmt.Errorf("%w: it asks for a subset, which a connection cannot", ErrUnknown)
)

// AnyCluster is the value of Names.Datacenters for a datacenter whose services are
// taken from wherever routing says.
const AnyCluster = "any"

// Names says what server names stand for. The names of the mesh are always known.
type Names struct {
	// TrustDomain is that of the Consul service mesh, as it ends the names there:
	// "11111111-2222-3333-4444-555555555555.consul". Without it no name of Consul's is
	// known.
	TrustDomain string `yaml:"trust_domain,omitempty"`
	// Datacenters are Consul's, each with the cluster that calls to it go to, without
	// failover, or AnyCluster. Names in other datacenters are not known.
	Datacenters map[string]string `yaml:"datacenters,omitempty"`
	// Ports are the ports' numbers in names of Istio's, each with the port's name here.
	// Those that are not listed are the service's only or default port.
	Ports map[string]string `yaml:"ports,omitempty"`
}

// Problem is one rule that a field breaks.
type Problem struct{ Field, Value, Rule string }

// Problems are what is wrong with n.
func (n Names) Problems() (out []Problem) {
	if n.TrustDomain != "" && !isDomain(n.TrustDomain) {
		out = append(out, Problem{"trust_domain", n.TrustDomain, "must be a dns name in lower case"})
	}
	if (n.TrustDomain == "") != (len(n.Datacenters) == 0) {
		out = append(out, Problem{"datacenters", fmt.Sprint(len(n.Datacenters)), "are needed with trust_domain, and only with it"})
	}
	for _, dc := range slices.Sorted(maps.Keys(n.Datacenters)) {
		cluster := n.Datacenters[dc]
		if !isLabel(dc) {
			out = append(out, Problem{"datacenters", dc, "must be a dns label in lower case"})
		}
		if cluster != AnyCluster && !isLabel(cluster) {
			out = append(out, Problem{"datacenters." + dc, cluster, "must be a cluster's name, or " + AnyCluster})
		}
	}
	for _, number := range slices.Sorted(maps.Keys(n.Ports)) {
		if !isNumber(number) {
			out = append(out, Problem{"ports", number, "must be a port's number, 1 to 65535"})
		}
		if port := n.Ports[number]; !isLabel(port) {
			out = append(out, Problem{"ports." + number, port, "must be a port's name"})
		}
	}
	return out
}

// Parse reads a server name. Errors wrap one of this package's.
func (n Names) Parse(name string) (authority.Name, error) {
	if name == "" {
		return authority.Name{}, ErrNoName
	}
	lower := strings.ToLower(strings.TrimSuffix(name, "."))
	if !isASCII(name) || len(lower) > maxName {
		return authority.Name{}, unknown(name)
	}
	if rest, ok := strings.CutPrefix(lower, "outbound_."); ok {
		return n.istio(name, rest)
	}
	if n.TrustDomain != "" {
		if rest, ok := strings.CutSuffix(lower, ".internal."+n.TrustDomain); ok {
			return n.consul(name, rest)
		}
	}
	// Only the whole form: "web.shop" may be anybody's name.
	if !strings.HasSuffix(lower, ".mesh") {
		return authority.Name{}, unknown(name)
	}
	out, err := parse(name, lower)
	if err == nil && out.String() != lower {
		return authority.Name{}, unknown(name) // "web.mesh" is a service in the namespace mesh elsewhere
	}
	return out, err
}

// maxName is that of a DNS name (RFC 1035, section 3.1.4).
const maxName = 253

// istio reads "8443_._.web.shop.svc.cluster.local": port and subset, each before its
// "_.", and the host.
func (n Names) istio(name, rest string) (authority.Name, error) {
	number, rest, ok := strings.Cut(rest, "_.")
	if !ok || !isNumber(number) {
		return authority.Name{}, unknown(name)
	}
	subset, host, ok := strings.Cut(rest, "_.")
	inCluster := strings.HasSuffix(host, ".svc.cluster.local") || strings.HasSuffix(host, ".svc.clusterset.local")
	if !ok || !inCluster {
		return authority.Name{}, unknown(name)
	}
	if subset != "" {
		return authority.Name{}, fmt.Errorf("server name %q %w", name, errNoSubsets)
	}
	out, err := parse(name, host)
	if out.Port == "" {
		out.Port = n.Ports[number]
	}
	return out, err
}

// consul reads "web.shop.dc2", what stands before ".internal." and the trust domain. Of
// a partition there is a fourth label, and ".internal-v1."; a subset is one more in
// front.
func (n Names) consul(name, rest string) (authority.Name, error) {
	labels := strings.Split(rest, ".")
	if len(labels) == 4 {
		return authority.Name{}, fmt.Errorf("server name %q %w", name, errNoSubsets)
	}
	if len(labels) != 3 {
		return authority.Name{}, unknown(name)
	}
	cluster, ok := n.Datacenters[labels[2]]
	if !ok {
		return authority.Name{}, unknown(name)
	}
	host := labels[0] + "." + labels[1]
	if cluster != AnyCluster {
		host += "." + cluster
	}
	return parse(name, host+".mesh")
}

// parse reads a name in one of the forms of package authority, without a port number.
func parse(name, host string) (authority.Name, error) {
	if strings.Contains(host, ":") {
		return authority.Name{}, unknown(name)
	}
	out, err := authority.Parse(host)
	switch {
	case errors.Is(err, authority.ErrReserved):
		return out, fmt.Errorf("server name %q %w", name, ErrReserved)
	case err != nil:
		return out, unknown(name)
	}
	return out, nil
}

func unknown(name string) error {
	return fmt.Errorf("server name %q %w", name[:min(len(name), maxName)], ErrUnknown)
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) < 0
}

// isLabel applies the rule of cluster names, which is that of port names, too.
func isLabel(s string) bool {
	_, err := catalog.ParseClusterName(s)
	return err == nil
}

// isNumber reports whether s is a port's number in its only form.
func isNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

func isDomain(s string) bool {
	if len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}
