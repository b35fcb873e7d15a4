package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/peering"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// Peering joins clusters by tokens; *peering.Service is one.
type Peering interface {
	Invite(ctx context.Context, in peering.Invite) (peering.Invitation, *peering.Token, error)
	Invitations(ctx context.Context) ([]peering.Invitation, error)
	Revoke(ctx context.Context, id peering.TokenID) (peering.Invitation, error)
	Accept(ctx context.Context, token string, in peering.Accept) (*peering.Accepted, error)
	Card() (*peering.Card, error)
}

// InviteInput is the request for an invitation.
type InviteInput struct {
	Body resource.InviteRequest
}

// AcceptInput is a token to accept.
type AcceptInput struct {
	DryRun bool `query:"dry_run" doc:"Say what would be trusted; nobody is dialed and nothing is written."`
	Body   resource.AcceptRequest
}

type invitationInput struct {
	ID string `path:"id" maxLength:"64" doc:"ID of the invitation."`
}

func (s *Server) registerPeering(api huma.API) {
	p := s.opts.Peering
	if p == nil {
		return
	}
	tags := []string{"peering"}
	writeErrors := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusConflict, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusServiceUnavailable,
	}
	huma.Register(api, huma.Operation{
		OperationID: "create-invitation", Method: http.MethodPost, Path: "/v1/peering/invitations",
		Summary: "Invite a cluster: the answer has the token, this once.", Tags: tags, Metadata: unkept(needs(Admin)),
		DefaultStatus: http.StatusCreated, Errors: writeErrors,
	}, func(ctx context.Context, in *InviteInput) (*itemOutput[resource.Invited], error) {
		invite, err := inviteOf(&in.Body)
		if err != nil {
			return nil, peeringProblem(err)
		}
		inv, token, err := p.Invite(ctx, invite)
		if err != nil {
			return nil, peeringProblem(err)
		}
		return &itemOutput[resource.Invited]{Body: resource.Invited{
			Invitation: invitationOf(inv), Token: token.Encode(), Gateways: append([]string{}, token.Gateways...),
		}}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "list-invitations", Method: http.MethodGet, Path: "/v1/peering/invitations",
		Summary: "Invitations, the youngest first, and who took them.", Tags: tags, Metadata: needs(Admin),
		Errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, func(ctx context.Context, _ *struct{}) (*itemOutput[resource.Invitations], error) {
		all, err := p.Invitations(ctx)
		if err != nil {
			return nil, peeringProblem(err)
		}
		out := resource.Invitations{Items: make([]resource.Invitation, len(all))}
		for i, inv := range all {
			out.Items[i] = invitationOf(inv)
		}
		return &itemOutput[resource.Invitations]{Body: out}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "revoke-invitation", Method: http.MethodDelete, Path: "/v1/peering/invitations/{id}",
		Summary: "Make an invitation worthless at once. A peer that it has made stays.", Tags: tags, Metadata: needs(Admin),
		DefaultStatus: http.StatusOK,
		Errors:        []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable},
	}, func(ctx context.Context, in *invitationInput) (*itemOutput[resource.Invitation], error) {
		id, err := peering.ParseTokenID(in.ID)
		if err != nil {
			return nil, problem(http.StatusNotFound, CodeNotFound, err.Error())
		}
		inv, err := p.Revoke(ctx, id)
		if err != nil {
			return nil, peeringProblem(err)
		}
		return &itemOutput[resource.Invitation]{Body: invitationOf(inv)}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "accept-invitation", Method: http.MethodPost, Path: "/v1/peering/accept",
		Summary: "Accept a token: both clusters are peers afterwards, or the answer has a token for the inviter.", Tags: tags, Metadata: unkept(needs(Admin)),
		DefaultStatus: http.StatusOK, Errors: writeErrors,
	}, func(ctx context.Context, in *AcceptInput) (*itemOutput[resource.Accepted], error) {
		asserts, err := patternsOf(in.Body.Asserts)
		if err != nil {
			return nil, peeringProblem(err)
		}
		out, err := p.Accept(ctx, in.Body.Token, peering.Accept{Asserts: asserts, DryRun: in.DryRun})
		if err != nil {
			return nil, peeringProblem(err)
		}
		return &itemOutput[resource.Accepted]{Body: acceptedOf(out)}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "get-card", Method: http.MethodGet, Path: "/v1/peering/card",
		Summary: "Who this cluster is, for an invitation that nobody else can use.", Tags: tags,
		Errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, func(context.Context, *struct{}) (*itemOutput[resource.Card], error) {
		card, err := p.Card()
		if err != nil {
			return nil, peeringProblem(err)
		}
		return &itemOutput[resource.Card]{Body: resource.Card{
			Card: card.Encode(), Cluster: card.Cluster, ID: card.Federation.String(),
		}}, nil
	})
}

