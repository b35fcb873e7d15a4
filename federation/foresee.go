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
	before := tables.Standing{View: h.view, Policy: h.index, Peers: p.book.Peers()}
	after := tables.Standing{Policy: policy.NewIndex(o.Set), Peers: o.Peers}
	in := h.in
	in.Import, in.Rules = tables.Imports(after.Policy), after.Policy
	in.Order = nil
	for _, q := range o.Peers {
		in.Order = append(in.Order, q.Name)
	}
	after.View = merge.Update(h.view, in)
	would := tables.Impact(before, after)
	if !reflect.DeepEqual(h.index.Set().Intentions, o.Set.Intentions) {
		p.foreseeCallers(&would, after.View, h.index.Set().Intentions, o.Set.Intentions, o.Window)
	}
	return would, nil
}
