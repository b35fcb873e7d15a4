package peering_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/peering"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

func TestOnePasteJoinsBothDirections(t *testing.T) {
	east, west := newSide(t, "east"), newSide(t, "west")
	token := east.token(peering.Invite{To: "west"})
	t.Logf("figure: token of %d characters", len(token.Encode()))
	preview, err := west.Accept(t.Context(), token.Encode(), peering.Accept{DryRun: true})
	if err != nil || preview.Joined || preview.Peer.Name != "east" || preview.Peer.ID != east.id.String() {
		t.Fatalf("dry run: %+v, %v", preview, err)
	}
	apart(t, east, west)
	out := west.must(token)
	if !out.Joined || out.Return != nil {
		t.Errorf("accepted: %+v", out)
	}
	joined(t, east, west)
	p, _ := east.peer(west)
	if len(p.Asserts) != 1 || p.Asserts[0] != "spiffe://west.test/*" || p.Region != "west" {
		t.Errorf("the invited peer: %+v", p)
	}
	all, err := east.Invitations(t.Context())
	if err != nil || len(all) != 1 || all[0].State != peering.StateCompleted || all[0].Cluster != "west" || all[0].Federation != west.id.String() {
		t.Errorf("invitations: %+v, %v", all, err)
	}
}

// White space is what a chat puts in.
func TestATokenSurvivesAPaste(t *testing.T) {
	east, west := newSide(t, "east"), newSide(t, "west")
	text := east.token(peering.Invite{}).Encode()
	wrapped := "\n  " + text[:80] + "\n" + text[80:160] + " \r\n\t" + text[160:] + "\n"
	if _, err := west.Accept(t.Context(), wrapped, peering.Accept{}); err != nil {
		t.Fatal(err)
	}
	joined(t, east, west)
}

func TestTokensThatAreRefused(t *testing.T) {
	east, west, south := newSide(t, "east"), newSide(t, "west"), newSide(t, "south")
	token := east.token(peering.Invite{To: "west", TTL: time.Minute})
	text := token.Encode()

	t.Run("nothing", func(*testing.T) { west.refuses("", peering.ReasonMalformed) })
	t.Run("a later version", func(*testing.T) {
		west.refuses("isthmus-invite-9-"+text[len("isthmus-invite-1-"):], peering.ReasonVersion)
	})
	t.Run("cut", func(*testing.T) { west.refuses(text[:len(text)-4], peering.ReasonTampered) })
	t.Run("every character changed", func(t *testing.T) {
		const prefix = len("isthmus-invite-1-")
		for i := prefix; i < len(text); i++ {
			b := []byte(text)
			if b[i]++; b[i] == ':' || b[i] == '[' || b[i] == '`' || b[i] == '{' {
				b[i] = 'A'
			}
			if string(b) == text {
				continue
			}
			if _, err := peering.ParseToken(string(b)); err == nil {
				t.Errorf("a change at %d was not seen", i)
			}
		}
	})
	t.Run("as a return token", func(*testing.T) {
		west.refuses("isthmus-return-1-"+text[len("isthmus-invite-1-"):], peering.ReasonTampered)
	})
	t.Run("by the inviter itself", func(*testing.T) { east.refuses(text, peering.ReasonSelf) })
	t.Run("by another cluster", func(*testing.T) { south.refuses(text, peering.ReasonWrongInvitee) })
	t.Run("expired", func(t *testing.T) {
		east.ahead.Store(int64(time.Hour))
		defer east.ahead.Store(0)
		if r := west.refuses(text, peering.ReasonExpired); !r.Remote || !strings.Contains(r.Message, "expired at") {
			t.Errorf("refusal: %v", r)
		}
		if east.count(peering.ReasonExpired) == 0 {
			t.Error("the inviter did not count it")
		}
	})
	t.Run("revoked", func(t *testing.T) {
		other := east.token(peering.Invite{})
		if _, err := east.Revoke(t.Context(), other.ID); err != nil {
			t.Fatal(err)
		}
		west.refuses(other.Encode(), peering.ReasonRevoked)
	})
	t.Run("forgotten", func(t *testing.T) {
		other := newSideOf(t, "east", east.ca) // a federation that lost its disk
		other.token(peering.Invite{})
		west.divert = other.address
		defer func() { west.divert = "" }()
		west.refuses(text, peering.ReasonUnknown)
	})
	apart(t, east, west, south)

	west.must(token)
	t.Run("used, by a thief who lies about the name", func(t *testing.T) {
		thief := newSide(t, "west") // another authority of the same domain's name
		thief.id = thief.ca.ID("/isthmus/cluster/thief")
		thief.identity = thief.ca.Source(thief.id, thief.ca.Bundle())
		thief.restart()
		r := thief.refuses(text, peering.ReasonUsed)
		if !strings.Contains(r.Message, west.id.String()) {
			t.Errorf("the message does not say who used it: %v", r)
		}
	})
	joined(t, east, west)
}