// inviteOf reads a request; problems are joined *catalog.FieldErrors.
func inviteOf(in *resource.InviteRequest) (peering.Invite, error) {
	var found joined
	var out peering.Invite
	if in.TTL != "" {
		ttl, err := time.ParseDuration(in.TTL)
		if err != nil || ttl == 0 {
			found = append(found, &catalog.FieldError{Field: "ttl", Value: in.TTL, Rule: "must be a duration such as 10m"})
		}
		out.TTL = ttl
	}
	card, isCard, err := peering.ParseCard(in.To)
	switch {
	case err != nil:
		found = append(found, &catalog.FieldError{Field: "to", Value: in.To, Rule: err.Error()})
	case isCard:
		out.To, out.ToID, out.Anchors = card.Cluster, card.Federation, card.Anchors
	default:
		out.To = catalog.ClusterName(in.To)
	}
	if out.Asserts, err = patternsOf(in.Asserts); err != nil {
		found = append(found, err)
	}
	if len(found) > 0 {
		return out, found
	}
	return out, nil
}

// patternsOf keeps the difference between none and not said.
func patternsOf(texts []string) ([]policy.IDPattern, error) {
	if texts == nil {
		return nil, nil
	}
	var found joined
	out := make([]policy.IDPattern, len(texts))
	for i, t := range texts {
		p, err := policy.ParseIDPattern(t)
		if err != nil {
			found = append(found, &catalog.FieldError{Field: "asserts", Value: t, Rule: err.Error()})
		}
		out[i] = p
	}
	if len(found) > 0 {
		return nil, found
	}
	return out, nil
}

func invitationOf(i peering.Invitation) resource.Invitation {
	return resource.Invitation{
		ID: i.ID, State: string(i.State), CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt,
		To: i.To, ToID: i.ToID, Asserts: i.Asserts, Inviter: i.Inviter.Principal, Cluster: i.Cluster, Federation: i.Federation,
	}
}

func acceptedOf(a *peering.Accepted) resource.Accepted {
	out := resource.Accepted{
		Joined: a.Joined, ExpiresAt: a.Token.Expires, Peer: a.Peer,
		TrustDomain: a.Token.Federation.TrustDomain().Name(), Anchors: []string{},
	}
	for _, anchor := range a.Token.Anchors {
		out.Anchors = append(out.Anchors, anchor.String())
	}
	if a.Return != nil {
		out.ReturnToken = a.Return.Encode()
	}
	return out
}

// peeringProblem turns an error of Peering into a problem whose code is the
// refusal's reason.
func peeringProblem(err error) error {
	r, ok := errors.AsType[*peering.Refusal](err)
	if !ok {
		return answerTo(err, "body")
	}
	status := http.StatusConflict
	switch r.Reason {
	case peering.ReasonMalformed, peering.ReasonVersion, peering.ReasonTampered:
		status = http.StatusUnprocessableEntity
	case peering.ReasonUnreachable, peering.ReasonInternal, peering.ReasonBusy:
		status = http.StatusServiceUnavailable
	default:
	}
	return problem(status, Code("peering-"+strings.ReplaceAll(string(r.Reason), "_", "-")), r.Error(), fieldErrors(r.Err, "body")...)
}
