package apply

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Kind names a collection of rules by its key in files and its path in the API.
type Kind string

// The kinds, in the order in which they are created: who may call comes before
// what is offered, so that nothing is offered before its rules hold. They are
// removed in the reverse order.
const (
	Peers           Kind = "peers"
	TrafficPolicies Kind = "traffic-policies"
	Intentions      Kind = "intentions"
	Exports         Kind = "exports"
	Imports         Kind = "imports"
)

// Kinds lists all kinds in the order of creation.
func Kinds() []Kind {
	names := make([]Kind, len(table))
	for i, k := range table {
		names[i] = k.name()
	}
	return names
}

// Key names one rule.
type Key struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// String is "kind/name".
func (k Key) String() string { return string(k.Kind) + "/" + k.Name }

// rank is a kind's place in the order of creation.
func rank(name Kind) int {
	return slices.IndexFunc(table, func(k kind) bool { return k.name() == name })
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), cmp.Compare(a.Name, b.Name))
}

// Fields are the top-level fields of a rule as JSON, empty ones left out: one form
// for what comes from files and from the API.
type Fields map[string]json.RawMessage

// FieldsOf takes a rule apart. Both sides of a comparison must come from the same
// Go type, so that what is left out is left out in both.
func FieldsOf(rule any) (Fields, error) {
	data, err := json.Marshal(rule)
	if err != nil {
		return nil, err
	}
	var f Fields
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("rule is no object: %w", err)
	}
	maps.DeleteFunc(f, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
	return f, nil
}

// Equal reports whether both have the same fields with the same values.
func (f Fields) Equal(o Fields) bool {
	return maps.EqualFunc(f, o, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
}

// Names are the names of the fields, sorted.
func (f Fields) Names() []string { return slices.Sorted(maps.Keys(f)) }

// names are the names of the fields of all, sorted.
func names(all ...Fields) []string {
	seen := map[string]bool{}
	for _, f := range all {
		for name := range f {
			seen[name] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Live is a rule that the federation holds.
type Live struct {
	Fields Fields
	// ETag is what a write must name; Fixed means that the rule is the
	// configuration file's and cannot be written.
	ETag  string
	Fixed bool
}
