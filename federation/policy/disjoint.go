package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// MaxAsserts bounds the ID patterns that one peer may assert.
const MaxAsserts = 256

// OverlapError says that two clusters may both assert some caller.
type OverlapError struct {
	A, B               catalog.ClusterName
	PatternA, PatternB IDPattern
}

// Error names both clusters and both patterns.
func (e *OverlapError) Error() string {
	return fmt.Sprintf("asserts of %s: value %q: must be disjoint from %q of %s", e.A, e.PatternA, e.PatternB, e.B)
}

// Overlap reports whether some ID is covered by both patterns.
func (p IDPattern) Overlap(o IDPattern) bool {
	if p == o {
		return true
	}
	return p.covers(o) || o.covers(p)
}

// covers reports whether p is a wildcard at or above everything that o covers.
func (p IDPattern) covers(o IDPattern) bool {
	base, wild := strings.CutSuffix(string(p), "/*")
	return wild && strings.HasPrefix(string(o), base+"/")
}

// CheckAsserts reports every pattern that is malformed and every pair of
// patterns of different clusters that overlap: an ID that two peers may assert
// would let either speak for the other's workloads. Problems come in a fixed
// order. Overlaps within one cluster are harmless and pass.
func CheckAsserts(asserts map[catalog.ClusterName][]IDPattern) error {
	type owned struct {
		cluster catalog.ClusterName
		pattern IDPattern
	}
	var errs []error
	var all []owned
	for _, cluster := range slices.Sorted(maps.Keys(asserts)) {
		patterns := asserts[cluster]
		if len(patterns) > MaxAsserts {
			errs = append(errs, fmt.Errorf("asserts of %s: has %d patterns, at most %d", cluster, len(patterns), MaxAsserts))
			continue
		}
		for _, p := range patterns {
			if _, err := ParseIDPattern(string(p)); err != nil {
				errs = append(errs, fmt.Errorf("asserts of %s: %w", cluster, err))
				continue
			}
			all = append(all, owned{cluster, p})
		}
	}
	// Each pattern is looked up under itself and under every wildcard above it;
	// of an overlapping pair the one is at or above the other, so this finds
	// all pairs without comparing each with each.
	byPattern := make(map[IDPattern][]owned, len(all))
	for _, o := range all {
		byPattern[o.pattern] = append(byPattern[o.pattern], o)
	}
	seen := make(map[OverlapError]bool)
	for _, o := range all {
		for _, above := range o.pattern.ancestors() {
			for _, other := range byPattern[above] {
				if other.cluster == o.cluster {
					continue
				}
				e := OverlapError{A: o.cluster, B: other.cluster, PatternA: o.pattern, PatternB: other.pattern}
				if mirror := (OverlapError{A: e.B, B: e.A, PatternA: e.PatternB, PatternB: e.PatternA}); !seen[e] && !seen[mirror] {
					seen[e] = true
					errs = append(errs, &e)
				}
			}
		}
	}
	return errors.Join(errs...)
}

// ancestors are p itself and the wildcards that cover all of it.
func (p IDPattern) ancestors() []IDPattern {
	out := []IDPattern{p}
	base, _ := strings.CutSuffix(string(p), "/*")
	for {
		i := strings.LastIndexByte(base, '/')
		if i < len(idScheme) {
			return out
		}
		base = base[:i]
		out = append(out, IDPattern(base+"/*"))
	}
}
