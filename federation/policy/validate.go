package policy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Bounds of a resource. They are far above honest use; what they stop is a
// mistake or an attacker that makes every gateway of the cluster pay.
const (
	// MaxServices and MaxCallers bound the patterns of one rule: more belong
	// into a second rule, whose name then says what it is for.
	MaxServices = 256
	MaxCallers  = 256
	// MaxClusters bounds the clusters that one rule names; a federation of more
	// direct peers is beyond what one service per cluster can hold sessions to.
	MaxClusters = 256
	// MaxNamespaces bounds the namespaces that one import maps.
	MaxNamespaces = 256
	// MaxWeight keeps sums of weights far away from overflow.
	MaxWeight = 1_000_000
	// MaxRetries plus the first attempt are the eight that one request remembers.
	MaxRetries = 7
	// Bounds of an active health check: below, it is a load of its own; above,
	// it finds nothing in time.
	MinCheckIntervalMS = 100
	MaxCheckIntervalMS = 3_600_000
	MinCheckTimeoutMS  = 10
	MaxCheckResults    = 100
	// MaxCheckPathLen is what common servers take as a request line.
	MaxCheckPathLen = 2048
)

const (
	ruleLabel = `must be a DNS label (1 to 63 of a-z, 0-9, inner "-")`
	// everyPeer in Export.To.
	everyPeer = "*"
)

// Validate reports every problem of the export, joined, each a
// *catalog.FieldError.
func (e Export) Validate() error {
	p := newProblems()
	e.validate(p)
	return p.err()
}

func (e Export) validate(p problems) {
	checkName(p, e.Name)
	checkServices(p, e.Services)
	checkCount(p, "to", len(e.To), 1, MaxClusters)
	for i, to := range e.To {
		field := fmt.Sprintf("to[%d]", i)
		switch {
		case to == everyPeer && len(e.To) > 1:
			p.add(field, to, `"*" means every peer and must stand alone`)
		case to == everyPeer:
		case !isLabel(to):
			p.add(field, to, `must be a peer's name or "*"; `+ruleLabel)
		case slices.Contains(e.To[:i], to):
			p.add(field, to, "is listed twice")
		}
	}
	checkCount(p, "subset_labels", len(e.SubsetLabels), 0, catalog.MaxSubsetLabels)
	for i, key := range e.SubsetLabels {
		field := fmt.Sprintf("subset_labels[%d]", i)
		if err := catalog.CheckLabel(key, ""); err != nil {
			p.add(field, key, "must be a label's key: %v", err)
		} else if slices.Contains(e.SubsetLabels[:i], key) {
			p.add(field, key, "is listed twice")
		}
	}
}

// Validate reports every problem of the import, as Export.Validate does.
func (m Import) Validate() error {
	p := newProblems()
	m.validate(p)
	return p.err()
}

// validateExclude refuses what would leave nothing out, or everything.
func (m Import) validateExclude(p problems) {
	checkCount(p, "exclude", len(m.Exclude), 0, MaxServices)
	for i, s := range m.Exclude {
		field := fmt.Sprintf("exclude[%d]", i)
		if _, err := ParseServicePattern(string(s)); err != nil {
			p.add(field, s, "%s", err)
		} else if slices.Contains(m.Services, s) {
			p.add(field, s, "is among services: the rule would take nothing by it")
		}
	}
}

// validateNamespaces checks names in an order that is the same each time.
func (m Import) validateNamespaces(p problems) {
	if len(m.Namespaces) > 0 && m.As != nil {
		p.add("namespaces", len(m.Namespaces), "cannot stand beside as, which gives the whole name")
	}
	checkCount(p, "namespaces", len(m.Namespaces), 0, MaxNamespaces)
	for _, theirs := range slices.Sorted(maps.Keys(m.Namespaces)) {
		for _, ns := range []string{theirs, m.Namespaces[theirs]} {
			if _, err := catalog.ParseClusterName(ns); err != nil { // the same rule: one DNS label
				p.add("namespaces."+shorten(theirs), ns, "%s", ruleLabel)
				break
			}
		}
	}
}

func (m Import) validate(p problems) {
	checkName(p, m.Name)
	checkCluster(p, "from", m.From)
	checkServices(p, m.Services)
	m.validateExclude(p)
	m.validateNamespaces(p)
	if m.As == nil {
		return
	}
	switch {
	case m.As.IsZero():
		p.add("as", m.As, "must be name.namespace")
	case m.As.IsFederation():
		p.add("as", m.As, "federation.* is reserved")
	}
	if len(m.Services) != 1 {
		p.add("as", m.As, "renames one service, services names %d", len(m.Services))
	} else if _, ok := m.Services[0].Exact(); !ok {
		p.add("as", m.As, "renames one exactly named service, services[0] is %q", m.Services[0])
	}
}

// Validate reports every problem of the intention, as Export.Validate does.
func (in Intention) Validate() error {
	p := newProblems()
	in.validate(p)
	return p.err()
}

func (in Intention) validate(p problems) {
	checkName(p, in.Name)
	checkServices(p, in.Services)
	checkCount(p, "callers", len(in.Callers), 1, MaxCallers)
	for i, c := range in.Callers {
		field := fmt.Sprintf("callers[%d]", i)
		if _, err := ParseIDPattern(string(c)); err != nil {
			p.add(field, c, "%v", err)
		} else if slices.Contains(in.Callers[:i], c) {
			p.add(field, c, "is listed twice")
		}
	}
	if in.Action != Allow && in.Action != Deny {
		p.add("action", in.Action, "must be %q or %q", Allow, Deny)
	}
	validateHTTP(p, in.HTTP)
}

// Validate reports every problem of the traffic policy, as Export.Validate does.
func (t Traffic) Validate() error {
	p := newProblems()
	t.validate(p)
	return p.err()
}

