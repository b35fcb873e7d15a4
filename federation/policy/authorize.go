package policy

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Reason says why a call is allowed or refused: a closed vocabulary, fit for
// logs, metric labels and explain.
type Reason string

// The reasons of a verdict. NotExported, NotImported and UnknownService are
// never given by this package; they are here because those who add them to a
// verdict (the route table's owner) must share one vocabulary.
const (
	ReasonAllowed           Reason = "allowed"
	ReasonDeniedByIntention Reason = "denied_by_intention"
	ReasonDefaultDeny       Reason = "default_deny"
	ReasonCallerNotAsserted Reason = "caller_not_asserted"
	ReasonNotExported       Reason = "not_exported"
	ReasonNotImported       Reason = "not_imported"
	ReasonUnknownService    Reason = "unknown_service"
	// ReasonAmbiguousPath: the request's path can be read in two ways, and a rule
	// of the service looks at paths.
	ReasonAmbiguousPath Reason = "ambiguous_path"
)

// Verdict is the answer to one authorization request.
type Verdict struct {
	Allowed bool   `json:"allowed"`
	Reason  Reason `json:"reason"`
	// Rule names the intention that decided; "" where none did.
	Rule string `json:"rule,omitempty"`
}

// AuthzRequest is one question: may Caller call Service?
type AuthzRequest struct {
	Service catalog.ServiceName
	// Caller is the workload's ID; zero where the way in knows none.
	Caller spiffeid.ID
	// FromPeer is set for a call that a peer's gateway carries; Peer names it
	// and PeerAsserts are the caller IDs that it may assert.
	FromPeer    bool
	Peer        catalog.ClusterName
	PeerAsserts []IDPattern
	// HTTP is the request; nil where none is seen.
	HTTP *HTTPRequest
	// Pending says, without HTTP, that requests are to come and each will be
	// judged by itself: for now conditions are left open. A deny with conditions
	// does not match yet, an allow with conditions does.
	Pending bool
}

// Authorize answers req by intentions. It compiles them for one question; those
// who ask often keep an Authorizer.
func Authorize(intentions []Intention, req AuthzRequest) Verdict {
	return NewAuthorizer(intentions).Authorize(req)
}

// Authorizer is a set of intentions compiled for lookup: the cost of a question
// depends on the length of the caller's ID, not on the number of rules. It is
// immutable and safe for concurrent use.
type Authorizer struct {
	rules      []string // rule names, sorted; a ruleRef is an index + 1
	exact      map[catalog.ServiceName]*serviceRules
	namespaces map[string]*serviceRules
	any        *serviceRules
}

// NewAuthorizer compiles validated intentions. Where several rules match, the
// verdict names the first by name, so that equal sets in any order answer
// alike. An action that is not Allow counts as Deny: a rule of a newer version
// must never open anything.
func NewAuthorizer(intentions []Intention) *Authorizer {
	a := &Authorizer{
		rules:      make([]string, 0, len(intentions)),
		exact:      make(map[catalog.ServiceName]*serviceRules),
		namespaces: make(map[string]*serviceRules),
	}
	for _, in := range sortedByName(intentions) {
		a.rules = append(a.rules, in.Name)
		ref := ruleRef(len(a.rules))
		conditions := make([]*HTTPCondition, len(in.HTTP))
		for i, c := range in.HTTP {
			conditions[i] = c.canonical()
		}
		for _, p := range in.Services {
			root := a.root(p)
			if root == nil {
				continue
			}
			for _, c := range in.Callers {
				root.insert(c, ref, in.Action == Allow, conditions)
			}
			for _, c := range conditions {
				root.paths = root.paths || c.Path != "" || c.PathPrefix != ""
			}
		}
	}
	return a
}

// root returns the caller index of one service pattern, made on first use; nil
// for a pattern that can match nothing.
func (a *Authorizer) root(p ServicePattern) *serviceRules {
	if p == "*" {
		if a.any == nil {
			a.any = new(serviceRules)
		}
		return a.any
	}
	if ns, ok := strings.CutPrefix(string(p), "*."); ok {
		n := a.namespaces[ns]
		if n == nil {
			n = new(serviceRules)
			a.namespaces[ns] = n
		}
		return n
	}
	name, ok := p.Exact()
	if !ok {
		return nil
	}
	n := a.exact[name]
	if n == nil {
		n = new(serviceRules)
		a.exact[name] = n
	}
	return n
}

// Authorize answers one question without allocating.
//
// A path that can be read in two ways is refused first, where a rule of the
// service looks at paths.
//
// For a peer's call: the peer must be allowed to assert the caller, then a deny
// wins over any allow, and no match denies. For the own cluster's call: the
// same without the assertion, but a service that no intention covers is open.
func (a *Authorizer) Authorize(req AuthzRequest) Verdict {
	if req.FromPeer && !MatchesAny(req.PeerAsserts, req.Caller) {
		return Verdict{Reason: ReasonCallerNotAsserted}
	}
	if req.Service.IsFederation() || req.Service.IsZero() {
		// Reserved names are no business of intentions: the tunnel admits
		// federations to them by exact ID.
		return Verdict{Reason: ReasonDefaultDeny}
	}
	roots := a.covering(req.Service)
	f := finding{http: req.HTTP, pending: req.Pending}
	covered := false
	for _, root := range roots {
		if root == nil {
			continue
		}
		if req.HTTP != nil && root.paths && req.HTTP.ambiguous != "" {
			return Verdict{Reason: ReasonAmbiguousPath}
		}
		covered = true
	}
	for _, root := range roots {
		if root != nil {
			root.match(req.Caller, &f)
		}
	}
	switch {
	case f.deny != 0:
		return Verdict{Reason: ReasonDeniedByIntention, Rule: a.rules[f.deny-1]}
	case f.allow != 0:
		return Verdict{Allowed: true, Reason: ReasonAllowed, Rule: a.rules[f.allow-1]}
	case req.FromPeer || covered:
		return Verdict{Reason: ReasonDefaultDeny}
	default:
		return Verdict{Allowed: true, Reason: ReasonAllowed}
	}
}

// covering are the rules of a service, from all patterns; nil where there are none.
func (a *Authorizer) covering(service catalog.ServiceName) [3]*serviceRules {
	return [...]*serviceRules{a.exact[service], a.namespaces[service.Namespace()], a.any}
}

// Covers reports whether an intention names the service, so that callers of the
// own cluster need an allow.
func (a *Authorizer) Covers(service catalog.ServiceName) bool {
	return a.covering(service) != [3]*serviceRules{}
}

// MatchesAny reports whether one of the patterns covers id.
func MatchesAny(patterns []IDPattern, id spiffeid.ID) bool {
	for _, p := range patterns {
		if p.Match(id) {
			return true
		}
	}
	return false
}
