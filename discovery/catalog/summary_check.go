package catalog

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Compare orders rows by port, zone and subset.
func (r SummaryRow) Compare(o SummaryRow) int {
	return cmp.Or(cmp.Compare(r.Port, o.Port), cmp.Compare(r.Zone, o.Zone), cmp.Compare(r.Subset, o.Subset))
}

// Compare orders summaries by service name.
func (s Summary) Compare(o Summary) int { return s.Service.Compare(o.Service) }

// Equal reports whether both summaries say the same; both are in order.
func (s Summary) Equal(o Summary) bool {
	return s.Service == o.Service && slices.Equal(s.Ports, o.Ports) && slices.Equal(s.Rows, o.Rows)
}

// Validate reports everything that is wrong with a summary, joined: it comes
// from another cluster. Rows and ports must be in order, which also proves that
// none is there twice.
func (s Summary) Validate() error {
	var p problems
	switch {
	case s.Service.IsZero():
		p.add("service", "", "is empty")
	case s.Service.IsFederation():
		p.add("service", s.Service.String(), "federation.* is reserved")
	}
	validatePorts(&p, s.Ports)
	if !slices.IsSortedFunc(s.Ports, func(a, b Port) int { return cmp.Compare(a.Name, b.Name) }) {
		p.add("ports", "", "must be sorted by name")
	}
	if len(s.Rows) > MaxSummaryRows {
		p.add("rows", len(s.Rows), fmt.Sprintf("a summary has at most %d rows", MaxSummaryRows))
		return p.err()
	}
	for i, r := range s.Rows {
		// The path is made where there is a problem: very many rows have none.
		add := func(field string, value any, rule string) { p.add(fmt.Sprintf("rows[%d]%s", i, field), value, rule) }
		if !hasPort(s.Ports, r.Port) {
			add(".port", r.Port, "is no port of the service")
		}
		if r.Zone != "" {
			if err := checkLabel(r.Zone); err != nil {
				add(".zone", r.Zone, err.Error())
			}
		}
		if _, err := ParseSubset(r.Subset); err != nil {
			add(".subset", r.Subset, err.Error())
		}
		if r.Ready > r.Total {
			add(".ready", r.Ready, fmt.Sprintf("is above the total of %d", r.Total))
		}
		if i > 0 && s.Rows[i-1].Compare(r) >= 0 {
			add("", "", "rows must be sorted by port, zone and subset, each once")
		}
	}
	return p.err()
}

// SubsetOf is the canonical text of those of an endpoint's labels that keys
// name: "k=v,k2=v2" sorted by key; labels that the endpoint lacks are left out.
func SubsetOf(labels map[string]string, keys []string) string {
	var parts []string
	for _, k := range slices.Sorted(slices.Values(keys)) {
		if v, ok := labels[k]; ok {
			parts = append(parts, k+"="+v)
		}
	}
	return strings.Join(slices.Compact(parts), ",")
}

// ParseSubset is the inverse of SubsetOf; it accepts the canonical form only.
func ParseSubset(s string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, ",")
	if len(parts) > MaxSubsetLabels {
		return nil, fmt.Errorf("subset has %d labels, at most %d", len(parts), MaxSubsetLabels)
	}
	labels := make(map[string]string, len(parts))
	last := ""
	for _, part := range parts {
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("subset part %q: must be key=value", part)
		}
		if err := CheckLabel(k, v); err != nil {
			return nil, fmt.Errorf("subset: %w", err)
		}
		if k <= last {
			return nil, fmt.Errorf("subset: keys must be sorted, each once; has %q after %q", k, last)
		}
		labels[k], last = v, k
	}
	return labels, nil
}

// Compare orders a roster by name.
func (g Gateway) Compare(o Gateway) int { return cmp.Compare(g.Name, o.Name) }

// Equal reports whether both entries say the same.
func (g Gateway) Equal(o Gateway) bool {
	return g.Name == o.Name && g.ID == o.ID && g.Draining == o.Draining && slices.Equal(g.Addresses, o.Addresses)
}

// Validate reports everything that is wrong with a roster's entry, joined.
func (g Gateway) Validate() error {
	var p problems
	p.check("name", g.Name, checkLabel(g.Name))
	if len(g.ID) > MaxSPIFFEIDLen {
		p.add("id", g.ID, fmt.Sprintf("has %d bytes, at most %d", len(g.ID), MaxSPIFFEIDLen))
	} else if _, err := spiffeid.FromString(g.ID); err != nil {
		p.add("id", g.ID, "must be a SPIFFE ID: "+err.Error())
	}
	if len(g.Addresses) > MaxGatewayAddresses {
		p.add("addresses", len(g.Addresses), fmt.Sprintf("at most %d", MaxGatewayAddresses))
		return p.err()
	}
	for i, a := range g.Addresses {
		p.check(fmt.Sprintf("addresses[%d]", i), a, CheckHostPort(a))
	}
	return p.err()
}

// maxHostLen is the bound of a DNS name in text (RFC 1035, section 2.3.4).
const maxHostLen = 253

// CheckHostPort reports why s is no "host:port" that can be dialed: the host an
// IP address or a DNS name, the port a number from 1 to 65535.
func CheckHostPort(s string) error {
	if len(s) > maxHostLen+len(":65535")+len("[]") {
		return fmt.Errorf("has %d bytes, too long for host:port", len(s))
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("must be host:port: %w", err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("the port must be a number from 1 to 65535, has %q", port)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "" || len(host) > maxHostLen {
		return fmt.Errorf("the host must be an IP address or a DNS name of at most %d characters", maxHostLen)
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if err := checkLabel(strings.ToLower(part)); err != nil {
			return fmt.Errorf("the host %q is neither an IP address nor a DNS name", host)
		}
	}
	return nil
}
