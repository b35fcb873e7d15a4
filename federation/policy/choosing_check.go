package policy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Bounds of what a traffic policy says of choosing.
const (
	// MaxLabelPriorities bounds the ranks that labels make.
	MaxLabelPriorities = 8
	// MaxDistributions and MaxShares bound a distribution: an entry a zone, and a share
	// a region, of a large federation.
	MaxDistributions = 64
	MaxShares        = 64
	// MaxPlaces bounds each list of a residency.
	MaxPlaces = 64
	// MaxSubsets bounds the parts of a service: each is compiled by itself.
	MaxSubsets = 16
	// MaxSubsetText bounds a part's labels as they travel to the far gateway.
	MaxSubsetText = 1024
	// MaxStickyKeys bounds the keys that a call is asked for.
	MaxStickyKeys = 4
	// MaxCookieTTL is what browsers keep a cookie for (RFC 6265bis: 400 days).
	MaxCookieTTL = 400 * 24 * 3600
	// MaxRingSize and MaxTableSize bound a hash's memory to 512 KiB a tier.
	MaxRingSize  = 1 << 17
	MaxTableSize = 131_071
	MinTableSize = 251
	// MaxBoundPercent is where a bound bounds nothing any more.
	MaxBoundPercent = 10_000
	// MaxBoundLeast is above what one endpoint carries.
	MaxBoundLeast = 1_000_000
	// MaxSlowStart bounds the window of a slow start to an hour.
	MaxSlowStart = 3600
	// MaxAggression is beyond any curve that can be told from a step.
	MaxAggression = 100
)

func (t Traffic) validateChoosing(p problems) {
	t.validateLabelPriorities(p)
	t.validateDistribute(p)
	if t.Residency != nil {
		t.Residency.validate(p.at("residency"))
	}
	if t.Subsets != nil {
		t.Subsets.validate(p.at("subsets"))
	}
	t.validateSticky(p)
	if t.Hashing != nil {
		t.Hashing.validate(p.at("hashing"), t.Filled().Algorithm)
	}
	if t.SlowStart != nil {
		t.SlowStart.validate(p.at("slow_start"))
	}
}

// Split returns the label and the value that is asked for; overridden is false where
// that is the caller's own.
func (l LabelPriority) Split() (label, value string, overridden bool) {
	return strings.Cut(string(l), "=")
}

func (t Traffic) validateLabelPriorities(p problems) {
	checkCount(p, "label_priorities", len(t.LabelPriorities), 0, MaxLabelPriorities)
	if len(t.LabelPriorities) > 0 && len(t.Clusters) > 0 {
		p.add("label_priorities", len(t.LabelPriorities), "cannot stand beside clusters, which gives the order itself")
	}
	for i, entry := range t.LabelPriorities {
		field := fmt.Sprintf("label_priorities[%d]", i)
		label, value, overridden := entry.Split()
		if err := catalog.CheckLabel(label, value); err != nil {
			p.add(field, entry, `must be "label" or "label=value": %v`, err)
			continue
		}
		if overridden && value == "" {
			p.add(field, entry, `has no value behind "="`)
		}
		if slices.Contains(t.LabelPriorities[:i], entry) {
			p.add(field, entry, "is listed twice")
		}
	}
}

func (t Traffic) validateDistribute(p problems) {
	checkCount(p, "distribute", len(t.Distribute), 0, MaxDistributions)
	if len(t.Distribute) > 0 {
		switch {
		case len(t.Weights) > 0:
			p.add("distribute", len(t.Distribute), "cannot stand beside weights: both split the calls")
		case t.Pin != "":
			p.add("distribute", len(t.Distribute), "cannot stand beside pin, which sends everything to one cluster")
		}
	}
	from := make(map[string]int, len(t.Distribute))
	for i := range t.Distribute {
		d, at := &t.Distribute[i], p.at("distribute[%d]", i)
		checkLocality(at, "from", d.From)
		if j, taken := from[d.From]; taken {
			at.add("from", d.From, "is that of distribute[%d] too", j)
		}
		from[d.From] = i
		d.validate(at)
	}
}