// changed is a token with another content and a checksum that fits: what a forger
// can make, who does not know the secret or does not own what it names.
func TestTamperedTokens(t *testing.T) {
	east, west, evil := newSide(t, "east"), newSide(t, "west"), newSide(t, "evil")
	evilAnchors, err := evil.identity.Anchors()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*peering.Token)
		want   peering.Reason
	}{
		"the secret":       {func(t *peering.Token) { t.Secret[0] ^= 1 }, peering.ReasonUnknown},
		"the id":           {func(t *peering.Token) { t.ID[0] ^= 1 }, peering.ReasonUnknown},
		"the cluster":      {func(t *peering.Token) { t.Cluster = "north" }, peering.ReasonUnknown},
		"the federation":   {func(t *peering.Token) { t.Federation = east.ca.ID("/isthmus/cluster/north") }, peering.ReasonForged},
		"another domain's": {func(t *peering.Token) { t.Federation = evil.id }, peering.ReasonForged},
		"the anchors":      {func(t *peering.Token) { t.Anchors = evilAnchors }, peering.ReasonForged},
		"the addresses":    {func(t *peering.Token) { t.Gateways = []string{evil.address} }, peering.ReasonForged},
		"the invited":      {func(t *peering.Token) { t.To = "evil" }, peering.ReasonWrongInvitee},
		"the invited's id": {func(t *peering.Token) { t.ToID = west.id }, peering.ReasonUnknown},
		"no invited":       {func(t *peering.Token) { t.To = "" }, peering.ReasonUnknown},
		"the place":        {func(t *peering.Token) { t.Region = "elsewhere" }, peering.ReasonUnknown},
		"an address more":  {func(t *peering.Token) { t.Gateways = append(t.Gateways, evil.address) }, peering.ReasonUnknown},
		"the expiry":       {func(t *peering.Token) { t.Expires = t.Expires.Add(time.Hour) }, peering.ReasonUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			east.restart() // or so many who come at once are too many for it
			evil.restart()
			evil.token(peering.Invite{}) // so that it listens
			token := *east.token(peering.Invite{To: "west", TTL: time.Second * 30})
			c.change(&token)
			west.refuses(token.Encode(), c.want)
			apart(t, east, west, evil)
		})
	}
	for _, address := range []string{"169.254.169.254:80", "0.0.0.0:4433", "[ff02::1]:4433"} {
		token := *east.token(peering.Invite{To: "west"})
		token.Gateways = []string{address}
		west.refuses(token.Encode(), peering.ReasonInvalid)
	}
	split := *east.token(peering.Invite{To: "west"})
	split.Gateways = []string{"[a\r\n\r\nCONNECT federation.east:443 HTTP/1.1\r\nx:]:1"}
	west.refuses(split.Encode(), peering.ReasonMalformed)
	t.Run("no addresses", func(t *testing.T) {
		token := *east.token(peering.Invite{To: "west"})
		token.Gateways = nil
		back := west.must(&token)
		east.refuses(back.Return.Encode(), peering.ReasonUnknown)
		apart(t, east, west)
	})
}

// With the card of the invited a stolen token is worth nothing: not even to who
// has an authority that calls itself the invited's trust domain.
func TestAStolenTokenOfACard(t *testing.T) {
	east, west := newSide(t, "east"), newSide(t, "west")
	card, err := west.Card()
	if err != nil {
		t.Fatal(err)
	}
	read, ok, err := peering.ParseCard(card.Encode())
	if err != nil || !ok || read.Cluster != "west" || read.Federation != west.id || !slices.Equal(read.Anchors, card.Anchors) {
		t.Fatalf("card read back: %+v, %v, %v", read, ok, err)
	}
	token := east.token(peering.Invite{To: card.Cluster, ToID: card.Federation, Anchors: card.Anchors})
	thief := newSide(t, "west") // the same name, ID and domain; another authority
	thief.refuses(token.Encode(), peering.ReasonUntrusted)
	apart(t, east, thief)
	west.must(token)
	joined(t, east, west)
}

