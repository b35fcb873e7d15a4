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
	exact      map[catalog.ServiceName]*callerNode
	namespaces map[string]*callerNode
	any        *callerNode
}

// NewAuthorizer compiles validated intentions. Where several rules match, the
// verdict names the first by name, so that equal sets in any order answer
// alike. An action that is not Allow counts as Deny: a rule of a newer version
// must never open anything.
func NewAuthorizer(intentions []Intention) *Authorizer {
	a := &Authorizer{
		rules:      make([]string, 0, len(intentions)),
		exact:      make(map[catalog.ServiceName]*callerNode),
		namespaces: make(map[string]*callerNode),
	}
	for _, in := range sortedByName(intentions) {
		a.rules = append(a.rules, in.Name)
		ref := ruleRef(len(a.rules))
		for _, p := range in.Services {
			root := a.root(p)
			if root == nil {
				continue
			}
			for _, c := range in.Callers {
				root.insert(c, ref, in.Action == Allow)
			}
		}
	}
	return a
}

// root returns the caller index of one service pattern, made on first use; nil
// for a pattern that can match nothing.
func (a *Authorizer) root(p ServicePattern) *callerNode {
	if p == "*" {
		if a.any == nil {
			a.any = new(callerNode)
		}
		return a.any
	}
	if ns, ok := strings.CutPrefix(string(p), "*."); ok {
		n := a.namespaces[ns]
		if n == nil {
			n = new(callerNode)
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
		n = new(callerNode)
		a.exact[name] = n
	}
	return n
}

// Authorize answers one question without allocating.
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
	roots := [...]*callerNode{a.exact[req.Service], a.namespaces[req.Service.Namespace()], a.any}
	var deny, allow ruleRef
	covered := false
	for _, root := range roots {
		if root == nil {
			continue
		}
		covered = true
		root.match(req.Caller, &deny, &allow)
	}
	switch {
	case deny != 0:
		return Verdict{Reason: ReasonDeniedByIntention, Rule: a.rules[deny-1]}
	case allow != 0:
		return Verdict{Allowed: true, Reason: ReasonAllowed, Rule: a.rules[allow-1]}
	case req.FromPeer || covered:
		return Verdict{Reason: ReasonDefaultDeny}
	default:
		return Verdict{Allowed: true, Reason: ReasonAllowed}
	}
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

// ruleRef is an index into Authorizer.rules plus one; 0 is none. Lower is
// earlier by name.
type ruleRef int32

func (r *ruleRef) lower(o ruleRef) {
	if o != 0 && (*r == 0 || o < *r) {
		*r = o
	}
}

// callerNode is a trie over the segments of caller IDs (trust domain, then
// path). A trie rather than a map of prefixes: a long hostile ID costs its
// length once, not once per segment.
type callerNode struct {
	children map[string]*callerNode
	// exact are the rules for the ID that ends here, below those for every ID
	// that goes on.
	exactDeny, exactAllow ruleRef
	belowDeny, belowAllow ruleRef
}

const idScheme = "spiffe://"

func (n *callerNode) insert(p IDPattern, ref ruleRef, allow bool) {
	base, wild := strings.CutSuffix(string(p), "/*")
	rest, ok := strings.CutPrefix(base, idScheme)
	if !ok {
		return
	}
	for more := true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		child := n.children[segment]
		if child == nil {
			child = new(callerNode)
			if n.children == nil {
				n.children = make(map[string]*callerNode, 1)
			}
			n.children[segment] = child
		}
		n = child
	}
	switch {
	case wild && allow:
		n.belowAllow.lower(ref)
	case wild:
		n.belowDeny.lower(ref)
	case allow:
		n.exactAllow.lower(ref)
	default:
		n.exactDeny.lower(ref)
	}
}

func (n *callerNode) match(id spiffeid.ID, deny, allow *ruleRef) {
	rest, ok := strings.CutPrefix(id.String(), idScheme)
	if !ok {
		return // the zero ID: no pattern covers it
	}
	for more := true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if n = n.children[segment]; n == nil {
			return
		}
		if more {
			deny.lower(n.belowDeny)
			allow.lower(n.belowAllow)
		}
	}
	deny.lower(n.exactDeny)
	allow.lower(n.exactAllow)
}
