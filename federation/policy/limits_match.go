package policy

import (
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// RateMatcher says which calls a rate counts. It is immutable and safe for concurrent
// use, and asking it allocates nothing.
type RateMatcher struct {
	exact    map[string]bool // callers
	below    []string        // starts of callers, with a final "/"
	any      bool
	clusters []catalog.ClusterName
	http     []*HTTPCondition
}

// NewRateMatcher compiles a validated rate.
func NewRateMatcher(r *RateLimit) *RateMatcher {
	m := &RateMatcher{any: len(r.Callers) == 0, clusters: slices.Clone(r.Clusters)}
	for _, c := range r.Callers {
		if base, wild := strings.CutSuffix(string(c), "*"); wild {
			m.below = append(m.below, base)
			continue
		}
		if m.exact == nil {
			m.exact = make(map[string]bool, len(r.Callers))
		}
		m.exact[string(c)] = true
	}
	for _, c := range r.HTTP {
		m.http = append(m.http, c.canonical())
	}
	return m
}

// Match says whether a call of caller, from a cluster, counts; request is nil of a
// connection. As of a deny, a condition is met by whatever the service could take for
// what it names: spelling a path in another way is no way around a limit.
func (m *RateMatcher) Match(caller string, from catalog.ClusterName, request *HTTPRequest) bool {
	if !m.any && !m.exact[caller] && !m.isBelow(caller) {
		return false
	}
	if len(m.clusters) > 0 && !slices.Contains(m.clusters, from) {
		return false
	}
	if len(m.http) == 0 {
		return true
	}
	if request == nil {
		return false
	}
	for _, c := range m.http {
		if c.match(request, false) {
			return true
		}
	}
	return false
}

func (m *RateMatcher) isBelow(caller string) bool {
	for _, base := range m.below {
		if len(caller) > len(base) && strings.HasPrefix(caller, base) {
			return true
		}
	}
	return false
}