func (d *Distribution) validate(p problems) {
	checkCount(p, "to", len(d.To), 1, MaxShares)
	var sum uint64
	for i, s := range d.To {
		at := p.at("to[%d]", i)
		sum += uint64(s.Weight)
		switch {
		case (s.Cluster == "") == (s.Locality == ""):
			at.add("cluster", s.Cluster, "must name either a cluster or a locality")
		case s.Cluster != "":
			checkCluster(at, "cluster", s.Cluster)
		default:
			checkLocality(at, "locality", s.Locality)
		}
		if s.Weight > MaxWeight {
			at.add("weight", s.Weight, "at most %d", MaxWeight)
		}
		if slices.ContainsFunc(d.To[:i], func(o Share) bool { return o.Cluster == s.Cluster && o.Locality == s.Locality }) {
			at.add("cluster", string(s.Cluster)+s.Locality, "is listed twice")
		}
	}
	if len(d.To) > 0 && sum == 0 {
		p.add("to", 0, "at least one weight must be above 0")
	}
}

// checkLocality accepts "*" and the forms of catalog.ParseLocality.
func checkLocality(p problems, field, s string) {
	if s == everyPlace {
		return
	}
	if _, err := catalog.ParseLocality(s); err != nil || s == "" {
		p.add(field, s, `must be "cloud", "cloud/region", "cloud/region/zone" or "*"`)
	}
}

// everyPlace covers every locality.
const everyPlace = "*"

func (r *Residency) validate(p problems) {
	if len(r.Clouds)+len(r.Regions)+len(r.Clusters) == 0 {
		p.add("clouds", 0, "name at least one cloud, region or cluster, or no call could go anywhere")
	}
	checkCount(p, "clouds", len(r.Clouds), 0, MaxPlaces)
	checkCount(p, "regions", len(r.Regions), 0, MaxPlaces)
	checkCount(p, "clusters", len(r.Clusters), 0, MaxPlaces)
	for i, c := range r.Clouds {
		if !isLabel(c) {
			p.add(fmt.Sprintf("clouds[%d]", i), c, "must be a cloud; "+ruleLabel)
		}
	}
	for i, s := range r.Regions {
		if l, err := catalog.ParseLocality(s); err != nil || l.Region == "" || l.Zone != "" {
			p.add(fmt.Sprintf("regions[%d]", i), s, `must be "cloud/region"`)
		}
	}
	for i, c := range r.Clusters {
		checkCluster(p, fmt.Sprintf("clusters[%d]", i), c)
	}
}

func (s *Subsets) validate(p problems) {
	if s.Header != "" {
		checkHeaderName(p, "header", s.Header)
	}
	checkCount(p, "list", len(s.List), 1, MaxSubsets)
	weights := false
	for i := range s.List {
		x, at := &s.List[i], p.at("list[%d]", i)
		weights = weights || x.Weight > 0
		if !isLabel(x.Name) {
			at.add("name", x.Name, ruleLabel)
		}
		if slices.ContainsFunc(s.List[:i], func(o Subset) bool { return o.Name == x.Name }) {
			at.add("name", x.Name, "is listed twice")
		}
		if x.Weight > MaxWeight {
			at.add("weight", x.Weight, "at most %d", MaxWeight)
		}
		x.validateLabels(at)
	}
	if s.Header == "" && !weights && len(s.List) > 0 {
		p.add("header", "", "is required where no part has a weight: no call would go to one")
	}
}

func (x *Subset) validateLabels(p problems) {
	checkCount(p, "labels", len(x.Labels), 1, catalog.MaxSubsetLabels)
	for _, k := range slices.Sorted(maps.Keys(x.Labels)) {
		v := x.Labels[k]
		if err := catalog.CheckLabel(k, v); err != nil {
			p.add("labels."+shorten(k), v, "%v", err)
		} else if !everyByte(k+v, func(c byte) bool { return c > ' ' && c < 0x7f }) || v == "" {
			p.add("labels."+shorten(k), v, "must be printable ASCII without spaces: it travels in a header")
		}
	}
	if n := len(x.Text()); n > MaxSubsetText {
		p.add("labels", n, "take more than %d bytes together", MaxSubsetText)
	}
}

