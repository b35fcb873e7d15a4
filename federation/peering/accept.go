package peering

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/identity"
)

// Accept says how a token is accepted.
type Accept struct {
	// Asserts are what the inviter's gateways may assert; nil for the default.
	Asserts []policy.IDPattern
	// DryRun dials nobody and writes nothing.
	DryRun bool
}

// Accepted is what came of a token.
type Accepted struct {
	// Token is what was accepted.
	Token *Token
	// Peer is the inviter as it was, or would be, written: in a dry run without a
	// bundle, which is not known before the exchange.
	Peer policy.Peer
	// Return is set where the inviter cannot be dialed: it must accept this one.
	Return *Token
	// Joined says that both clusters are peers of each other now.
	Joined bool
}

// Accept goes with a token to who made it. Refusals are *Refusal; whatever they
// are, the same token can be accepted again while it is good.
func (s *Service) Accept(ctx context.Context, text string, in Accept) (*Accepted, error) {
	t, err := ParseToken(text)
	if err != nil {
		r := refusalOf(err)
		s.refused(r, TokenID{}, "", "")
		return nil, r
	}
	out, err := s.accept(ctx, t, in)
	if err != nil {
		r := refusalOf(err)
		s.refused(r, t.ID, t.Federation.String(), "")
		return nil, r
	}
	return out, nil
}

func (s *Service) accept(ctx context.Context, t *Token, in Accept) (*Accepted, error) {
	switch {
	case t.Federation == s.o.ID:
		return nil, refuse(ReasonSelf, "this is an invitation of this cluster (%s); paste it where %s runs", s.o.Cluster, orAnybody(t))
	case t.Cluster == s.o.Cluster:
		return nil, refuse(ReasonConflict, "both clusters are called %s; a name is unique in a federation: rename one (cluster.name)", t.Cluster)
	case t.To != "" && t.To != s.o.Cluster:
		return nil, refuse(ReasonWrongInvitee, "the invitation is for %s, and this is %s; ask %s for one of your own", t.To, s.o.Cluster, t.Cluster)
	case !t.ToID.IsZero() && t.ToID != s.o.ID:
		return nil, refuse(ReasonWrongInvitee, "the invitation is for %s, and this is %s", t.ToID, s.o.ID)
	}
	var answered *Invitation
	if t.Reply != nil {
		var err error
		if answered, err = s.answered(ctx, t); err != nil {
			return nil, err
		}
		if in.Asserts == nil {
			in.Asserts = answered.Asserts
		}
	}
	p := policy.Peer{
		Name: t.Cluster, ID: t.Federation.String(), Gateways: t.Gateways, Cloud: t.Cloud, Region: t.Region, Asserts: in.Asserts,
	}
	if in.Asserts == nil {
		p.Asserts = s.defaultAsserts(t.Federation.TrustDomain(), t.Cluster)
	}
	known, isPeer := s.peer(t.Cluster)
	if isPeer && known.ID != p.ID {
		return nil, refuse(ReasonConflict, "%s is the name of another peer (%s); remove it first: isthmus peer remove %s", t.Cluster, known.ID, t.Cluster)
	}
	if !isPeer {
		if err := s.o.Peers.Check(ctx, p); err != nil {
			return nil, s.checked(p, err)
		}
	}
	for _, g := range t.Gateways {
		// Loopback is the operator's own word: several clusters on one host.
		if rule := exchange.Undialable(g, true); rule != "" {
			return nil, refuse(ReasonInvalid, "gateway address %.200q of %s %s", g, t.Cluster, rule)
		}
	}
	out := &Accepted{Token: t, Peer: p}
	if in.DryRun {
		return out, nil
	}
	if len(t.Gateways) == 0 {
		return s.giveReturn(ctx, t, out)
	}
	anchors := t.Anchors
	if answered != nil {
		var err error
		if anchors, err = answered.named(t.Anchors); err != nil {
			return nil, err
		}
		// Taken before anything is asked of the other side: its operator is the one
		// who may finish this, and no other.
		if err := s.book.take(ctx, t.Reply.ID, t.Cluster, p.ID, s.o.Now()); err != nil {
			return nil, err
		}
	}
	inviter, held, err := s.exchange(ctx, t, anchors)
	if err != nil {
		return nil, err
	}
	if !isPeer {
		loopback := onLoopback(t.Gateways) || onLoopback(s.gateways())
		entry, r := s.peerOf(inviter, t.Federation, held, p.Asserts, loopback)
		if r != nil {
			return nil, r
		}
		if len(entry.Gateways) == 0 {
			entry.Gateways = t.Gateways
		}
		if err := s.add(ctx, entry, "acceptor"); err != nil {
			return nil, err
		}
		out.Peer = entry
	} else {
		out.Peer = known
	}
	if answered != nil {
		if err := s.book.complete(ctx, t.Reply.ID); err != nil {
			return nil, err
		}
	}
	out.Joined = true
	return out, s.Sweep(ctx)
}

func orAnybody(t *Token) string {
	if t.To == "" {
		return "the invited cluster"
	}
	return string(t.To)
}

// answered is the own invitation that a return token answers.
func (s *Service) answered(ctx context.Context, t *Token) (*Invitation, error) {
	inv, _, err := s.book.load(ctx, t.Reply.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, refuse(ReasonUnknown, "the return token answers no invitation of this cluster")
	}
	if err != nil {
		return nil, err
	}
	if !t.repliesTo(inv.Key) {
		return nil, refuse(ReasonUnknown, "the return token was not made by who held the invitation")
	}
	if r := inv.judge(t.Cluster, t.Federation.String(), s.o.Now()); r != nil {
		return nil, r
	}
	return inv, nil
}

