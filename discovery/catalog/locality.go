package catalog

import (
	"cmp"
	"fmt"
	"strings"
)

// MaxLabelLen bounds one part of a name (RFC 1123 DNS label).
const MaxLabelLen = 63

// ClusterName names one autonomous cluster: a DNS label, unique in the
// federation, bound to a SPIFFE ID by configuration.
type ClusterName string

// ParseClusterName returns s as a cluster name if it is a DNS label.
func ParseClusterName(s string) (ClusterName, error) {
	if err := checkLabel(s); err != nil {
		return "", fmt.Errorf("cluster name %q: %w", s, err)
	}
	return ClusterName(s), nil
}

// UnmarshalText accepts only a DNS label.
func (c *ClusterName) UnmarshalText(b []byte) error {
	v, err := ParseClusterName(string(b))
	if err != nil {
		return err
	}
	*c = v
	return nil
}

// Locality is where something runs, as in xDS: cloud, region and zone, from the
// widest to the narrowest. The narrower parts may be empty, never the wider one
// of a part that is set. On AWS the zone is the zone id (use1-az4), since zone
// names differ between accounts.
type Locality struct {
	Cloud  string `json:"cloud,omitempty"`
	Region string `json:"region,omitempty"`
	Zone   string `json:"zone,omitempty"`
}

// ParseLocality reads "cloud/region/zone"; trailing parts may be left out.
func ParseLocality(s string) (Locality, error) {
	var l Locality
	if s == "" {
		return l, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) > 3 {
		return l, fmt.Errorf("locality %q: has %d parts, at most cloud/region/zone", s, len(parts))
	}
	for i, dst := range []*string{&l.Cloud, &l.Region, &l.Zone} {
		if i < len(parts) {
			*dst = parts[i]
		}
	}
	if err := l.Validate(); err != nil {
		return l, err
	}
	if l.String() != s {
		return l, fmt.Errorf("locality %q: has empty parts", s)
	}
	return l, nil
}

// Validate reports a part that is no label, or one set below an empty one.
func (l Locality) Validate() error {
	if (l.Zone != "" && l.Region == "") || (l.Region != "" && l.Cloud == "") {
		return fmt.Errorf("locality %q: a zone needs a region and a region needs a cloud", l)
	}
	for _, p := range []string{l.Cloud, l.Region, l.Zone} {
		if p == "" {
			continue
		}
		if err := checkLabel(p); err != nil {
			return fmt.Errorf("locality %q: part %q: %w", l, p, err)
		}
	}
	return nil
}

// String is the canonical form, without trailing empty parts.
func (l Locality) String() string {
	switch {
	case l.Zone != "":
		return l.Cloud + "/" + l.Region + "/" + l.Zone
	case l.Region != "":
		return l.Cloud + "/" + l.Region
	default:
		return l.Cloud
	}
}

// WithZone is the locality of a zone of l's region.
func (l Locality) WithZone(zone string) Locality {
	l.Zone = zone
	return l
}

// Compare orders localities by cloud, region, zone.
func (l Locality) Compare(o Locality) int {
	return cmp.Or(cmp.Compare(l.Cloud, o.Cloud), cmp.Compare(l.Region, o.Region), cmp.Compare(l.Zone, o.Zone))
}

// checkLabel applies RFC 1123's DNS label rule: 1 to 63 of a-z, 0-9 and "-",
// neither first nor last a "-". Upper case is refused rather than folded, so
// that there is one spelling of every name.
func checkLabel(s string) error {
	if s == "" {
		return fmt.Errorf("is empty")
	}
	if len(s) > MaxLabelLen {
		return fmt.Errorf("has %d characters, at most %d", len(s), MaxLabelLen)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1:
		default:
			return fmt.Errorf("must be a DNS label (a-z, 0-9, inner \"-\"), has %q at %d", c, i)
		}
	}
	return nil
}