// Text is the canonical form of the labels (catalog.SubsetOf), by which gateways name
// the part to each other.
func (x *Subset) Text() string {
	return catalog.SubsetOf(x.Labels, slices.Collect(maps.Keys(x.Labels)))
}

func (t Traffic) validateSticky(p problems) {
	checkCount(p, "sticky", len(t.Sticky), 0, MaxStickyKeys)
	switch {
	case len(t.Sticky) > 0 && t.Algorithm != "" && !t.Algorithm.Hashes():
		p.add("sticky", len(t.Sticky), "needs algorithm %s or %s, not %s", RingHash, Maglev, t.Algorithm)
	case len(t.Sticky) == 0 && t.Algorithm.Hashes():
		p.add("sticky", 0, "is required by algorithm %s: it says what is hashed", t.Algorithm)
	}
	for i := range t.Sticky {
		t.Sticky[i].validate(p.at("sticky[%d]", i))
	}
}

func (k *StickyKey) validate(p problems) {
	set := 0
	if k.Header != "" {
		set++
		checkHeaderName(p, "header", k.Header)
	}
	if k.Source != "" {
		set++
		if k.Source != SourceAddress && k.Source != SourceCaller {
			p.add("source", k.Source, "must be %q or %q", SourceAddress, SourceCaller)
		}
	}
	if c := k.Cookie; c != nil {
		set++
		at := p.at("cookie")
		if len(c.Name) > MaxHeaderLen || !isToken(c.Name) {
			at.add("name", c.Name, "must be the name of a cookie, at most %d bytes", MaxHeaderLen)
		}
		if c.TTLSeconds > MaxCookieTTL {
			at.add("ttl_s", c.TTLSeconds, "at most %d", MaxCookieTTL)
		}
		if c.Path != "" && (c.TTLSeconds == 0 || !isHTTPPath(c.Path) || strings.ContainsAny(c.Path, `;,"\`)) {
			at.add("path", c.Path, "must be an absolute path, of a cookie that is set (ttl_s)")
		}
	}
	if set != 1 {
		p.add("header", k.Header, "one of header, cookie and source must be set, %d are", set)
	}
}

func checkHeaderName(p problems, field, name string) {
	if len(name) > MaxHeaderLen || !isToken(name) {
		p.add(field, name, "must be the name of a header field, at most %d bytes", MaxHeaderLen)
	}
}

func (h *Hashing) validate(p problems, a Algorithm) {
	if !a.Hashes() {
		p.add("min_ring_size", h.MinRingSize, "hashing is for algorithms %s and %s, not %s", RingHash, Maglev, a)
	}
	checkRange(p, "min_ring_size", h.MinRingSize, 1, MaxRingSize)
	checkRange(p, "max_ring_size", h.MaxRingSize, 1, MaxRingSize)
	if h.MinRingSize > 0 && h.MaxRingSize > 0 && h.MinRingSize > h.MaxRingSize {
		p.add("min_ring_size", h.MinRingSize, "must not be above max_ring_size (%d)", h.MaxRingSize)
	}
	if n := h.TableSize; n != 0 && (n < MinTableSize || n > MaxTableSize || !isPrime(n)) {
		p.add("table_size", n, "must be a prime number of %d to %d, or 0 for the default", MinTableSize, MaxTableSize)
	}
	checkRange(p, "bound_least", h.BoundLeast, 1, MaxBoundLeast)
	if v := h.BoundPercent; v != nil && *v != 0 && (*v <= 100 || *v > MaxBoundPercent) {
		p.add("bound_percent", *v, "must be 101 to %d, or 0 for no bound", MaxBoundPercent)
	}
}

func isPrime(n uint32) bool {
	for d := uint32(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}

func (s *SlowStart) validate(p problems) {
	if s.WindowSeconds < 1 || s.WindowSeconds > MaxSlowStart {
		p.add("window_s", s.WindowSeconds, "must be 1 to %d", MaxSlowStart)
	}
	if a := s.Aggression; math.IsNaN(a) || a < 0 || a > MaxAggression {
		p.add("aggression", a, "must be above 0 and at most %d, or 0 for the default", MaxAggression)
	}
	if s.MinPercent > 100 {
		p.add("min_percent", s.MinPercent, "is a percentage, 1 to 100, or 0 for the default")
	}
}
