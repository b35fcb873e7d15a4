package policy

import (
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const idScheme = "spiffe://"

// ruleRef is an index into Authorizer.rules plus one; 0 is none. Lower is
// earlier by name.
type ruleRef int32

func (r *ruleRef) lower(o ruleRef) {
	if o != 0 && (*r == 0 || o < *r) {
		*r = o
	}
}

// finding is what a search through the rules has found: the first deny and the
// first allow by name.
type finding struct {
	deny, allow ruleRef
	http        *HTTPRequest
	pending     bool
}

func (f *finding) take(ref ruleRef, allow bool) {
	if allow {
		f.allow.lower(ref)
	} else {
		f.deny.lower(ref)
	}
}

// serviceRules are the rules of one service pattern.
type serviceRules struct {
	callerNode
	// paths says that one of them looks at paths.
	paths bool
}

// callerNode is a trie over the segments of caller IDs (trust domain, then
// path). A trie rather than a map of prefixes: a long hostile ID costs its
// length once, not once per segment.
type callerNode struct {
	children map[string]*callerNode
	// exact are the rules for the ID that ends here, below those for every ID
	// that goes on.
	exact, below nodeRules
}

// nodeRules are the rules of one caller pattern.
type nodeRules struct {
	deny, allow ruleRef
	// narrowed are those with conditions; nil where there are none.
	narrowed *narrowed
}

func (n *callerNode) insert(p IDPattern, ref ruleRef, allow bool, conditions []*HTTPCondition) {
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
	rules := &n.exact
	if wild {
		rules = &n.below
	}
	switch {
	case len(conditions) > 0:
		if rules.narrowed == nil {
			rules.narrowed = new(narrowed)
		}
		rules.narrowed.add(ref, allow, conditions)
	case allow:
		rules.allow.lower(ref)
	default:
		rules.deny.lower(ref)
	}
}

// match adds to f what the rules say of id.
func (n *callerNode) match(id spiffeid.ID, f *finding) {
	n.walk(id, func(r *nodeRules) { r.match(f) })
}

// walk visits the rules of every pattern that covers id.
func (n *callerNode) walk(id spiffeid.ID, visit func(*nodeRules)) {
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
			visit(&n.below)
		}
	}
	visit(&n.exact)
}

func (r *nodeRules) match(f *finding) {
	f.deny.lower(r.deny)
	f.allow.lower(r.allow)
	if r.narrowed == nil {
		return
	}
	switch {
	case f.http != nil:
		r.narrowed.match(f)
	case f.pending:
		f.allow.lower(r.narrowed.allow)
	default:
		f.deny.lower(r.narrowed.deny)
	}
}