// Nor is it worth anything on the way back: a thief who makes a return token of it
// and gets the inviter to paste that is not the card's.
func TestAReturnTokenOfAStolenTokenOfACard(t *testing.T) {
	nat, west := newSide(t, "nat"), newSide(t, "west")
	nat.gateways = nil
	card, err := west.Card()
	if err != nil {
		t.Fatal(err)
	}
	token := nat.token(peering.Invite{To: card.Cluster, ToID: card.Federation, Anchors: card.Anchors})
	thief := newSide(t, "west") // the same name, ID and domain; another authority
	nat.refuses(thief.must(token).Return.Encode(), peering.ReasonUntrusted)
	apart(t, nat, thief)
	nat.must(west.must(token).Return) // the theft used nothing up
	joined(t, nat, west)
}

// recorder keeps what went over a connection.
type recorder struct {
	net.Conn
	mu   sync.Mutex
	sent []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	r.sent = append(r.sent, p...)
	r.mu.Unlock()
	return r.Conn.Write(p)
}

// What was recorded on one connection is worth nothing on another.
func TestAReplayedExchange(t *testing.T) {
	east, west := newSide(t, "east"), newSide(t, "west")
	var tape *recorder
	west.between = func(c net.Conn) net.Conn {
		tape = &recorder{Conn: c}
		return tape
	}
	west.must(east.token(peering.Invite{}))
	conn, err := net.Dial("tcp", east.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(tape.sent); err != nil {
		t.Log("cut while writing:", err)
	}
	// TLS ends it: the handshake's keys are others. Nothing of ours is even read.
	answer, _ := io.ReadAll(conn)
	t.Logf("a replayed connection got %d bytes of handshake and alert", len(answer))
	if n := len(east.book.Peers()); n != 1 {
		t.Errorf("%d peers", n)
	}
}

// A request that is moved to another connection by one who has its bytes in clear
// (a broken acceptor, say) fails by the exporter; so does one that is changed.
func TestAMovedRequest(t *testing.T) {
	east, west := newSide(t, "east"), newSide(t, "west")
	token := east.token(peering.Invite{})
	dial := func() *tls.Conn {
		conn, err := tls.Dial("tcp", east.address, west.identity.JoinClientTLS(token.Anchors, identity.AuthorizeIDs(east.id), true))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	body, err := json.Marshal(peering.Description{Cluster: "west", ID: west.id.String(), Bundle: west.ca.BundleJSON(1)})
	if err != nil {
		t.Fatal(err)
	}
	first := dial()
	request, err := peering.RequestFor(token, first.ConnectionState(), body)
	if err != nil {
		t.Fatal(err)
	}
	for name, bytes := range map[string][]byte{
		"moved":   request,
		"changed": append(slices.Clone(request[:len(request)-2]), ' ', '}'),
		"no mac":  slices.Concat(request[:22], make([]byte, 32), request[54:]),
	} {
		conn := dial()
		if name != "moved" {
			if bytes2, err := peering.RequestFor(token, conn.ConnectionState(), body); err != nil {
				t.Fatal(err)
			} else if name == "changed" {
				bytes2[len(bytes2)-3] ^= 1
				bytes = bytes2
			}
		}
		if _, err := conn.Write(bytes); err != nil {
			t.Fatal(err)
		}
		if silent, err := peering.Refused(conn); err != nil || !silent {
			t.Errorf("%s: refused without a word: %v, %v", name, silent, err)
		}
	}
	apart(t, east)
	if n := east.count(peering.ReasonUnknown); n != 3 {
		t.Errorf("%v refusals were counted, want 3", n)
	}
	if _, err := first.Write(request); err != nil {
		t.Fatal(err)
	}
	if silent, err := peering.Refused(first); err != nil || silent {
		t.Errorf("on its own connection: %v, %v", silent, err)
	}
	if len(east.book.Peers()) != 1 {
		t.Error("the honest request made no peer")
	}
}

// Every cut of the exchange, at each write of either side: a retry completes it,
// nobody else can, and nobody is a peer twice.
func TestCrashBetweenAnyTwoSteps(t *testing.T) {
	for cut := range 12 {
		east, west := newSide(t, "east"), newSide(t, "west")
		token := east.token(peering.Invite{})
		writes := 0
		west.between = func(c net.Conn) net.Conn {
			return &cutter{Conn: c, left: cut, count: &writes}
		}
		_, err := west.accept(token)
		if err == nil { // the cut came after the answer
			joined(t, east, west)
		}
		// Both processes die here.
		east.restart()
		west.between = nil
		west.restart()
		thief := newSide(t, "thief")
		if _, taken := east.peer(west); taken {
			thief.refuses(token.Encode(), peering.ReasonUsed)
		}
		west.must(token)
		joined(t, east, west)
		west.must(token) // once more changes nothing
		joined(t, east, west)
		thief.refuses(token.Encode(), peering.ReasonUsed)
	}
}

// cutter ends a connection before its n-th operation.
type cutter struct {
	net.Conn
	mu    sync.Mutex
	left  int
	count *int
}

var errCut = errors.New("cut")

func (c *cutter) step() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.count++
	if c.left--; c.left < 0 {
		_ = c.Close()
		return errCut
	}
	return nil
}

func (c *cutter) Read(p []byte) (int, error) {
	if err := c.step(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *cutter) Write(p []byte) (int, error) {
	if err := c.step(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Who was removed does not come back with the old token.
func TestARemovedPeerDoesNotComeBack(t *testing.T) {
	east, west := newSide(t, "east"), newSide(t, "west")
	token := east.token(peering.Invite{})
	west.must(token)
	for _, pair := range [][2]*side{{east, west}, {west, east}} {
		name := pair[1].name
		if err := pair[0].book.PeerRules().Delete(t.Context(), name, rulebook.Precondition{}, false); err != nil {
			t.Fatal(err)
		}
	}
	west.refuses(token.Encode(), peering.ReasonRemoved)
	west.must(east.token(peering.Invite{}))
	joined(t, east, west)
}

func TestConflicts(t *testing.T) {
	east := newSide(t, "east")
	t.Run("two clusters of the own name", func(t *testing.T) {
		twin := newSideOf(t, "east", identitytest.NewCA("twin.test"))
		twin.refuses(east.token(peering.Invite{}).Encode(), peering.ReasonConflict)
	})
	west := newSide(t, "west")
	west.must(east.token(peering.Invite{}))
	t.Run("a second cluster of a peer's name", func(t *testing.T) {
		twin := newSide(t, "west")
		twin.id = twin.ca.ID("/isthmus/cluster/second")
		twin.identity = twin.ca.Source(twin.id, twin.ca.Bundle())
		twin.restart()
		r := twin.refuses(east.token(peering.Invite{}).Encode(), peering.ReasonConflict)
		t.Log(r)
		joined(t, east, west)
	})
	t.Run("a peer's trust domain by another authority", func(t *testing.T) {
		evil := newSideOf(t, "evil", identitytest.NewCA("west.test"))
		if err := east.identity.SetPeerBundle(west.ca.TrustDomain(), west.ca.BundleJSON(1)); err != nil {
			t.Fatal(err)
		}
		evil.refuses(east.token(peering.Invite{}).Encode(), peering.ReasonConflict)
	})
	t.Run("the own trust domain by another authority", func(t *testing.T) {
		evil := newSideOf(t, "evil", identitytest.NewCA("east.test"))
		evil.refuses(east.token(peering.Invite{}).Encode(), peering.ReasonConflict)
	})
	t.Run("an invitation of a peer", func(t *testing.T) {
		_, _, err := east.Invite(t.Context(), peering.Invite{To: "west"})
		if r, ok := errors.AsType[*peering.Refusal](err); !ok || r.Reason != peering.ReasonConflict {
			t.Errorf("Invite = %v", err)
		}
	})
	t.Run("callers that are another's", func(t *testing.T) {
		north := newSide(t, "north")
		token := east.token(peering.Invite{Asserts: []policy.IDPattern{"spiffe://west.test/shop/*"}})
		north.refuses(token.Encode(), peering.ReasonConflict)
		// The mistake was the inviter's, and used nothing up.
		if all, _ := east.Invitations(t.Context()); all[0].State != peering.StateOpen {
			t.Errorf("state %s", all[0].State)
		}
	})
}

// Two clusters of one trust domain need no bundle, and neither may speak for the
// whole domain.
func TestOneTrustDomain(t *testing.T) {
	ca := identitytest.NewCA("corp.test")
	east, west := newSideOf(t, "east", ca), newSideOf(t, "west", ca)
	west.must(east.token(peering.Invite{}))
	joined(t, east, west)
	for _, pair := range [][2]*side{{east, west}, {west, east}} {
		if p, _ := pair[0].peer(pair[1]); p.Bundle.Document != "" || len(p.Asserts) != 0 {
			t.Errorf("%s has %+v", pair[0].name, p)
		}
	}
}

// A cluster that nobody can dial invites, and dials itself.
func TestTheReturnToken(t *testing.T) {
	nat, west, thief := newSide(t, "nat"), newSide(t, "west"), newSide(t, "thief")
	nat.gateways = nil
	token := nat.token(peering.Invite{To: "west"})
	out := west.must(token)
	if out.Joined || out.Return == nil {
		t.Fatalf("accepted: %+v", out)
	}
	back := out.Return.Encode()
	apart(t, nat, west)
	west.refuses(back, peering.ReasonSelf)
	thief.refuses(back, peering.ReasonWrongInvitee)

	forged := *out.Return
	forged.Reply = &peering.Reply{ID: token.ID}
	nat.refuses(forged.Encode(), peering.ReasonUnknown)
	moved := *out.Return
	moved.Gateways = []string{thief.address}
	nat.refuses(moved.Encode(), peering.ReasonUnknown)

	if got := nat.must(out.Return); !got.Joined {
		t.Errorf("accepted: %+v", got)
	}
	joined(t, nat, west)
	if all, _ := nat.Invitations(t.Context()); len(all) != 1 || all[0].State != peering.StateCompleted || all[0].Cluster != "west" {
		t.Errorf("invitations of nat: %+v", all)
	}
	nat.must(out.Return) // again, as after a crash
	joined(t, nat, west)

	t.Run("neither can be dialed", func(t *testing.T) {
		other := newSide(t, "other")
		other.gateways = nil
		r := other.refuses(nat.token(peering.Invite{}).Encode(), peering.ReasonUnreachable)
		if !strings.Contains(r.Error(), "gateway.advertise") {
			t.Errorf("the message does not say what to do: %v", r)
		}
	})
}

// Clocks that are years apart: the inviter's alone decides what has expired.
func TestClocksYearsApart(t *testing.T) {
	const years = 20 * 365 * 24 * time.Hour
	for _, skew := range []time.Duration{years, -years} {
		east, west := newSide(t, "east"), newSide(t, "west")
		west.ahead.Store(int64(skew))
		west.must(east.token(peering.Invite{TTL: time.Minute}))
		joined(t, east, west)
		east.ahead.Store(int64(skew))
		late := east.token(peering.Invite{TTL: time.Minute})
		west.ahead.Store(0)
		if len(late.Encode()) == 0 {
			t.Error("no token")
		}
	}
}

func TestWhatNobodyIsInvitedTo(t *testing.T) {
	east, west := newSide(t, "east"), newSide(t, "west")
	token := east.token(peering.Invite{TTL: time.Minute})
	if !east.Open() {
		t.Fatal("not open with an invitation")
	}
	east.ahead.Store(int64(2 * time.Minute))
	if err := east.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if east.Open() {
		t.Fatal("open without an invitation")
	}
	// The handshake itself is refused.
	west.refuses(token.Encode(), peering.ReasonForged)
	east.ahead.Store(int64(48 * time.Hour))
	if err := east.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all, err := east.Invitations(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("a day later there is %+v, %v", all, err)
	}
}

func TestBoundsOfInvitations(t *testing.T) {
	east := newSide(t, "east")
	for _, in := range []peering.Invite{
		{To: "East"}, {To: "east"}, {TTL: time.Millisecond}, {TTL: 25 * time.Hour}, {Asserts: []policy.IDPattern{"nobody"}},
	} {
		_, _, err := east.Invite(t.Context(), in)
		if _, ok := errors.AsType[*catalog.FieldError](err); !ok {
			t.Errorf("Invite(%+v) = %v", in, err)
		}
	}
	for range 64 {
		east.token(peering.Invite{})
	}
	_, _, err := east.Invite(t.Context(), peering.Invite{})
	if r, ok := errors.AsType[*peering.Refusal](err); !ok || r.Reason != peering.ReasonFull {
		t.Errorf("the 65th: %v", err)
	}
}
