package peering

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Invite says who is invited.
type Invite struct {
	// To is the cluster's name, "" for any; ToID its federation's ID, zero for any.
	To   catalog.ClusterName
	ToID spiffeid.ID
	// Anchors are its authorities where they are known: without them a thief of the
	// token can claim any name and any ID of a trust domain that is not known here.
	Anchors []identity.Anchor
	// TTL is MinTTL to MaxTTL; 0 means DefaultTTL.
	TTL time.Duration
	// Asserts are what the peer may assert; nil for its own trust domain where that
	// is nobody else's.
	Asserts []policy.IDPattern
}

// Invite makes an invitation. The token is returned and kept nowhere. Problems of
// the fields are *catalog.FieldErrors.
func (s *Service) Invite(ctx context.Context, in Invite) (Invitation, *Token, error) {
	if err := in.check(s.o.Cluster); err != nil {
		return Invitation{}, nil, err
	}
	if in.To != "" {
		if p, known := s.peer(in.To); known {
			return Invitation{}, nil, refuse(ReasonConflict, "%s is a peer already (%s); remove it first: isthmus peer remove %s", in.To, p.ID, in.To)
		}
	}
	all, err := s.book.list(ctx)
	if err != nil {
		return Invitation{}, nil, err
	}
	open := 0
	for _, inv := range all {
		if inv.at(s.o.Now()).State == StateOpen {
			open++
		}
	}
	if open >= maxInvitations {
		return Invitation{}, nil, refuse(ReasonFull, "%d invitations are open, at most %d: revoke some", open, maxInvitations)
	}
	inv, t, err := s.invite(ctx, in)
	if err != nil {
		return Invitation{}, nil, err
	}
	if err := s.book.save(ctx, inv, store.Absent); err != nil {
		return Invitation{}, nil, err
	}
	s.log.Info("invitation made", "path", "invitations/"+inv.ID, "peer", inv.To, "duration", inv.ExpiresAt.Sub(inv.CreatedAt))
	return inv.at(s.o.Now()), t, s.Sweep(ctx)
}

func (in *Invite) check(own catalog.ClusterName) error {
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, &catalog.FieldError{Field: field, Value: fmt.Sprint(value), Rule: rule})
	}
	if in.TTL == 0 {
		in.TTL = DefaultTTL
	}
	if in.TTL < MinTTL || in.TTL > MaxTTL {
		fail("ttl", in.TTL, fmt.Sprintf("must be %v to %v", MinTTL, MaxTTL))
	}
	if in.To == own {
		fail("to", in.To, "is the own cluster's name")
	} else if in.To != "" {
		if _, err := catalog.ParseClusterName(string(in.To)); err != nil {
			fail("to", in.To, err.Error())
		}
	}
	if len(in.Asserts) > policy.MaxAsserts {
		fail("asserts", len(in.Asserts), fmt.Sprintf("has more than %d entries", policy.MaxAsserts))
	}
	for i, a := range in.Asserts {
		if _, err := policy.ParseIDPattern(string(a)); err != nil {
			fail(fmt.Sprintf("asserts[%d]", i), a, err.Error())
		}
	}
	return errors.Join(errs...)
}

// invite makes both halves of an invitation, and writes nothing.
func (s *Service) invite(ctx context.Context, in Invite) (*Invitation, *Token, error) {
	anchors, err := s.o.Identity.Anchors()
	if err != nil {
		return nil, nil, refuseFor(ReasonInternal, err, "this federation has no svid yet")
	}
	now := s.o.Now().UTC()
	t := newToken()
	t.Cluster, t.Federation = s.o.Cluster, s.o.ID
	t.Cloud, t.Region = s.o.Locality.Cloud, s.o.Locality.Region
	t.To, t.ToID, t.Anchors, t.Gateways = in.To, in.ToID, anchors, s.gateways()
	t.Expires = now.Add(in.TTL).Truncate(time.Second)
	if t.Expires.Before(now.Add(in.TTL)) {
		t.Expires = t.Expires.Add(time.Second)
	}
	k, err := t.derive()
	if err != nil {
		return nil, nil, err
	}
	by := store.AuthorFrom(ctx)
	inv := &Invitation{
		Inviter: Inviter{Principal: by.Principal, Reason: by.Reason, RequestID: by.RequestID},
		ID:      t.ID.String(), State: StateOpen, CreatedAt: now, ExpiresAt: t.Expires,
		To: in.To, Anchors: in.Anchors, Asserts: in.Asserts, Key: k,
	}
	if !in.ToID.IsZero() {
		inv.ToID = in.ToID.String()
	}
	return inv, &t, nil
}

// Invitations lists them, the youngest first.
func (s *Service) Invitations(ctx context.Context) ([]Invitation, error) {
	all, err := s.book.list(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Invitation, len(all))
	for i, inv := range all {
		out[i] = inv.at(s.o.Now())
	}
	return out, nil
}

// Revoke makes an invitation worthless at once. One that was completed is over
// and stays as it is: removing the peer is another matter. store.ErrNotFound.
func (s *Service) Revoke(ctx context.Context, id TokenID) (Invitation, error) {
	for {
		inv, revision, err := s.book.load(ctx, id)
		if err != nil {
			return Invitation{}, err
		}
		if inv.State == StateCompleted || inv.State == StateRevoked {
			return inv.at(s.o.Now()), nil
		}
		inv.State = StateRevoked
		err = s.book.save(ctx, inv, revision)
		if _, raced := errors.AsType[*store.ConflictError](err); raced {
			continue
		}
		if err != nil {
			return Invitation{}, err
		}
		s.log.Info("invitation revoked", "path", "invitations/"+inv.ID)
		return inv.at(s.o.Now()), s.Sweep(ctx)
	}
}
