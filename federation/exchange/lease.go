package exchange

import (
	"context"
	"time"
)

// watchLease marks the peer's control plane as lost when nothing was heard for
// the lease. A peer that was never heard has a lease from the start, so that a
// restart of this side does not look like a loss of that one.
func (i *Importer) watchLease(ctx context.Context) {
	for {
		left := i.leaseLeft()
		if left <= 0 {
			if !i.loseControl() {
				continue // it was renewed
			}
			select {
			case <-i.heard:
				continue
			case <-ctx.Done():
				return
			}
		}
		// Every line would be a wake-up; the deadline is looked at when it is due.
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (i *Importer) leaseLeft() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.leaseFrom.Add(Lease).Sub(i.opts.Now())
}

// loseControl reports whether the lease has run out, and marks the peer then.
func (i *Importer) loseControl() bool {
	changed := false
	i.mu.Lock()
	// The lease may have been renewed since it was looked at.
	if i.leaseFrom.Add(Lease).After(i.opts.Now()) {
		i.mu.Unlock()
		return false
	}
	if !i.status.ControlLost {
		changed, i.status.ControlLost = true, true
		if i.status.State != StateRefused {
			i.status.State = StateControlLost
		}
	}
	since := i.leaseFrom
	i.mu.Unlock()
	if changed {
		i.metrics.lost.WithLabelValues(string(i.opts.Cluster)).Set(1)
		i.log.Warn("control lost", "duration", i.opts.Now().Sub(since).Round(time.Second))
		i.notify(true)
	}
	return true
}
