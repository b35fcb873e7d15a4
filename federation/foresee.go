package federation

import (
	"context"
	"reflect"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/tables"
)

// horizon is what the loop has worked out last, for questions about what would
// be. Everything in it is immutable.
type horizon struct {
	in    merge.Input
	view  *merge.View
	index *policy.Index
}

// Would says what would change for gateways, peers and callers if all rules were
// those of o: the own catalog, what peers export and the evidence stay as they
// are.
func (p *plane) Would(ctx context.Context, o rulebook.Outlook) (resource.Impact, error) {
	h := p.horizon.Load()
	if h == nil {
		return resource.Impact{Unknown: []string{"nothing is worked out yet: the own catalog is not complete"}}, nil
	}
	// Each costs a pass over all services; one at a time is enough for people.
	select {
	case p.foreseeing <- struct{}{}:
		defer func() { <-p.foreseeing }()
	case <-ctx.Done():
		return resource.Impact{}, context.Cause(ctx)
	}
	// The rules of now are the book's: what was written a moment ago is perhaps not
	// worked out yet, and is no consequence of this write.
	now := p.book.Set()
	before, after := h.standing(h.index, now, p.book.Peers()), h.standing(h.index, o.Set, o.Peers)
	would := tables.Impact(before, after)
	if !reflect.DeepEqual(now.Intentions, o.Set.Intentions) {
		p.foreseeCallers(&would, after.View, now.Intentions, o.Set.Intentions, o.Window)
	}
	return would, nil
}

// standing is what follows from what is known and a set of rules; index is one
// that may be the set's already.
func (h *horizon) standing(index *policy.Index, set policy.Set, peers []policy.Peer) tables.Standing {
	if !index.Set().Equal(set) {
		index = policy.NewIndex(set)
	}
	in := h.in
	in.Import, in.Rules = tables.Imports(index), index
	in.Order = nil
	for _, q := range peers {
		in.Order = append(in.Order, q.Name)
	}
	return tables.Standing{View: merge.Update(h.view, in), Policy: index, Peers: peers}
}
