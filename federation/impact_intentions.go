package federation

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// hostedService is what a dry run knows of a service of the own cluster.
type hostedService struct {
	name catalog.ServiceName
	// carriesHTTP: all of its ports do, so that a connection to it is judged by the
	// requests that it brings.
	carriesHTTP bool
}

// intentionImpact says which of the callers that were seen would be judged differently
// by the proposed intentions, and for which services the default of the own cluster's
// callers would change. It is pure.
func intentionImpact(current, proposed []policy.Intention, seen []route.Sighting, hosted []hostedService) resource.Impact {
	before, after := policy.NewAuthorizer(current), policy.NewAuthorizer(proposed)
	var out resource.Impact
	services := make(map[catalog.ServiceName]hostedService, len(hosted))
	for _, h := range hosted {
		services[h.name] = h
		was, is := before.Covers(h.name), after.Covers(h.name)
		if was == is {
			continue
		}
		field := resource.FieldDefaultDeny
		if was {
			field = resource.FieldDefaultAllow
		}
		out.Services = append(out.Services, resource.ServiceImpact{Service: h.name, Change: resource.ImpactChanged, Fields: []string{field}})
	}
	unread := 0
	for _, s := range latest(seen) {
		h, ok := services[s.Service]
		if !ok || !byIntentions(s.Reason) {
			continue
		}
		c, changes, ok := judgeAgain(before, after, &s, h.carriesHTTP)
		if !ok {
			unread++
		} else if changes {
			out.Callers = append(out.Callers, c)
		}
	}
	if len(seen) == 0 {
		out.Unknown = append(out.Unknown, "no calls were seen in the window")
	}
	if unread > 0 {
		out.Unknown = append(out.Unknown, fmt.Sprintf("%d callers that were seen have no valid id", unread))
	}
	// Who loses access comes first, then who gains it; the busiest first.
	slices.SortStableFunc(out.Callers, func(a, b resource.CallerImpact) int {
		return cmp.Or(cmp.Compare(a.After, b.After)*-1, cmp.Compare(b.Calls, a.Calls))
	})
	slices.SortFunc(out.Services, func(a, b resource.ServiceImpact) int { return a.Service.Compare(b.Service) })
	out.CallersTotal, out.ServicesTotal = len(out.Callers), len(out.Services)
	if len(out.Callers) > resource.MaxImpact {
		out.Callers, out.Truncated = out.Callers[:resource.MaxImpact], true
	}
	if len(out.Services) > resource.MaxImpact {
		out.Services, out.Truncated = out.Services[:resource.MaxImpact], true
	}
	return out
}

// byIntentions reports whether intentions decided, or would have: what was refused
// before them (an export, an assertion) stays refused.
func byIntentions(reason string) bool {
	switch policy.Reason(reason) {
	case policy.ReasonAllowed, policy.ReasonDeniedByIntention, policy.ReasonDefaultDeny, policy.ReasonAmbiguousPath:
		return true
	default:
		return false
	}
}

// latest joins what was seen of the same calls under other verdicts: the last holds.
func latest(seen []route.Sighting) []route.Sighting {
	index := make(map[route.SightingKey]int, len(seen))
	out := make([]route.Sighting, 0, len(seen))
	for _, s := range seen {
		key := s.SightingKey
		key.Allowed, key.Reason, key.Rule = false, "", ""
		i, known := index[key]
		if !known {
			index[key] = len(out)
			out = append(out, s)
			continue
		}
		calls := out[i].Count + s.Count
		if s.LastSeen.After(out[i].LastSeen) {
			out[i] = s
		}
		out[i].Count = calls
	}
	return out
}

// judgeAgain compares the verdicts about one caller; ok is false where its ID is none.
func judgeAgain(before, after *policy.Authorizer, s *route.Sighting, carriesHTTP bool) (c resource.CallerImpact, changes, ok bool) {
	req := policy.AuthzRequest{Service: s.Service, FromPeer: s.Peer != "", Pending: carriesHTTP}
	if s.Caller != "" {
		id, err := spiffeid.FromString(s.Caller)
		if err != nil {
			return c, false, false
		}
		req.Caller = id
	}
	var part *policy.Partial
	if s.Method != "" {
		part = &policy.Partial{Method: s.Method, Path: s.Path, Prefix: s.Prefix}
	}
	was, is := before.Possible(req, part), after.Possible(req, part)
	if was == is {
		return c, false, true
	}
	allowed := was.Allow
	if !was.Certain() {
		allowed = s.Allowed
	}
	if is.Certain() && is.Allow == allowed {
		return c, false, true
	}
	c = resource.CallerImpact{
		Caller: s.Caller, Cluster: s.Peer, Service: s.Service, Method: s.Method, Path: s.Path,
		Before: verdictWord(allowed), After: verdictWord(!allowed), Possible: !is.Certain(), Calls: s.Count, LastSeen: s.LastSeen,
	}
	if s.Prefix {
		c.Path += "*"
	}
	c.BeforeRule, c.AfterRule = ruleOf(was, allowed), ruleOf(is, !allowed)
	return c, true, true
}

func verdictWord(allowed bool) string {
	if allowed {
		return "allow"
	}
	return "deny"
}

func ruleOf(p policy.Possible, allowed bool) string {
	if allowed {
		return p.AllowRule
	}
	return p.DenyRule
}
