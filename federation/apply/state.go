package apply

import (
	"encoding/json"
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Held is everything that a federation holds of what files may say.
type Held struct {
	Peers      []resource.Peer
	Exports    []resource.Export
	Imports    []resource.Import
	Intentions []resource.Intention
	Traffic    []resource.TrafficPolicy
}

// Live takes it apart.
func (h *Held) Live() (map[Key]Live, error) {
	out := map[Key]Live{}
	add := func(kind Kind, name string, rule any, s resource.Stored) error {
		f, err := FieldsOf(rule)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", kind, name, err)
		}
		out[Key{kind, name}] = Live{Fields: f, ETag: s.ETag, Fixed: s.Origin == resource.FromConfig}
		return nil
	}
	for _, r := range h.Peers {
		if err := add(Peers, string(r.Name), r.Spec, r.Stored); err != nil {
			return nil, err
		}
	}
	for _, r := range h.Exports {
		if err := add(Exports, r.Name, r.Export, r.Stored); err != nil {
			return nil, err
		}
	}
	for _, r := range h.Imports {
		if err := add(Imports, r.Name, r.Import, r.Stored); err != nil {
			return nil, err
		}
	}
	for _, r := range h.Intentions {
		if err := add(Intentions, r.Name, r.Intention, r.Stored); err != nil {
			return nil, err
		}
	}
	for _, r := range h.Traffic {
		if err := add(TrafficPolicies, r.Name, r.Traffic, r.Stored); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Document is what the federation holds as a file would say it, without the rules
// of its configuration file: those stay where they are.
func (h *Held) Document() *Document {
	d := &Document{}
	for _, r := range h.Peers {
		if r.Origin != resource.FromConfig {
			d.Peers = append(d.Peers, r.Spec)
		}
	}
	for _, r := range h.Exports {
		if r.Origin != resource.FromConfig {
			d.Exports = append(d.Exports, r.Export)
		}
	}
	for _, r := range h.Imports {
		if r.Origin != resource.FromConfig {
			d.Imports = append(d.Imports, r.Import)
		}
	}
	for _, r := range h.Intentions {
		if r.Origin != resource.FromConfig {
			d.Intentions = append(d.Intentions, r.Intention)
		}
	}
	for _, r := range h.Traffic {
		if r.Origin != resource.FromConfig {
			d.Traffic = append(d.Traffic, r.Traffic)
		}
	}
	return d
}

// Base takes apart what a set applied. Each rule goes through its type of now, so
// that a rule that an older version applied compares as one of this version.
func Base(set resource.AppliedSet) (map[Key]Fields, error) {
	out := make(map[Key]Fields, len(set.Rules))
	for _, r := range set.Rules {
		var rule any
		switch Kind(r.Kind) {
		case Peers:
			rule = &policy.Peer{}
		case Exports:
			rule = &policy.Export{}
		case Imports:
			rule = &policy.Import{}
		case Intentions:
			rule = &policy.Intention{}
		case TrafficPolicies:
			rule = &policy.Traffic{}
		default:
			continue // of a newer version: none of ours to compare
		}
		if err := json.Unmarshal(r.Rule, rule); err != nil {
			return nil, fmt.Errorf("%s/%s, as it was applied: %w", r.Kind, r.Name, err)
		}
		f, err := FieldsOf(rule)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", r.Kind, r.Name, err)
		}
		out[Key{Kind(r.Kind), r.Name}] = f
	}
	return out, nil
}
