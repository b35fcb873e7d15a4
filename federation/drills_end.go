package federation

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// end takes the drill out of the table; its last counts are awaited. d.mu is held.
func (d *drills) end(state, reason, detail string) {
	run := d.run
	if run == nil || run.view.State != resource.DrillRunning {
		return
	}
	run.view.State, run.view.End, run.view.Detail, run.view.EndedAt = resource.DrillEnding, reason, detail, d.p.now().UTC()
	d.p.log.Warn("drill ends", "drill", run.spec.ID, "reason", cmp.Or(reason, state)+reasonAfter(detail), "duration", run.view.EndedAt.Sub(run.view.StartedAt))
	d.p.touch(catalogChanged)
}

// look does what is due by time alone.
func (d *drills) look(ctx context.Context) {
	now := d.p.now()
	d.mu.Lock()
	run := d.run
	if run == nil {
		d.mu.Unlock()
		d.adopt(ctx, now)
		return
	}
	if run.view.State == resource.DrillRunning {
		d.judge(now)
	}
	due := run.view.State == resource.DrillEnding && (now.Sub(run.view.EndedAt) >= drillSettle || run.heardOut(now))
	d.mu.Unlock()
	if due {
		if err := d.finish(ctx, run); err != nil {
			d.p.log.Error("the end of a drill is not written down yet", "drill", run.spec.ID, "err", err)
		}
	}
}

// judge ends a drill whose time is over, or that a gateway has left. d.mu is held.
func (d *drills) judge(now time.Time) {
	run := d.run
	if !now.Before(run.spec.Until) {
		d.end(resource.DrillOver, string(route.DrillOver), "")
		return
	}
	for _, m := range run.spec.Members {
		h, known := d.p.gateways.named(m.Gateway)
		if !known || now.Sub(h.at) >= route.DrillLease {
			d.end(resource.DrillAborted, drillEndSilent, "gateway "+m.Gateway)
			return
		}
		if run.accounts[m.Gateway] == nil && now.Sub(run.view.StartedAt) >= drillUnjoined {
			d.end(resource.DrillAborted, drillEndUnjoined, "gateway "+m.Gateway)
			return
		}
	}
}

// heardOut reports whether every gateway has said that it has ended, and had a moment for
// the calls that were under way.
func (r *drillRun) heardOut(now time.Time) bool {
	for _, m := range r.spec.Members {
		if a := r.accounts[m.Gateway]; a == nil || a.Running || now.Sub(a.EndedAt) < drillSettle {
			return false
		}
	}
	return true
}

// finish writes down how it ended.
func (d *drills) finish(ctx context.Context, run *drillRun) error {
	d.ordering.Lock()
	defer d.ordering.Unlock()
	d.mu.Lock()
	out := run.now()
	author := run.endedBy
	d.mu.Unlock()
	out.State = finalState(out.End)
	if author.Principal == "" {
		author.Reason = "drill " + out.State + reasonAfter(out.End+reasonAfter(out.Detail))
	}
	if err := d.write(store.WithAuthor(ctx, author), out, run.revision); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run = nil
	return nil
}

func finalState(end string) string {
	switch end {
	case string(route.DrillOver):
		return resource.DrillOver
	case drillEndStopped:
		return resource.DrillStopped
	default:
		return resource.DrillAborted
	}
}

// write replaces the item of a drill that is all over.
func (d *drills) write(ctx context.Context, out *resource.Drill, revision uint64) error {
	value, err := json.Marshal(out)
	if err != nil {
		return err
	}
	_, err = d.p.history.Apply(ctx,
		store.Write{Key: store.Key{Kind: drillKind, Name: out.ID}, Value: value, Expect: revision},
		store.Write{Key: drillStateKey(), Value: []byte{}, Expect: store.Any},
	)
	return err
}

// adopt ends a drill that its federation has left behind: this one in its earlier life,
// whose gateways have ended it by then or are told so by the first table; or another
// replica, once its time is long over.
func (d *drills) adopt(ctx context.Context, now time.Time) {
	current, err := d.p.store.Get(ctx, drillStateKey())
	if err != nil || len(current.Value) == 0 {
		return
	}
	d.ordering.Lock()
	defer d.ordering.Unlock()
	item, err := d.p.store.Get(ctx, store.Key{Kind: drillKind, Name: string(current.Value)})
	if err != nil {
		d.p.log.Error("the drill that is under way cannot be read", "drill", string(current.Value), "err", err)
		return
	}
	var out resource.Drill
	if err := json.Unmarshal(item.Value, &out); err != nil {
		d.p.log.Error("the drill that is under way cannot be read", "drill", string(current.Value), "err", err)
		return
	}
	if d.p.shared != nil && now.Before(out.Until.Add(drillOrphan)) {
		return
	}
	out.State, out.End, out.EndedAt = resource.DrillAborted, drillEndRestarted, now.UTC()
	out.Detail = "the federation that ordered it is gone; its counts are lost"
	ctx = store.WithAuthor(ctx, store.Author{Reason: "drill aborted: " + drillEndRestarted})
	if err := d.write(ctx, &out, item.Revision); err != nil {
		d.p.log.Error("the end of a drill is not written down yet", "drill", out.ID, "err", err)
		return
	}
	d.p.log.Warn("drill aborted", "drill", out.ID, "reason", drillEndRestarted)
}
