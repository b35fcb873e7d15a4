package peering

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/identity"
)

// StoreKind is the kind of invitations in the store.
const StoreKind = "invitations"

const (
	// DefaultTTL is long enough to paste a token into a chat and out of it.
	DefaultTTL = 10 * time.Minute
	// MinTTL and MaxTTL bound what may be asked for: a secret that is good for a
	// week is a password.
	MinTTL = time.Second
	// MaxTTL is the other bound.
	MaxTTL = 24 * time.Hour
	// maxInvitations bounds those that are open, and so what an operator's script
	// that runs wild leaves behind.
	maxInvitations = 64
	// keepFor is how long an invitation that is over is remembered, so that who
	// comes late is told why.
	keepFor = 24 * time.Hour
)

// State says what became of an invitation.
type State string

// The states. A retry of who took it is served while it is taken or completed.
const (
	StateOpen State = "open"
	// StateTaken: somebody has proven to hold the token; the peer is not written yet.
	StateTaken     State = "taken"
	StateCompleted State = "completed"
	StateRevoked   State = "revoked"
	// StateExpired is never stored: it follows from the time.
	StateExpired State = "expired"
)

// Invitation is what the inviter keeps of a token.
type Invitation struct {
	ID        string    `json:"id"`
	State     State     `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// To and ToID say who is invited; empty for anybody.
	To   catalog.ClusterName `json:"to,omitempty"`
	ToID string              `json:"to_id,omitempty"`
	// Anchors are authorities of the invited, where they are known in advance.
	Anchors []identity.Anchor `json:"anchors,omitempty"`
	// Asserts are what the invited peer may assert; nil for the default.
	Asserts []policy.IDPattern `json:"asserts,omitempty"`
	// Cluster and Federation are who took it.
	Cluster    catalog.ClusterName `json:"cluster,omitempty"`
	Federation string              `json:"federation,omitempty"`
	// Inviter is who asked for it: the change that it leads to is his. Zero for one of
	// an older version.
	Inviter Inviter `json:"inviter,omitzero"`
	// Key is derived from the token's secret.
	Key key `json:"key"`
}

// Inviter is who made an invitation: by the time that somebody comes with the token
// he is not there to be asked.
type Inviter struct {
	Principal string `json:"principal"`
	Reason    string `json:"reason,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

// author returns a context in which what is written is the inviter's: the one who
// comes is no principal of this cluster, and may only do what the inviter allowed.
// The reason names both the invitation and who came.
func (i *Invitation) author(ctx context.Context, federation string) context.Context {
	if i.Inviter.Principal == "" {
		return ctx
	}
	reason := fmt.Sprintf("invitation %s accepted by %s", i.ID, federation)
	if i.Inviter.Reason != "" {
		reason += ": " + i.Inviter.Reason
	}
	return store.WithAuthor(ctx, store.Author{Principal: i.Inviter.Principal, Reason: reason, RequestID: i.Inviter.RequestID})
}

// at is the invitation as it is at a time.
func (i *Invitation) at(now time.Time) Invitation {
	c := *i
	c.Key = key{}
	if i.State == StateOpen && !now.Before(i.ExpiresAt) {
		c.State = StateExpired
	}
	return c
}

// serves reports whether anybody can still complete it.
func (i *Invitation) serves(now time.Time) bool {
	return i.State != StateRevoked && now.Before(i.ExpiresAt)
}

// judge says why the invitation is not for the one who comes, or nil.
func (i *Invitation) judge(cluster catalog.ClusterName, id string, now time.Time) *Refusal {
	taken := i.Cluster != "" || i.Federation != ""
	switch {
	case i.State == StateRevoked:
		return refuse(ReasonRevoked, "the invitation was revoked; ask for another")
	case !now.Before(i.ExpiresAt):
		return refuse(ReasonExpired, "the invitation expired at %s, by the inviter's clock it is %s; ask for another",
			i.ExpiresAt.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case i.To != "" && i.To != cluster:
		return refuse(ReasonWrongInvitee, "the invitation is for %s, not for %s; ask for one of your own", i.To, cluster)
	case i.ToID != "" && i.ToID != id:
		return refuse(ReasonWrongInvitee, "the invitation is for %s, not for %s; ask for one of your own", i.ToID, id)
	case taken && (i.Cluster != cluster || i.Federation != id):
		return refuse(ReasonUsed, "the token was used by %s (%s); if that is not you, remove that peer, and ask for another token", i.Cluster, i.Federation)
	}
	return nil
}

// book is the invitations in the store.
type book struct{ store store.Store }

func storeKey(id TokenID) store.Key { return store.Key{Kind: StoreKind, Name: id.String()} }

// load returns the invitation and its revision; store.ErrNotFound.
func (b book) load(ctx context.Context, id TokenID) (*Invitation, uint64, error) {
	item, err := b.store.Get(ctx, storeKey(id))
	if err != nil {
		return nil, 0, err
	}
	inv := new(Invitation)
	if err := json.Unmarshal(item.Value, inv); err != nil {
		return nil, 0, fmt.Errorf("invitation %s: %w", id, err)
	}
	return inv, item.Revision, nil
}

func (b book) save(ctx context.Context, inv *Invitation, expect uint64) error {
	value, err := json.Marshal(inv)
	if err != nil {
		return fmt.Errorf("invitation %s: %w", inv.ID, err)
	}
	_, err = b.store.Put(ctx, store.Key{Kind: StoreKind, Name: inv.ID}, value, expect)
	return err
}

// list returns every invitation, the youngest first.
func (b book) list(ctx context.Context) ([]*Invitation, error) {
	items, _, err := b.store.List(ctx, StoreKind)
	if err != nil {
		return nil, err
	}
	all := make([]*Invitation, 0, len(items))
	for _, item := range items {
		inv := new(Invitation)
		if err := json.Unmarshal(item.Value, inv); err != nil || inv.ID != item.Key.Name {
			continue // of another version: nobody can use it here
		}
		all = append(all, inv)
	}
	slices.SortFunc(all, func(a, b *Invitation) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// take makes the invitation that of one cluster, once: whoever comes second at
// the same time loses by the store's revision, and is judged anew.
func (b book) take(ctx context.Context, id TokenID, cluster catalog.ClusterName, federation string, now time.Time) error {
	for {
		inv, revision, err := b.load(ctx, id)
		if err != nil {
			return err
		}
		if r := inv.judge(cluster, federation, now); r != nil {
			return r
		}
		if inv.State != StateOpen {
			return nil // his already
		}
		inv.State, inv.Cluster, inv.Federation = StateTaken, cluster, federation
		err = b.save(ctx, inv, revision)
		if _, raced := errors.AsType[*store.ConflictError](err); raced {
			continue
		}
		return err
	}
}

// complete notes that the peer is written.
func (b book) complete(ctx context.Context, id TokenID) error {
	for {
		inv, revision, err := b.load(ctx, id)
		if err != nil {
			return err
		}
		if inv.State != StateTaken {
			return nil
		}
		inv.State = StateCompleted
		err = b.save(ctx, inv, revision)
		if _, raced := errors.AsType[*store.ConflictError](err); raced {
			continue
		}
		return err
	}
}
