package exchange

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// saveGap is the least time between two states on disk: a peer's changes must
// not become this side's disk writes one to one.
const saveGap = 2 * time.Second

// stateHead is the first line of a kept state; the batch that makes the Snapshot
// follows in the wire format, so that what is read from disk passes the same
// checks as what is read from a peer.
type stateHead struct {
	Peer    catalog.ClusterName `json:"peer"`
	ID      string              `json:"id"`
	HeardAt time.Time           `json:"heard_at"`
	// Gateways and Bundle are kept also where the last list came without them.
	Gateways []catalog.Gateway `json:"gateways,omitempty"`
	Bundle   json.RawMessage   `json:"bundle,omitempty"`
}

// encodeState writes a state as it is kept.
func encodeState(s *Snapshot, id spiffeid.ID, heardAt time.Time) ([]byte, error) {
	head, err := json.Marshal(stateHead{Peer: s.cluster, ID: id.String(), HeardAt: heardAt.UTC(), Gateways: s.gateways, Bundle: s.bundle})
	if err != nil {
		return nil, err
	}
	lines, err := s.lines()
	if err != nil {
		return nil, err
	}
	return slices.Concat(head, []byte("\n"), lines), nil
}

// Restore puts a kept state into an Applier that has none. A state of another
// cluster or identity, or one that the Limits do not allow, is refused.
func (a *Applier) Restore(data []byte) (heardAt time.Time, err error) {
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	var head stateHead
	if err := json.Unmarshal(first, &head); err != nil {
		return time.Time{}, fmt.Errorf("kept state: %w", err)
	}
	if head.Peer != a.opts.Cluster || head.ID != a.opts.ID.String() {
		return time.Time{}, refuse(ReasonOrigin, "kept state: is of %s, %.200q", head.Peer, head.ID)
	}
	// Disk is not a peer: the rate does not apply.
	reader := NewApplier(a.opts)
	synced := false
	for line := range bytes.SplitSeq(bytes.TrimSuffix(rest, []byte("\n")), []byte("\n")) {
		effect, err := reader.Apply(line, time.Time{})
		if err != nil {
			return time.Time{}, fmt.Errorf("kept state: %w", err)
		}
		synced = effect.Synced
	}
	if !synced {
		return time.Time{}, errors.New("kept state: is not complete")
	}
	s := reader.snapshot
	if s.gateways == nil && head.Gateways != nil {
		raw, err := json.Marshal(head.Gateways)
		if err != nil {
			return time.Time{}, fmt.Errorf("kept state: %w", err)
		}
		if s.gateways, err = parseRoster(raw, a.opts.ID, a.opts.AllowLoopback, a.opts.Limits); err != nil {
			return time.Time{}, fmt.Errorf("kept state: %w", err)
		}
	}
	if s.bundle == nil {
		s.bundle = head.Bundle
	}
	a.snapshot = s
	return head.HeardAt, nil
}

// Load brings back the last good state from the Store. It is called before Run,
// so that the owner has every peer's state before it serves anybody; further
// calls do nothing. Without a stored state it returns nil.
func (i *Importer) Load() error {
	i.mu.Lock()
	done := i.loaded
	i.loaded = true
	i.mu.Unlock()
	if done || i.opts.Store == nil {
		return nil
	}
	var heardAt time.Time
	skipped, err := i.opts.Store.Load(func(data []byte) (err error) {
		heardAt, err = i.applier.Restore(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("importer %s: %w", i.opts.Cluster, err)
	}
	if skipped != nil {
		i.log.Warn("newer kept states are damaged", "err", skipped)
	}
	s := i.applier.Snapshot()
	if s == nil {
		return nil // nothing was ever kept
	}
	if now := i.opts.Now(); heardAt.After(now) {
		heardAt = now // the clock went back
	}
	i.mu.Lock()
	i.snapshot, i.status.HeardAt = s, heardAt
	i.mu.Unlock()
	if s.bundle != nil && i.opts.Bundle != nil {
		if err := i.opts.Bundle(s.bundle); err != nil {
			i.log.Warn("kept bundle refused", "err", err)
		}
	}
	i.metrics.holds(string(i.opts.Cluster), s, i.opts.Limits)
	return nil
}

// saveChanges keeps the last good state on disk, in a goroutine of its own: a
// disk that hangs must not hold up what the peer says.
func (i *Importer) saveChanges(ctx context.Context) {
	if i.opts.Store == nil {
		return
	}
	for {
		select {
		case <-i.dirty:
		case <-ctx.Done():
			return
		}
		if !i.save() {
			signal(i.dirty) // the disk may have room again
		}
		gap := time.NewTimer(max(saveGap, i.opts.SaveGap()))
		select {
		case <-gap.C:
		case <-ctx.Done():
			gap.Stop()
			return
		}
	}
}

// saveLast keeps what is not kept yet, at the end of Run.
func (i *Importer) saveLast() {
	select {
	case <-i.dirty:
		i.save()
	default:
	}
}

func (i *Importer) save() bool {
	if i.opts.Store == nil {
		return true
	}
	i.mu.Lock()
	s, heardAt := i.snapshot, i.status.HeardAt
	i.mu.Unlock()
	data, err := encodeState(s, i.opts.ID, heardAt)
	if err == nil {
		err = i.opts.Store.Save(data)
	}
	if err != nil {
		i.metrics.saveErrors.WithLabelValues(string(i.opts.Cluster)).Inc()
		i.log.Warn("last good state not kept", "err", err)
	}
	return err == nil
}
