package mcs

import (
	"context"
	"fmt"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// lease is a Lease that tells why it cannot be had: the elector only tries again.
type lease struct {
	*resourcelock.LeaseLock
	sync *Sync
	held atomic.Bool // once
}

// Get implements resourcelock.Interface.
func (l *lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.LeaseLock.Get(ctx)
	if !apierrors.IsNotFound(err) {
		l.note(ctx, "get", err)
	}
	return record, raw, err
}

// Create implements resourcelock.Interface.
func (l *lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.LeaseLock.Create(ctx, r)
	return l.wrote(ctx, "create", r, err)
}

// Update implements resourcelock.Interface.
func (l *lease) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.LeaseLock.Update(ctx, r)
	return l.wrote(ctx, "update", r, err)
}

func (l *lease) wrote(ctx context.Context, verb string, r resourcelock.LeaderElectionRecord, err error) error {
	if l.note(ctx, verb, err); err == nil && r.HolderIdentity == l.Identity() {
		l.held.Store(true)
	}
	return err
}

// note tells of the Lease only where nothing else is told: a leader's passes say more.
func (l *lease) note(ctx context.Context, verb string, err error) {
	if err == nil || ctx.Err() != nil || apierrors.IsConflict(err) {
		return
	}
	l.sync.set(func(st *Status) {
		if !st.Leading {
			st.Err = fmt.Errorf("%s the lease: %w", verb, err)
		}
	})
}
