package api_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/peering"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// noPeers is a cluster without peers that takes none.
type noPeers struct{}

func (noPeers) All() []policy.Peer                       { return nil }
func (noPeers) Check(context.Context, policy.Peer) error { return nil }
func (noPeers) Add(context.Context, policy.Peer) error   { return errors.New("takes none") }

// newPeering is a real service whose gateways reach nobody.
func newPeering(t *testing.T, s *stand, name string) *peering.Service {
	t.Helper()
	ca := identitytest.NewCA(name + ".test")
	id := ca.ID("/isthmus/cluster/" + name)
	p, err := peering.New(t.Context(), peering.Options{
		Store: s.store, Identity: ca.Source(id, ca.Bundle()), Peers: noPeers{}, Cluster: policy.Peer{Name: "east"}.Name, ID: id,
		Gateways: func() []string { return []string{"192.0.2.1:7443"} },
		Dial:     func(context.Context, *peering.Token) (net.Conn, error) { return nil, errors.New("nobody answers") },
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPeeringOverTheAPI(t *testing.T) {
	s := newStand(t)
	server, err := api.New(api.Options{Backend: s.backend, Lists: s.lists, Rules: s.book, Token: s.token, Peering: newPeering(t, s, "east")})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(serve(t, server, l, api.Loopback))
	c := newClient(t, client.Options{URL: "http://" + l.Addr().String(), Token: s.token})
	ctx := t.Context()
	made, err := c.Invite(ctx, resource.InviteRequest{To: "west", TTL: "1m", Asserts: []string{"spiffe://west.test/*"}})
	if err != nil || made.State != "open" || made.To != "west" || len(made.Gateways) != 1 || !strings.HasPrefix(made.Token, "isthmus-invite-1-") {
		t.Fatalf("invited: %+v, %v", made, err)
	}
	if list, err := c.Invitations(ctx); err != nil || len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("invitations: %+v, %v", list, err)
	}
	if card, err := c.Card(ctx); err != nil || card.Cluster != "east" || !strings.HasPrefix(card.Card, "isthmus-cluster-1-") {
		t.Errorf("card: %+v, %v", card, err)
	}
	if gone, err := c.RevokeInvitation(ctx, made.ID); err != nil || gone.State != "revoked" {
		t.Errorf("revoked: %+v, %v", gone, err)
	}
	for what, c := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"no such invitation": {second(c.RevokeInvitation(ctx, strings.Repeat("0", 32))), http.StatusNotFound, "not-found"},
		"no invitation's id": {second(c.RevokeInvitation(ctx, "x")), http.StatusNotFound, "not-found"},
		"a bad ttl":          {second(c.Invite(ctx, resource.InviteRequest{TTL: "soon"})), http.StatusUnprocessableEntity, "invalid"},
		"a long ttl":         {second(c.Invite(ctx, resource.InviteRequest{TTL: "48h"})), http.StatusUnprocessableEntity, "invalid"},
		"a bad name":         {second(c.Invite(ctx, resource.InviteRequest{To: "West"})), http.StatusUnprocessableEntity, "invalid"},
		"a cut card":         {second(c.Invite(ctx, resource.InviteRequest{To: "isthmus-cluster-1-AAAA"})), http.StatusUnprocessableEntity, "invalid"},
		"bad asserts":        {second(c.Invite(ctx, resource.InviteRequest{Asserts: []string{"me"}})), http.StatusUnprocessableEntity, "invalid"},
		"no token":           {second(c.AcceptInvitation(ctx, resource.AcceptRequest{Token: "x"}, false)), http.StatusUnprocessableEntity, "peering-malformed"},
		"its own token":      {second(c.AcceptInvitation(ctx, resource.AcceptRequest{Token: made.Token}, true)), http.StatusConflict, "peering-self"},
	} {
		se, ok := errors.AsType[*client.StatusError](c.err)
		if !ok || se.Status != c.status || se.Code() != c.code {
			t.Errorf("%s: %v, want %d %s", what, c.err, c.status, c.code)
		}
	}
}

func second[T any](_ T, err error) error { return err }
