package federation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// StartDrill implements api.Drills.
func (p *plane) StartDrill(ctx context.Context, r *resource.DrillRequest, dryRun bool) (*resource.Drill, error) {
	return p.drills.order(ctx, r, dryRun)
}

// StopDrill ends a drill; of one that is over it says how it was.
func (p *plane) StopDrill(ctx context.Context, id string) (*resource.Drill, error) {
	d := &p.drills
	d.mu.Lock()
	if run := d.run; run != nil && run.spec.ID == id {
		if run.view.State == resource.DrillRunning {
			author := store.AuthorFrom(ctx)
			d.end(resource.DrillStopped, drillEndStopped, author.Reason)
			run.endedBy, run.view.EndedBy = author, author.Principal
		}
		out := run.now()
		d.mu.Unlock()
		return out, nil
	}
	d.mu.Unlock()
	return p.Drill(ctx, id)
}

// Drill returns one drill.
func (p *plane) Drill(ctx context.Context, id string) (*resource.Drill, error) {
	d := &p.drills
	d.mu.Lock()
	if run := d.run; run != nil && run.spec.ID == id {
		out := run.now()
		d.mu.Unlock()
		return out, nil
	}
	d.mu.Unlock()
	item, err := p.store.Get(ctx, store.Key{Kind: drillKind, Name: id})
	if err != nil {
		return nil, fmt.Errorf("drill %s: %w", id, err)
	}
	out := new(resource.Drill)
	if err := json.Unmarshal(item.Value, out); err != nil {
		return nil, fmt.Errorf("drill %s: %w", id, err)
	}
	return out, nil
}

// Drills are those that are remembered, the youngest first.
func (p *plane) Drills(ctx context.Context) (resource.Drills, error) {
	items, _, err := p.store.List(ctx, drillKind)
	if err != nil {
		return resource.Drills{}, err
	}
	byID := make(map[string]resource.Drill, len(items))
	for _, item := range items {
		one, err := p.Drill(ctx, item.Key.Name)
		if err != nil {
			return resource.Drills{}, err
		}
		byID[one.ID] = *one
	}
	out := resource.Drills{Items: make([]resource.Drill, 0, len(byID))}
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(byID))) {
		out.Items = append(out.Items, byID[id])
	}
	return out, nil
}
