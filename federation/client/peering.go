package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Invite makes an invitation; the answer has its token, which is shown this once.
func (c *Client) Invite(ctx context.Context, in resource.InviteRequest) (resource.Invited, error) {
	var out resource.Invited
	err := c.call(ctx, http.MethodPost, "/v1/peering/invitations", nil, nil, in, &out)
	return out, err
}

// Invitations are those of the last day, the youngest first.
func (c *Client) Invitations(ctx context.Context) ([]resource.Invitation, error) {
	var out resource.Invitations
	err := c.call(ctx, http.MethodGet, "/v1/peering/invitations", nil, nil, nil, &out)
	return out.Items, err
}

// RevokeInvitation makes an invitation worthless at once.
func (c *Client) RevokeInvitation(ctx context.Context, id string) (resource.Invitation, error) {
	var out resource.Invitation
	err := c.call(ctx, http.MethodDelete, "/v1/peering/invitations/"+url.PathEscape(id), nil, nil, nil, &out)
	return out, err
}

// AcceptInvitation accepts a token. With dryRun nobody is dialed and nothing is
// written: the answer says what would be trusted.
func (c *Client) AcceptInvitation(ctx context.Context, in resource.AcceptRequest, dryRun bool) (resource.Accepted, error) {
	var out resource.Accepted
	err := c.call(ctx, http.MethodPost, "/v1/peering/accept", dry(dryRun), nil, in, &out)
	return out, err
}

// Card says who the cluster is, for an invitation that nobody else can use.
func (c *Client) Card(ctx context.Context) (resource.Card, error) {
	var out resource.Card
	err := c.call(ctx, http.MethodGet, "/v1/peering/card", nil, nil, nil, &out)
	return out, err
}
