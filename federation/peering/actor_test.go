package peering_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/isthmus-mesh/isthmus/federation/peering"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// made is who made the n-th change of a side's rules, and why.
func (s *side) made(n uint64) string {
	s.t.Helper()
	r, err := s.history.Find(s.t.Context(), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return fmt.Sprintf("%s %s/%s by %s (%s) %s", r.Action, r.Kind, r.Name, r.Principal, r.RequestID, r.Reason)
}

// A peer that a token makes stands in both histories under a name: at the
// inviter's under that of who invited, also across a restart in between, at the
// acceptor's under that of who accepted.
func TestThePeerIsTheInvitersChange(t *testing.T) {
	east, west := newSide(t, "east"), newSide(t, "west")
	alice := store.WithAuthor(t.Context(), store.Author{Principal: "alice", Reason: "ticket 7", RequestID: "r-1"})
	bob := store.WithAuthor(t.Context(), store.Author{Principal: "spiffe://west.test/bob", RequestID: "r-2"})
	inv, token, err := east.Invite(alice, peering.Invite{})
	if err != nil {
		t.Fatal(err)
	}
	if inv.Inviter.Principal != "alice" {
		t.Errorf("the invitation is %+v's", inv.Inviter)
	}
	east.restart()
	if _, err := west.Accept(bob, token.Encode(), peering.Accept{}); err != nil {
		t.Fatal(err)
	}
	want := "create peers/west by alice (r-1) invitation " + inv.ID + " accepted by " + west.id.String() + ": ticket 7"
	if got := east.made(1); got != want {
		t.Errorf("the inviter's history: %s\nwant %s", got, want)
	}
	if got, want := west.made(1), "create peers/east by spiffe://west.test/bob (r-2) "; got != want {
		t.Errorf("the acceptor's history: %s\nwant %s", got, want)
	}
	for _, s := range []*side{east, west} {
		if v, err := s.history.Verify(t.Context()); err != nil || !v.OK {
			t.Errorf("%s: history: %+v, %v", s.name, v, err)
		}
	}
}

// Behind NAT the roles turn: the return token was made in the name of who
// accepted, and who carries it home makes the last change in his own.
func TestThePeerOfAReturnTokenHasAName(t *testing.T) {
	nat, west := newSide(t, "nat"), newSide(t, "west")
	nat.gateways = nil
	alice := store.WithAuthor(t.Context(), store.Author{Principal: "alice"})
	carol := store.WithAuthor(t.Context(), store.Author{Principal: "carol"})
	bob := store.WithAuthor(t.Context(), store.Author{Principal: "bob"})
	_, token, err := nat.Invite(alice, peering.Invite{})
	if err != nil {
		t.Fatal(err)
	}
	out, err := west.Accept(bob, token.Encode(), peering.Accept{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nat.Accept(carol, out.Return.Encode(), peering.Accept{}); err != nil {
		t.Fatal(err)
	}
	if got := west.made(1); !strings.HasPrefix(got, "create peers/nat by bob () invitation "+out.Return.ID.String()) {
		t.Errorf("history of west: %s", got)
	}
	if got := nat.made(1); got != "create peers/west by carol () " {
		t.Errorf("history of nat: %s", got)
	}
}

// The inviter's own words may fill the reason to its bound: what is cut is no half
// character, which JSON would change and the chain would not forgive.
func TestAReasonIsCutBetweenCharacters(t *testing.T) {
	for n := range 4 {
		east, west := newSide(t, "east"), newSide(t, "west")
		reason := strings.Repeat("x", n) + strings.Repeat("\u20ac", store.MaxReason/3-2)
		alice := store.WithAuthor(t.Context(), store.Author{Principal: "alice", Reason: reason})
		_, token, err := east.Invite(alice, peering.Invite{})
		if err != nil {
			t.Fatal(err)
		}
		west.must(token)
		r, err := east.history.Find(t.Context(), 1)
		if err != nil || len(r.Reason) > store.MaxReason || !utf8.ValidString(r.Reason) || !strings.Contains(r.Reason, "\u20ac") {
			t.Errorf("reason of %d bytes: %q, %v", len(r.Reason), r.Reason, err)
		}
		if v, err := east.history.Verify(t.Context()); err != nil || !v.OK {
			t.Errorf("history: %+v, %v", v, err)
		}
	}
}
