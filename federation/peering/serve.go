package peering

import (
	"context"
	"crypto/hmac"
	"crypto/tls"
	"encoding/json"
	"errors"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/store"
)

// ServeConn answers one who comes with a token, and closes the connection, which
// is of identity.JoinALPN and as a server: its client may be anybody.
func (s *Service) ServeConn(ctx context.Context, conn *tls.Conn) {
	defer func() { _ = conn.Close() }()
	address := conn.RemoteAddr().String()
	if !s.pace.Allow() {
		s.refused(refuse(ReasonBusy, "too many come with tokens"), TokenID{}, "", address)
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		s.refused(refuse(ReasonBusy, "too many come with tokens"), TokenID{}, "", address)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := conn.HandshakeContext(ctx); err != nil {
		return // counted by identity
	}
	request, err := readMessage(conn)
	if err != nil {
		s.refused(refusalOf(err), TokenID{}, "", address)
		return
	}
	reply, refusal := s.answer(ctx, conn, request)
	if refusal != nil {
		s.refused(refusal, request.token, claimedBy(conn), address)
	}
	if err := reply.write(conn); err != nil {
		s.log.Info("answer to a token was not taken: who came may come again", "path", "invitations/"+request.token.String(), "err", err)
	}
}

// claimedBy is what the client's certificate says of itself, for the log.
func claimedBy(conn *tls.Conn) string {
	certs := conn.ConnectionState().PeerCertificates
	if len(certs) == 0 || len(certs[0].URIs) == 0 {
		return ""
	}
	const most = 256
	id := certs[0].URIs[0].String()
	return id[:min(len(id), most)]
}

// answer judges a request. Who does not prove to hold the token of an invitation
// is told nothing at all.
func (s *Service) answer(ctx context.Context, conn *tls.Conn, request *message) (*message, *Refusal) {
	nothing := &message{kind: kindRefused, token: request.token}
	if request.kind != kindRequest {
		return nothing, refuse(ReasonMalformed, "message of kind %d", request.kind)
	}
	inv, _, err := s.book.load(ctx, request.token)
	if errors.Is(err, store.ErrNotFound) {
		return nothing, refuse(ReasonUnknown, "no such invitation")
	}
	if err != nil {
		return nothing, refusalOf(err)
	}
	cs := conn.ConnectionState()
	binding, err := exporter(&cs)
	if err != nil {
		return nothing, refusalOf(err)
	}
	want := inv.Key.mac(roleRequest, binding, request.body)
	if !hmac.Equal(want[:], request.mac[:]) {
		return nothing, refuse(ReasonUnknown, "who comes does not hold the secret of the invitation, or repeats what another one sent")
	}
	var a answer
	who, err := decodeBody[Description](request.body)
	refusal := refusalIn(err)
	if err == nil {
		a.Inviter, refusal = s.admit(ctx, request.token, inv, who, &cs)
	}
	if refusal != nil {
		a = answer{Reason: refusal.Reason, Message: refusal.Error()}
	}
	body, err := json.Marshal(a)
	if err != nil {
		return nothing, refusalOf(err)
	}
	return &message{
		kind: kindAnswer, token: request.token, body: body,
		mac: inv.Key.mac(roleAnswer, append(binding, request.mac[:]...), body),
	}, refusal
}

func refusalIn(err error) *Refusal {
	if err == nil {
		return nil
	}
	return refusalOf(err)
}

// admit makes the one who holds the token a peer, and describes this cluster.
func (s *Service) admit(ctx context.Context, token TokenID, inv *Invitation, who *Description, cs *tls.ConnectionState) (*Description, *Refusal) {
	if r := inv.judge(who.Cluster, who.ID, s.o.Now()); r != nil {
		return nil, r
	}
	if who.Cluster == s.o.Cluster {
		return nil, refuse(ReasonConflict, "both clusters are called %s; a name is unique in a federation: rename one (cluster.name)", who.Cluster)
	}
	if who.ID == s.o.ID.String() {
		return nil, refuse(ReasonSelf, "both federations have the ID %s", who.ID)
	}
	id, held, err := s.o.Identity.VerifyOffered(cs.PeerCertificates, who.Bundle, inv.Anchors...)
	switch {
	case err != nil && held:
		return nil, refuseFor(ReasonConflict, err, "trust domain %s is known here already, by another bundle than yours", id.TrustDomain())
	case err != nil:
		return nil, refuseFor(ReasonUntrusted, err, "the certificate is not of the bundle that came with it")
	case id.String() != who.ID:
		return nil, refuse(ReasonUntrusted, "the certificate is of %s, not of %.200q", id, who.ID)
	}
	p, r := s.peerOf(who, id, held, inv.Asserts, onLoopback(s.gateways()))
	if r != nil {
		return nil, r
	}
	// All that can refuse for good comes before the invitation is taken: it is not
	// used up by a mistake.
	known, isPeer := s.peer(p.Name)
	switch {
	case inv.State == StateCompleted && !isPeer:
		return nil, refuse(ReasonRemoved, "%s was a peer of %s by this token, and was removed; ask for another", p.Name, s.o.Cluster)
	case isPeer && known.ID != p.ID:
		return nil, refuse(ReasonConflict, "%s is the name of another peer of %s (%s)", p.Name, s.o.Cluster, known.ID)
	case isPeer && inv.State == StateOpen:
		return nil, refuse(ReasonConflict, "%s is a peer of %s already; remove it there first: isthmus peer remove %s", p.Name, s.o.Cluster, p.Name)
	case !isPeer:
		if err := s.o.Peers.Check(ctx, p); err != nil && !s.joined(p.Name, p.ID) {
			return nil, s.checked(p, err)
		}
	}
	own, err := s.describe()
	if err != nil {
		return nil, refusalOf(err)
	}
	// The inviter has left long ago: what he asked for is written in his name.
	if err := s.join(inv.author(ctx, p.ID), token, p, isPeer, "inviter"); err != nil {
		return nil, refusalOf(err)
	}
	return own, nil
}

// join takes the invitation for a peer, writes the peer, and completes the
// invitation: in this order, so that whatever happens in between the one who took
// it can come again, and nobody else.
func (s *Service) join(ctx context.Context, token TokenID, p policy.Peer, isPeer bool, side string) error {
	if err := s.book.take(ctx, token, p.Name, p.ID, s.o.Now()); err != nil {
		return err
	}
	if !isPeer {
		if err := s.add(ctx, p, side); err != nil {
			return err
		}
	}
	return s.book.complete(ctx, token)
}

// add writes a peer.
func (s *Service) add(ctx context.Context, p policy.Peer, side string) error {
	if err := s.o.Peers.Add(ctx, p); err != nil {
		if s.joined(p.Name, p.ID) {
			return nil // by an attempt before, which its own end has given up
		}
		return s.checked(p, err)
	}
	s.metrics.joins.WithLabelValues(side).Inc()
	s.log.Info("peer joined", "peer", p.Name, "spiffe_id", p.ID, "status", side, "count", len(p.Gateways))
	s.o.Note(p.Name, "joined by token as "+side+": "+p.ID)
	return nil
}

// checked turns the shelf's word on a peer into a refusal.
func (s *Service) checked(p policy.Peer, err error) *Refusal {
	if _, field := errors.AsType[*catalog.FieldError](err); field {
		return refuseFor(ReasonConflict, err, "%s cannot be a peer of %s", p.Name, s.o.Cluster)
	}
	return refuseFor(ReasonInternal, err, "%s was not written as a peer of %s; try again", p.Name, s.o.Cluster)
}
