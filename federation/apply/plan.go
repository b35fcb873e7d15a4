package apply

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Action is what a step does.
type Action string

// The actions. Adopt writes no rule: what the files want holds already, and is
// remembered as the set's from now on. Forget drops what the set applied of a rule
// that somebody else has removed.
const (
	Create  Action = "create"
	Replace Action = "replace"
	Remove  Action = "remove"
	Adopt   Action = "adopt"
	Forget  Action = "forget"
)

// State is everything that a plan is made from.
type State struct {
	// Base is what the set applied last, Want what its files say, Live what the
	// federation holds.
	Base map[Key]Fields
	Want map[Key]Fields
	Live map[Key]Live
}

// Conflict is one rule, or one field of it, that the files and somebody else want
// differently.
type Conflict struct {
	Key Key `json:"key"`
	// Field is empty where the whole rule is meant.
	Field string          `json:"field,omitempty"`
	Want  json.RawMessage `json:"want,omitempty"`
	Live  json.RawMessage `json:"live,omitempty"`
	// Rule says what is wrong, in words.
	Rule string `json:"rule"`
}

// String names the rule, the field, both values and what is wrong.
func (c Conflict) String() string {
	if c.Field == "" {
		return fmt.Sprintf("%s: %s", c.Key, c.Rule)
	}
	return fmt.Sprintf("%s: %s: %s (files: %s, federation: %s)", c.Key, c.Field, c.Rule, shown(c.Want), shown(c.Live))
}

func shown(v json.RawMessage) string {
	if v == nil {
		return "nothing"
	}
	return string(v)
}

// Step is one write.
type Step struct {
	Action Action `json:"action"`
	Key    Key    `json:"key"`
	// Before and After are the rule's fields; nil where there is no rule.
	Before Fields `json:"before,omitempty"`
	After  Fields `json:"after,omitempty"`
	// ETag is the precondition of the write; "" for a creation.
	ETag string `json:"-"`
}

// Plan is what brings Live in line with Want.
type Plan struct {
	// Steps are in the order in which they are to be done.
	Steps []Step `json:"steps"`
	// Unchanged counts the rules that are as the files want them.
	Unchanged int `json:"unchanged"`
	// Kept are fields that somebody else has changed since they were applied, and
	// the files have not: the plan leaves them as they are.
	Kept []Conflict `json:"kept,omitempty"`
	// Conflicts keep a plan from being carried out, unless it was forced.
	Conflicts []Conflict `json:"conflicts,omitempty"`
}

// Changes counts the steps that write a rule.
func (p *Plan) Changes() int {
	n := 0
	for _, s := range p.Steps {
		if s.Action != Adopt && s.Action != Forget {
			n++
		}
	}
	return n
}

// Removals counts the rules that the plan removes.
func (p *Plan) Removals() int {
	n := 0
	for _, s := range p.Steps {
		if s.Action == Remove {
			n++
		}
	}
	return n
}

// New plans. With force the files win every conflict, except against rules of the
// configuration file, which cannot be written.
func New(s State, force bool) *Plan {
	p := &Plan{Steps: []Step{}}
	keys := make([]Key, 0, len(s.Want)+len(s.Base))
	for k := range s.Want {
		keys = append(keys, k)
	}
	for k := range s.Base {
		if _, wanted := s.Want[k]; !wanted {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compareKeys)
	var removals []Step
	for _, k := range keys {
		if s.Want[k] == nil {
			if step, ok := p.gone(k, s, force); ok {
				removals = append(removals, step)
			}
			continue
		}
		if step, ok := p.wanted(k, s, force); ok {
			p.Steps = append(p.Steps, step)
		}
	}
	slices.Reverse(removals)
	p.Steps = append(p.Steps, removals...)
	return p
}

// gone plans for a rule that the set applied and the files no longer have.
func (p *Plan) gone(k Key, s State, force bool) (Step, bool) {
	live, there := s.Live[k]
	switch {
	case !there:
		return Step{Action: Forget, Key: k}, true
	case live.Fixed:
		p.Conflicts = append(p.Conflicts, Conflict{Key: k, Rule: ruleFixed})
		return Step{}, false
	case !force && !live.Fields.Equal(s.Base[k]):
		p.Conflicts = append(p.Conflicts, Conflict{Key: k, Rule: "is gone from the files, and somebody else has changed it since it was applied"})
		return Step{}, false
	}
	return Step{Action: Remove, Key: k, Before: live.Fields, ETag: live.ETag}, true
}

const ruleFixed = "is kept in the federation's configuration file and can be changed there only"

// wanted plans for a rule that the files have.
func (p *Plan) wanted(k Key, s State, force bool) (Step, bool) {
	want, base := s.Want[k], s.Base[k]
	live, there := s.Live[k]
	if !there {
		if base != nil && base.Equal(want) && !force {
			p.Conflicts = append(p.Conflicts, Conflict{Key: k, Rule: "was removed by somebody else since it was applied"})
			return Step{}, false
		}
		return Step{Action: Create, Key: k, After: want}, true
	}
	if live.Fields.Equal(want) {
		p.Unchanged++
		if live.Fixed || base != nil && base.Equal(want) {
			return Step{}, false
		}
		return Step{Action: Adopt, Key: k, Before: live.Fields, After: want, ETag: live.ETag}, true
	}
	if live.Fixed {
		p.Conflicts = append(p.Conflicts, Conflict{Key: k, Rule: ruleFixed})
		return Step{}, false
	}
	if base == nil && !force {
		p.Conflicts = append(p.Conflicts, Conflict{Key: k, Rule: "exists already, is different, and was not made by this set"})
		return Step{}, false
	}
	after, kept, conflicts := mergeFields(k, base, want, live.Fields)
	if force {
		after, kept, conflicts = want, nil, nil
	}
	if len(conflicts) > 0 {
		p.Conflicts = append(p.Conflicts, conflicts...)
		return Step{}, false
	}
	p.Kept = append(p.Kept, kept...)
	if after.Equal(live.Fields) {
		// Only others have changed it, in fields that the files do not.
		if base.Equal(want) {
			return Step{}, false
		}
		return Step{Action: Adopt, Key: k, Before: live.Fields, After: live.Fields, ETag: live.ETag}, true
	}
	return Step{Action: Replace, Key: k, Before: live.Fields, After: after, ETag: live.ETag}, true
}

// mergeFields is the three-way merge of one rule, field by field; kept are those
// that stay as somebody else made them.
func mergeFields(k Key, base, want, live Fields) (after Fields, kept, conflicts []Conflict) {
	after = Fields{}
	for _, name := range names(base, want, live) {
		b, w, l := base[name], want[name], live[name]
		take := w
		switch {
		case bytes.Equal(w, l):
		case bytes.Equal(b, w):
			take = l // the files did not touch it
			kept = append(kept, Conflict{Key: k, Field: name, Want: w, Live: l, Rule: "was changed by somebody else and stays so"})
		case bytes.Equal(b, l):
			// nobody else did
		default:
			conflicts = append(conflicts, Conflict{Key: k, Field: name, Want: w, Live: l, Rule: "was changed in the files and by somebody else"})
		}
		if take != nil {
			after[name] = take
		}
	}
	return after, kept, conflicts
}
