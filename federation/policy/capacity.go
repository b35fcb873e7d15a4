package policy

import (
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Capacity declares what endpoints of this cluster take. Where it is known, peers
// send here only what this cluster grants them, and what fits nowhere is refused
// where it comes from.
type Capacity struct {
	// PerEndpoint is how many requests (or connections, where requests are not seen)
	// an endpoint takes at once; the endpoint's label isthmus-capacity goes before it.
	PerEndpoint uint32 `json:"per_endpoint" yaml:"per_endpoint"`
}

// CallPriority says how early a call is refused where not all fit.
type CallPriority string

// The priorities.
const (
	CriticalPriority CallPriority = "critical"
	DefaultPriority  CallPriority = "default"
	LowPriority      CallPriority = "low"
)

// PriorityRule gives a priority to some calls from this cluster: those of Callers
// that meet one of the conditions of HTTP.
type PriorityRule struct {
	// Callers are SPIFFE ID patterns; none is any caller.
	Callers []IDPattern `json:"callers,omitempty" yaml:"callers,omitempty"`
	// HTTP are conditions on requests; none is any call, and a connection meets none.
	HTTP []HTTPCondition `json:"http,omitempty" yaml:"http,omitempty"`
	// Priority of the calls; "" is the default one.
	Priority CallPriority `json:"priority,omitempty" yaml:"priority,omitempty"`
	// FromRequest believes the urgency that a request itself states (RFC 9218: the
	// field Priority, u=0 to 2 is critical, 3 and 4 default, 5 to 7 low); Priority is
	// for those that state none. It is for callers that do not call everything urgent.
	FromRequest bool `json:"from_request,omitempty" yaml:"from_request,omitempty"`
}

// MaxPriorityRules bounds the rules of one policy: every call looks at each.
const MaxPriorityRules = 16

// PerEndpoint is the declared capacity of an endpoint; 0 is not known.
func (t *Traffic) PerEndpoint() uint32 {
	if t.Capacity == nil {
		return 0
	}
	return t.Capacity.PerEndpoint
}

func (t *Traffic) validateCapacity(p problems) {
	if c := t.Capacity; c != nil && (c.PerEndpoint == 0 || c.PerEndpoint > catalog.MaxEndpointCapacity) {
		p.add("capacity.per_endpoint", c.PerEndpoint, "must be 1 to %d calls at once; leave capacity out where it is not known", catalog.MaxEndpointCapacity)
	}
	checkCount(p, "priorities", len(t.Priorities), 0, MaxPriorityRules)
	for i := range t.Priorities {
		t.Priorities[i].validate(p.at("priorities[%d]", i))
	}
}

func (r *PriorityRule) validate(p problems) {
	checkCount(p, "callers", len(r.Callers), 0, MaxCallers)
	for i, c := range r.Callers {
		if _, err := ParseIDPattern(string(c)); err != nil {
			p.add(fmt.Sprintf("callers[%d]", i), c, "%v", err)
		}
	}
	validateHTTP(p, r.HTTP)
	r.Priority.validate(p, "priority")
}

func (c CallPriority) validate(p problems, field string) {
	switch c {
	case "", CriticalPriority, DefaultPriority, LowPriority:
	default:
		p.add(field, c, "must be %s, %s or %s", CriticalPriority, DefaultPriority, LowPriority)
	}
}

// Prioritizer gives calls their priority. It is immutable; the zero value gives
// all the default one.
type Prioritizer struct {
	rules []PriorityRule
	http  [][]*HTTPCondition
}

// NewPrioritizer compiles validated rules.
func NewPrioritizer(rules []PriorityRule) *Prioritizer {
	p := &Prioritizer{rules: rules, http: make([][]*HTTPCondition, len(rules))}
	for i := range rules {
		for _, c := range rules[i].HTTP {
			p.http[i] = append(p.http[i], c.canonical())
		}
	}
	return p
}

// Of is the priority of a call, by the first rule that covers it. caller is zero
// where it is not known, request nil of a connection.
func (p *Prioritizer) Of(caller spiffeid.ID, request *HTTPRequest) CallPriority {
	for i := range p.rules {
		r := &p.rules[i]
		if len(r.Callers) > 0 && !MatchesAny(r.Callers, caller) || !meetsOne(p.http[i], request) {
			continue
		}
		if r.FromRequest && request != nil {
			if stated := urgency(request.Header["Priority"]); stated != "" {
				return stated
			}
		}
		if r.Priority != "" {
			return r.Priority
		}
		return DefaultPriority
	}
	return DefaultPriority
}

func meetsOne(conditions []*HTTPCondition, request *HTTPRequest) bool {
	if len(conditions) == 0 {
		return true
	}
	if request == nil {
		return false
	}
	for _, c := range conditions {
		if c.match(request, true) {
			return true
		}
	}
	return false
}

// urgency reads the parameter u of RFC 9218's Priority, a dictionary of RFC 8941;
// what is not understood says nothing, as that document has it. The last word counts.
func urgency(fields []string) (p CallPriority) {
	for _, field := range fields {
		for member := range strings.SplitSeq(field, ",") {
			value, ok := strings.CutPrefix(strings.Trim(member, " \t"), "u=")
			if !ok {
				continue
			}
			value, _, _ = strings.Cut(value, ";") // parameters of the member
			switch value {
			case "0", "1", "2":
				p = CriticalPriority
			case "3", "4":
				p = DefaultPriority
			case "5", "6", "7":
				p = LowPriority
			}
		}
	}
	return p
}
