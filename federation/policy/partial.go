package policy

import "strings"

// Partial is what was kept of a request: its method and its path or, with Prefix, how
// the path begins. Its header fields were not kept.
type Partial struct {
	Method string
	// Path is "" where it was ambiguous.
	Path   string
	Prefix bool
}

// Possible says how a request of which only a part is known may be judged: both ways
// where what is not known decides. A rule is the one that decides, "" the default.
type Possible struct {
	Allow, Deny         bool
	AllowRule, DenyRule string
}

// Certain reports whether there is one answer.
func (p Possible) Certain() bool { return p.Allow != p.Deny }

// Possible answers req by what is known of its request, read from seen; nil asks as
// Authorize does. What a peer may assert is not asked: the call was seen. It is for
// dry runs; unlike Authorize its cost grows with the rules of a caller.
func (a *Authorizer) Possible(req AuthzRequest, seen *Partial) Possible {
	if req.Service.IsFederation() || req.Service.IsZero() {
		return Possible{Deny: true}
	}
	var sure, open finding
	sure.http, sure.pending = req.HTTP, req.Pending
	covered := false
	for _, root := range a.covering(req.Service) {
		if root == nil {
			continue
		}
		covered = true
		if seen == nil {
			root.match(req.Caller, &sure)
			continue
		}
		if root.paths && seen.Path == "" && seen.Method != "CONNECT" {
			return Possible{Deny: true}
		}
		root.walk(req.Caller, func(r *nodeRules) {
			sure.deny.lower(r.deny)
			sure.allow.lower(r.allow)
			if r.narrowed != nil {
				r.narrowed.partly(seen, &sure, &open)
			}
		})
	}
	switch {
	case sure.deny != 0:
		return Possible{Deny: true, DenyRule: a.rules[sure.deny-1]}
	case !covered && !req.FromPeer:
		return Possible{Allow: true}
	}
	p := Possible{Deny: sure.allow == 0}
	if open.deny != 0 {
		p.Deny, p.DenyRule = true, a.rules[open.deny-1]
	}
	if allow := either(sure.allow, open.allow); allow != 0 {
		p.Allow, p.AllowRule = true, a.rules[allow-1]
	}
	return p
}

// either is the sure one, if there is one.
func either(sure, open ruleRef) ruleRef {
	if sure != 0 {
		return sure
	}
	return open
}

// partly adds the rules that are met to sure, and those that may be to open.
func (n *narrowed) partly(seen *Partial, sure, open *finding) {
	look := func(branches []branch) {
		for _, b := range branches {
			switch b.condition.partly(seen, b.allow) {
			case met:
				sure.take(b.ref, b.allow)
			case mayBe:
				open.take(b.ref, b.allow)
			case missed:
			}
		}
	}
	look(n.rest)
	for _, branches := range n.whole {
		look(branches)
	}
	for _, branches := range n.below {
		look(branches)
	}
}

// answer is that of a condition to what is partly known.
type answer uint8

const (
	missed answer = iota
	mayBe
	met
)

func (c *HTTPCondition) partly(seen *Partial, allow bool) answer {
	if !c.matchMethod(seen.Method, allow) {
		return missed
	}
	path := c.partlyPath(seen, allow)
	if path == met && len(c.Headers) > 0 {
		return mayBe
	}
	return path
}

func (c *HTTPCondition) partlyPath(seen *Partial, allow bool) answer {
	if !seen.Prefix || c.Path == "" && c.PathPrefix == "" {
		if c.matchPath(seen.Path, allow) {
			return met
		}
		return missed
	}
	begins := func(s, prefix string) bool {
		if allow {
			return strings.HasPrefix(s, prefix)
		}
		return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
	}
	if c.PathPrefix != "" && begins(seen.Path, c.PathPrefix) {
		return met
	}
	named := c.Path + c.PathPrefix // one of them is set
	if !allow && !strings.HasSuffix(named, "/") {
		named += "/" // a deny is met by that, too
	}
	if begins(named, seen.Path) {
		return mayBe
	}
	return missed
}