// giveReturn answers a token whose maker cannot be dialed: with an invitation of
// our own, for the maker alone, which proves that we held the token.
func (s *Service) giveReturn(ctx context.Context, t *Token, out *Accepted) (*Accepted, error) {
	if t.Reply != nil {
		return nil, refuse(ReasonUnreachable, "neither cluster can be dialed: set gateway.advertise in one of them")
	}
	if len(s.gateways()) == 0 {
		return nil, refuse(ReasonUnreachable, "%s cannot be dialed, and neither can this cluster: set gateway.advertise in one of them, or wait until a gateway runs", t.Cluster)
	}
	k, err := t.derive()
	if err != nil {
		return nil, err
	}
	inv, back, err := s.invite(ctx, Invite{To: t.Cluster, ToID: t.Federation, Anchors: t.Anchors, TTL: DefaultTTL, Asserts: out.Peer.Asserts})
	if err != nil {
		return nil, err
	}
	back.reply(t.ID, k)
	if err := s.book.save(ctx, inv, store.Absent); err != nil {
		return nil, err
	}
	s.log.Info("return token made", "path", "invitations/"+inv.ID, "peer", t.Cluster)
	out.Return = back
	return out, s.Sweep(ctx)
}

// named are the anchors by which who answers the invitation is recognised: those
// of its return token, and where a card came before the invitation only those of
// the card. Who stole the token can sign a return token, but not change the card.
func (i *Invitation) named(anchors []identity.Anchor) ([]identity.Anchor, error) {
	if len(i.Anchors) == 0 {
		return anchors, nil
	}
	both := slices.DeleteFunc(slices.Clone(anchors), func(a identity.Anchor) bool { return !slices.Contains(i.Anchors, a) })
	if len(both) == 0 {
		return nil, refuse(ReasonUntrusted, "the return token names none of the authorities of the card that was invited; ask for a card of now, and invite that")
	}
	return both, nil
}

// exchange sends the request and takes the answer, of one that is recognised by
// anchors. held says that the inviter's trust domain is known here from elsewhere.
func (s *Service) exchange(ctx context.Context, t *Token, anchors []identity.Anchor) (inviter *Description, held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	raw, err := s.o.Dial(ctx, t)
	if err != nil {
		return nil, false, refuseFor(ReasonUnreachable, err,
			"%s cannot be reached at %v: does a gateway run there, does UDP get through, and is the invitation still open", t.Cluster, t.Gateways)
	}
	conn := tls.Client(raw, s.o.Identity.JoinClientTLS(anchors, identity.AuthorizeIDs(t.Federation), true))
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, false, refuseFor(ReasonForged, err, "who answers is not %s (%s), or its authorities have changed since the token was made: ask for another", t.Cluster, t.Federation)
	}
	own, err := s.describe()
	if err != nil {
		return nil, false, err
	}
	body, err := json.Marshal(own)
	if err != nil {
		return nil, false, err
	}
	k, err := t.derive()
	if err != nil {
		return nil, false, err
	}
	cs := conn.ConnectionState()
	binding, err := exporter(&cs)
	if err != nil {
		return nil, false, err
	}
	request := &message{kind: kindRequest, token: t.ID, body: body, mac: k.mac(roleRequest, binding, body)}
	if err := request.write(conn); err != nil {
		return nil, false, refuseFor(ReasonUnreachable, err, "%s hung up; try again", t.Cluster)
	}
	reply, err := readMessage(conn)
	if err != nil {
		return nil, false, refuseFor(ReasonUnreachable, err, "%s hung up; try again", t.Cluster)
	}
	a, err := judgeAnswer(reply, request, k, binding, t)
	if err != nil {
		return nil, false, err
	}
	id, held, err := s.o.Identity.VerifyOffered(cs.PeerCertificates, a.Inviter.Bundle, anchors...)
	if err != nil || id != t.Federation {
		return nil, false, refuseFor(ReasonForged, err, "the bundle of %s is not the one of its certificate", t.Cluster)
	}
	return a.Inviter, held, nil
}

// printable is what of another cluster's words is shown to an operator.
func printable(s string) string {
	const most = 500
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), most)]
}

// judgeAnswer authenticates the inviter's answer.
func judgeAnswer(reply, request *message, k key, binding []byte, t *Token) (*answer, error) {
	if reply.kind == kindRefused {
		return nil, &Refusal{
			Reason: ReasonUnknown, Remote: true,
			Message: "it does not know the token; was it made by the cluster that runs there now, and not forgotten since? Ask for another",
		}
	}
	want := k.mac(roleAnswer, append(binding, request.mac[:]...), reply.body)
	if reply.kind != kindAnswer || reply.token != t.ID || !hmac.Equal(want[:], reply.mac[:]) {
		return nil, refuse(ReasonForged, "the answer is not of who made the token")
	}
	a, err := decodeBody[answer](reply.body)
	if err != nil {
		return nil, err
	}
	if a.Reason != "" {
		r := &Refusal{Reason: a.Reason, Remote: true, Message: printable(a.Message)}
		if !slices.Contains(Reasons(), r.Reason) { // of a later version
			r.Reason = ReasonInvalid
		}
		return nil, r
	}
	if a.Inviter == nil || a.Inviter.Cluster != t.Cluster || a.Inviter.ID != t.Federation.String() {
		return nil, refuse(ReasonForged, "the answer describes another cluster than the token")
	}
	return a, nil
}
