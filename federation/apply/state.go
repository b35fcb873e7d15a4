package apply

import (
	"fmt"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
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
	for _, k := range table {
		if err := k.live(h, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Document is what the federation holds as a file would say it, without the rules
// of its configuration file: those stay where they are.
func (h *Held) Document() *Document {
	d := &Document{}
	for _, k := range table {
		k.document(h, d)
	}
	return d
}

// Base takes apart what a set applied. Each rule goes through its type of now, so
// that a rule that an older version applied compares as one of this version.
func Base(set resource.AppliedSet) (map[Key]Fields, error) {
	out := make(map[Key]Fields, len(set.Rules))
	for _, r := range set.Rules {
		k := kindNamed(Kind(r.Kind))
		if k == nil {
			continue // of a newer version: none of ours to compare
		}
		f, err := k.base(r.Rule)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", r.Kind, r.Name, err)
		}
		out[Key{k.name(), r.Name}] = f
	}
	return out, nil
}
