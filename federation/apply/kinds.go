package apply

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// kind is one kind of rules: where they lie in files and in what a federation
// holds. A sixth kind is one more entry of table.
type kind interface {
	name() Kind
	// live adds what a federation holds of the kind.
	live(h *Held, out map[Key]Live) error
	// document adds to a file what did not come from the configuration file.
	document(h *Held, d *Document)
	// rules adds what a file says of the kind; count is how much that is.
	rules(d *Document, out map[Key]Fields) error
	count(d *Document) int
	// base takes apart a rule that was applied, by its type of now.
	base(rule json.RawMessage) (Fields, error)
}

// table has all kinds, in the order in which they are created.
//
//nolint:gochecknoglobals // a constant in all but name
var table = []kind{
	rules[resource.Peer, policy.Peer]{
		Peers, func(h *Held) []resource.Peer { return h.Peers }, func(d *Document) *[]policy.Peer { return &d.Peers },
		func(r resource.Peer) (policy.Peer, resource.Stored) { return r.Spec, r.Stored },
		func(r policy.Peer) string { return string(r.Name) },
	},
	rules[resource.TrafficPolicy, policy.Traffic]{
		TrafficPolicies, func(h *Held) []resource.TrafficPolicy { return h.Traffic }, func(d *Document) *[]policy.Traffic { return &d.Traffic },
		func(r resource.TrafficPolicy) (policy.Traffic, resource.Stored) { return r.Traffic, r.Stored },
		func(r policy.Traffic) string { return r.Name },
	},
	rules[resource.Intention, policy.Intention]{
		Intentions, func(h *Held) []resource.Intention { return h.Intentions }, func(d *Document) *[]policy.Intention { return &d.Intentions },
		func(r resource.Intention) (policy.Intention, resource.Stored) { return r.Intention, r.Stored },
		func(r policy.Intention) string { return r.Name },
	},
	rules[resource.Export, policy.Export]{
		Exports, func(h *Held) []resource.Export { return h.Exports }, func(d *Document) *[]policy.Export { return &d.Exports },
		func(r resource.Export) (policy.Export, resource.Stored) { return r.Export, r.Stored },
		func(r policy.Export) string { return r.Name },
	},
	rules[resource.Import, policy.Import]{
		Imports, func(h *Held) []resource.Import { return h.Imports }, func(d *Document) *[]policy.Import { return &d.Imports },
		func(r resource.Import) (policy.Import, resource.Stored) { return r.Import, r.Stored },
		func(r policy.Import) string { return r.Name },
	},
}

// kindNamed returns the kind of that name; nil of one that only a newer version has.
func kindNamed(name Kind) kind {
	if i := slices.IndexFunc(table, func(k kind) bool { return k.name() == name }); i >= 0 {
		return table[i]
	}
	return nil
}

// rules is a kind whose rules the API gives as H and files as R.
type rules[H, R any] struct {
	kind Kind
	held func(*Held) []H
	file func(*Document) *[]R
	// parts are the rule as a file has it, and what the federation says of it.
	parts func(H) (R, resource.Stored)
	named func(R) string
}

func (k rules[H, R]) name() Kind { return k.kind }

func (k rules[H, R]) live(h *Held, out map[Key]Live) error {
	for _, item := range k.held(h) {
		rule, stored := k.parts(item)
		f, err := FieldsOf(rule)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", k.kind, k.named(rule), err)
		}
		out[Key{k.kind, k.named(rule)}] = Live{Fields: f, ETag: stored.ETag, Fixed: stored.Origin == resource.FromConfig}
	}
	return nil
}

func (k rules[H, R]) document(h *Held, d *Document) {
	into := k.file(d)
	for _, item := range k.held(h) {
		if rule, stored := k.parts(item); stored.Origin != resource.FromConfig {
			*into = append(*into, rule)
		}
	}
}

func (k rules[H, R]) rules(d *Document, out map[Key]Fields) error {
	for _, rule := range *k.file(d) {
		f, err := FieldsOf(rule)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", k.kind, k.named(rule), err)
		}
		out[Key{k.kind, k.named(rule)}] = f
	}
	return nil
}

func (k rules[H, R]) count(d *Document) int { return len(*k.file(d)) }

func (k rules[H, R]) base(data json.RawMessage) (Fields, error) {
	var rule R
	if err := json.Unmarshal(data, &rule); err != nil {
		return nil, fmt.Errorf("as it was applied: %w", err)
	}
	return FieldsOf(rule)
}
