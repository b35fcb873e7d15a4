package rulebook

import (
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// kind ties a resource of the API (R) to its rule (P), what is stored.
type kind[R, P any] struct {
	name     string
	wrap     func(P, resource.Stored) R
	rule     func(R) P
	ruleName func(P) string
	setName  func(*P, string)
	validate func(P) error
	stored   func(R) resource.Stored
	// unread reads a stored rule that has fields which this version does not know,
	// where it is safe to apply without them. Nil: it never is.
	unread func(data []byte) (P, bool)
	// among refuses a rule beside the others of its kind. Nil: each stands alone.
	among func(rule P, others []P) error
	// most is how many are kept.
	most int
	// foresee puts a rule into an outlook, or (nil) takes it out.
	foresee func(o *Outlook, name string, rule *P)
}

var exportKind = kind[resource.Export, policy.Export]{
	most:     policy.MaxRules,
	name:     Exports,
	wrap:     func(p policy.Export, s resource.Stored) resource.Export { return resource.Export{Export: p, Stored: s} },
	rule:     func(r resource.Export) policy.Export { return r.Export },
	ruleName: func(p policy.Export) string { return p.Name },
	setName:  func(p *policy.Export, name string) { p.Name = name },
	validate: policy.Export.Validate,
	stored:   func(r resource.Export) resource.Stored { return r.Stored },
	foresee: func(o *Outlook, name string, rule *policy.Export) {
		o.Set.Exports = foreseenIn(o.Set.Exports, name, func(p policy.Export) string { return p.Name }, rule)
	},
}

var importKind = kind[resource.Import, policy.Import]{
	most:     policy.MaxRules,
	name:     Imports,
	wrap:     func(p policy.Import, s resource.Stored) resource.Import { return resource.Import{Import: p, Stored: s} },
	rule:     func(r resource.Import) policy.Import { return r.Import },
	ruleName: func(p policy.Import) string { return p.Name },
	setName:  func(p *policy.Import, name string) { p.Name = name },
	validate: policy.Import.Validate,
	stored:   func(r resource.Import) resource.Stored { return r.Stored },
	foresee: func(o *Outlook, name string, rule *policy.Import) {
		o.Set.Imports = foreseenIn(o.Set.Imports, name, func(p policy.Import) string { return p.Name }, rule)
	},
}

var intentionKind = kind[resource.Intention, policy.Intention]{
	most: policy.MaxRules,
	name: Intentions,
	wrap: func(p policy.Intention, s resource.Stored) resource.Intention {
		return resource.Intention{Intention: p, Stored: s}
	},
	rule:     func(r resource.Intention) policy.Intention { return r.Intention },
	ruleName: func(p policy.Intention) string { return p.Name },
	setName:  func(p *policy.Intention, name string) { p.Name = name },
	validate: policy.Intention.Validate,
	stored:   func(r resource.Intention) resource.Stored { return r.Stored },
	// Conditions of a newer version can only narrow a rule: a deny without them
	// refuses more than was meant, an allow without them would let more in.
	unread: func(data []byte) (policy.Intention, bool) {
		in, ok, err := policy.ReadIntention(data)
		return in, ok && err == nil
	},
	foresee: func(o *Outlook, name string, rule *policy.Intention) {
		o.Set.Intentions = foreseenIn(o.Set.Intentions, name, func(p policy.Intention) string { return p.Name }, rule)
	},
}

var trafficKind = kind[resource.TrafficPolicy, policy.Traffic]{
	most: policy.MaxRules,
	name: TrafficPolicies,
	wrap: func(p policy.Traffic, s resource.Stored) resource.TrafficPolicy {
		return resource.TrafficPolicy{Traffic: p, Stored: s}
	},
	rule:     func(r resource.TrafficPolicy) policy.Traffic { return r.Traffic },
	ruleName: func(p policy.Traffic) string { return p.Name },
	setName:  func(p *policy.Traffic, name string) { p.Name = name },
	validate: policy.Traffic.Validate,
	stored:   func(r resource.TrafficPolicy) resource.Stored { return r.Stored },
	foresee: func(o *Outlook, name string, rule *policy.Traffic) {
		o.Set.Traffic = foreseenIn(o.Set.Traffic, name, func(p policy.Traffic) string { return p.Name }, rule)
	},
}