func (t Traffic) validate(p problems) {
	checkName(p, t.Name)
	checkServices(p, t.Services)
	switch t.Algorithm {
	case "", P2C, RoundRobin, Random, Weighted, LeastRequest, RingHash, Maglev:
	default:
		p.add("algorithm", t.Algorithm, "must be one of %s, %s, %s, %s, %s, %s, %s", P2C, RoundRobin, Random, Weighted, LeastRequest, RingHash, Maglev)
	}
	t.validateChoosing(p)
	checkCount(p, "clusters", len(t.Clusters), 0, MaxClusters)
	for i, c := range t.Clusters {
		field := fmt.Sprintf("clusters[%d]", i)
		checkCluster(p, field, c)
		if slices.Contains(t.Clusters[:i], c) {
			p.add(field, c, "is listed twice")
		}
	}
	t.validateWeights(p)
	if t.Pin != "" {
		checkCluster(p, "pin", t.Pin)
		if len(t.Clusters) > 0 || len(t.Weights) > 0 {
			p.add("pin", t.Pin, "sends everything to one cluster and excludes clusters and weights")
		}
	}
	if v := t.PanicThreshold; v != nil && *v > 100 {
		p.add("panic_threshold", *v, "is a percentage, 0 to 100")
	}
	if v := t.Retries; v != nil && *v > MaxRetries {
		p.add("retries", *v, "at most %d", MaxRetries)
	}
	if t.HealthCheck != nil {
		t.HealthCheck.validate(p.at("health_check"))
	}
	if t.Limits != nil {
		t.Limits.validate(p.at("limits"))
	}
	t.validateCapacity(p)
	t.validatePrice(p)
}

func (t Traffic) validateWeights(p problems) {
	if len(t.Weights) == 0 {
		return
	}
	checkCount(p, "weights", len(t.Weights), 0, MaxClusters)
	var sum uint64
	clusters := make([]catalog.ClusterName, 0, len(t.Weights))
	for c := range t.Weights {
		clusters = append(clusters, c)
	}
	slices.Sort(clusters)
	for _, c := range clusters {
		w := t.Weights[c]
		sum += uint64(w)
		checkCluster(p, "weights", c)
		if w > MaxWeight {
			p.add("weights."+string(c), w, "at most %d", MaxWeight)
		}
	}
	if sum == 0 {
		p.add("weights", 0, "at least one weight must be above 0, or no cluster is left")
	}
}

func (h HealthCheck) validate(p problems) {
	checkRange(p, "interval_ms", h.IntervalMS, MinCheckIntervalMS, MaxCheckIntervalMS)
	checkRange(p, "timeout_ms", h.TimeoutMS, MinCheckTimeoutMS, MaxCheckIntervalMS)
	checkRange(p, "fall", h.Fall, 1, MaxCheckResults)
	checkRange(p, "rise", h.Rise, 1, MaxCheckResults)
	filled := *(Traffic{HealthCheck: &h}.Filled().HealthCheck)
	if filled.TimeoutMS > filled.IntervalMS {
		p.add("timeout_ms", filled.TimeoutMS, "must not be above interval_ms (%d), or checks pile up", filled.IntervalMS)
	}
	switch h.Type {
	case "tcp", "none":
		if h.Path != "" {
			p.add("path", h.Path, "is for http and grpc checks only")
		}
	case "http":
		if !isHTTPPath(h.Path) {
			p.add("path", h.Path, "must be an absolute path of printable ASCII without spaces, at most %d bytes", MaxCheckPathLen)
		}
	case "grpc":
		if !isGRPCService(h.Path) {
			p.add("path", h.Path, `must be empty or a gRPC service name (letters, digits, ".", "_", "/", "-"), at most 256 bytes`)
		}
	default:
		p.add("type", h.Type, "must be tcp, http, grpc or none")
	}
}

func checkName(p problems, name string) {
	if !isLabel(name) {
		p.add("name", name, ruleLabel)
	}
}

func checkCluster(p problems, field string, c catalog.ClusterName) {
	if !isLabel(string(c)) {
		p.add(field, c, "must be a cluster's name; "+ruleLabel)
	}
}

func checkServices(p problems, services []ServicePattern) {
	checkCount(p, "services", len(services), 1, MaxServices)
	for i, s := range services {
		field := fmt.Sprintf("services[%d]", i)
		canonical, err := ParseServicePattern(string(s))
		switch {
		case err != nil:
			p.add(field, s, "%v", err)
		case canonical != s:
			p.add(field, s, "must be written %q", canonical)
		case slices.Contains(services[:i], s):
			p.add(field, s, "is listed twice")
		}
	}
}

func checkCount(p problems, field string, n, low, high int) {
	switch {
	case n < low:
		p.add(field, n, "needs at least %d", low)
	case n > high:
		p.add(field, n, "has too many entries, at most %d", high)
	}
}

// checkRange accepts 0, which stands for the default.
func checkRange(p problems, field string, v, low, high uint32) {
	if v != 0 && (v < low || v > high) {
		p.add(field, v, "must be %d to %d, or 0 for the default", low, high)
	}
}

func isLabel(s string) bool {
	_, err := catalog.ParseClusterName(s)
	return err == nil
}

func isHTTPPath(s string) bool {
	return s != "" && s[0] == '/' && len(s) <= MaxCheckPathLen && everyByte(s, func(c byte) bool { return c > ' ' && c < 0x7f })
}

func isGRPCService(s string) bool {
	const most = 256
	return len(s) <= most && everyByte(s, func(c byte) bool { return isAlphanumeric(c) || c == '.' || c == '_' || c == '/' || c == '-' })
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func everyByte(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}
