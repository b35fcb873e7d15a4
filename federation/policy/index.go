package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Index is a Set compiled for lookup: each answer costs a few map reads,
// whatever the number of rules. It is immutable and safe for concurrent use.
//
// One rule of precedence holds for exports, imports and traffic policies: where
// several rules cover a service, the most exact pattern wins (name.namespace
// before *.namespace before *), then the rule whose name sorts first. Rules are
// never mixed field by field: what holds can be read off one rule.
type Index struct {
	set     Set
	exports map[string]*patternIndex // by peer; everyPeer for rules to "*"
	named   map[string]string        // by peer: the numbers of the exports that name it
	imports map[catalog.ClusterName]*patternIndex
	traffic *patternIndex
	filled  []Traffic
	unset   *Traffic
	// publishes: an export has subset labels.
	publishes bool
}

// NewIndex compiles a validated set.
func NewIndex(s Set) *Index {
	ix := &Index{
		set:     s.Canonical(),
		exports: make(map[string]*patternIndex),
		named:   make(map[string]string),
		imports: make(map[catalog.ClusterName]*patternIndex),
		traffic: new(patternIndex),
		unset:   DefaultTraffic(),
	}
	for i, e := range ix.set.Exports {
		ix.publishes = ix.publishes || len(e.SubsetLabels) > 0
		for _, to := range e.To {
			indexOf(ix.exports, to).add(e.Services, i)
			ix.named[to] += strconv.Itoa(i) + " "
		}
	}
	for i, m := range ix.set.Imports {
		indexOf(ix.imports, m.From).add(m.Services, i)
	}
	ix.filled = make([]Traffic, len(ix.set.Traffic))
	for i, t := range ix.set.Traffic {
		ix.filled[i] = t.Filled()
		ix.traffic.add(t.Services, i)
	}
	return ix
}

// Set is the canonical set that was compiled; it is not to be changed.
func (ix *Index) Set() Set { return ix.set }

// ExportTo returns the export that offers service to peer.
func (ix *Index) ExportTo(service catalog.ServiceName, peer catalog.ClusterName) (*Export, bool) {
	ref := ix.exports[string(peer)].find(service).better(ix.exports[everyPeer].find(service))
	if !ref.ok() {
		return nil, false
	}
	return &ix.set.Exports[ref.rule], true
}

// ExportSet names the set of exports to a peer: peers of equal sets are offered
// the same services in the same way.
func (ix *Index) ExportSet(peer catalog.ClusterName) string { return ix.named[string(peer)] }

// ExportedTo returns those of peers that service is offered to, in their order:
// peers itself where it is offered to all, for there are many services and one
// such list. It is not to be changed.
func (ix *Index) ExportedTo(service catalog.ServiceName, peers []catalog.ClusterName) []catalog.ClusterName {
	if ix.exports[everyPeer].find(service).ok() {
		return slices.Clip(peers)
	}
	var out []catalog.ClusterName
	for _, p := range peers {
		if ix.exports[string(p)].find(service).ok() {
			out = append(out, p)
		}
	}
	return out
}

// SubsetLabels are the keys of labels by which any of peers, to which service is
// exported, may ask for a part of it; sorted.
func (ix *Index) SubsetLabels(service catalog.ServiceName, peers []catalog.ClusterName) []string {
	if !ix.publishes {
		return nil
	}
	var keys []string
	var last *Export
	for _, p := range peers {
		if e, ok := ix.ExportTo(service, p); ok && e != last {
			last = e
			keys = append(keys, e.SubsetLabels...)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// ImportFor returns the import that takes the service called remote in the peer
// from. What the rule that decides excludes is not taken.
func (ix *Index) ImportFor(from catalog.ClusterName, remote catalog.ServiceName) (*Import, bool) {
	ref := ix.imports[from].find(remote)
	if !ref.ok() {
		return nil, false
	}
	m := &ix.set.Imports[ref.rule]
	if slices.ContainsFunc(m.Exclude, func(p ServicePattern) bool { return p.Match(remote) }) {
		return nil, false
	}
	return m, true
}

// LocalName is the name under which this cluster knows the service that m takes
// as remote.
func (m *Import) LocalName(remote catalog.ServiceName) catalog.ServiceName {
	if m.As != nil {
		return *m.As
	}
	if ns, mapped := m.Namespaces[remote.Namespace()]; mapped {
		if name, err := catalog.NewServiceName(remote.Name(), ns); err == nil {
			return name
		}
	}
	return remote
}

// TrafficFor returns how calls to service are balanced, with every default
// filled; never nil, shared, and not to be changed.
func (ix *Index) TrafficFor(service catalog.ServiceName) *Traffic {
	ref := ix.traffic.find(service)
	if !ref.ok() {
		return ix.unset
	}
	return &ix.filled[ref.rule]
}

// SharesBudgets reports whether a traffic policy has a rate that the gateways of the
// cluster share.
func (ix *Index) SharesBudgets() bool {
	for i := range ix.set.Traffic {
		if l := ix.set.Traffic[i].Limits; l != nil && slices.ContainsFunc(l.Rates, func(r RateLimit) bool { return r.Filled().Scope == PerCluster }) {
			return true
		}
	}
	return false
}

func indexOf[K comparable](m map[K]*patternIndex, key K) *patternIndex {
	p := m[key]
	if p == nil {
		p = new(patternIndex)
		m[key] = p
	}
	return p
}

// patternIndex finds the winning rule for a service.
type patternIndex struct {
	exact      map[catalog.ServiceName]int
	namespaces map[string]int
	any        int
	hasAny     bool
}

// match is a rule with how exactly it matches; the zero value is no match.
type match struct {
	exactness int // 3 name, 2 namespace, 1 any, 0 none
	rule      int
}

func (m match) ok() bool { return m.exactness > 0 }

// better returns the winner of two matches; rules are numbered by name.
func (m match) better(o match) match {
	if o.exactness > m.exactness || o.exactness == m.exactness && o.rule < m.rule {
		return o
	}
	return m
}

// add enters a rule; rules come in order of their names, so the first stays.
func (p *patternIndex) add(patterns []ServicePattern, rule int) {
	for _, s := range patterns {
		if s == "*" {
			if !p.hasAny {
				p.any, p.hasAny = rule, true
			}
			continue
		}
		if ns, ok := strings.CutPrefix(string(s), "*."); ok {
			addFirst(&p.namespaces, ns, rule)
			continue
		}
		if name, ok := s.Exact(); ok {
			addFirst(&p.exact, name, rule)
		}
	}
}

func addFirst[K comparable](m *map[K]int, key K, rule int) {
	if *m == nil {
		*m = make(map[K]int)
	}
	if _, taken := (*m)[key]; !taken {
		(*m)[key] = rule
	}
}

// find on a nil index finds nothing.
func (p *patternIndex) find(n catalog.ServiceName) match {
	if p == nil || n.IsFederation() || n.IsZero() {
		return match{}
	}
	if rule, ok := p.exact[n]; ok {
		return match{exactness: 3, rule: rule}
	}
	if rule, ok := p.namespaces[n.Namespace()]; ok {
		return match{exactness: 2, rule: rule}
	}
	if p.hasAny {
		return match{exactness: 1, rule: p.any}
	}
	return match{}
}
