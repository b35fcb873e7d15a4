package tunnel

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// proofs re-authenticates one link, in both directions, so that a rotation of
// certificates cuts and replaces nothing (see package wire for the exchange). It
// exists where both ends can. What is not proven in time is left to the renewal of
// the link, and in the end to the deadline.
//
// One proof binds every connection of the link, raw and HTTP/3, by the TLS exporter
// of each: a signature per rotation and direction, and no connection lives on
// because another one of the same gateway was proven.
type proofs struct {
	link *link
	role wire.Role // of this end

	// mu may be held while a link's mu is taken, not the reverse.
	mu sync.Mutex

	// Our own certificate, which we prove.
	asked    wire.Nonce // to be signed; zero when there is none
	used     wire.Nonce // signed last
	sent     uint64     // counter of the last proof
	pending  *pendingProof
	declined *x509.Certificate // was not accepted: the peer asks again

	// The peer's, which we check.
	nonce   wire.Nonce // not signed yet; zero when there is none
	heard   uint64     // counter of the last proof
	verdict wire.Status
	askedAt time.Time
}

// pendingProof waits for the peer's verdict.
type pendingProof struct {
	counter     uint64
	leaf        *x509.Certificate
	connections []*connection
}

// agree sets up what both hellos of a link's control connection name.
func (l *link) agree(peer *wire.Hello) {
	if l.features = l.node.features.Load() & peer.Features; l.features&wire.FeatureReauth == 0 {
		return
	}
	role := wire.Acceptor
	if l.dialed {
		role = wire.Dialer
	}
	l.proofs = &proofs{link: l, role: role}
	for _, direction := range []string{inboundDirection, outboundDirection} {
		// From zero, so that a rate sees the first.
		l.node.metrics.reauthentications.WithLabelValues(l.remote.Cluster, direction, wire.OK.String())
	}
}

// reprove proves our certificate on every link where it changed, and asks again
// for proofs that were refused: the bundles may have changed as well.
func (n *Node) reprove() {
	for _, l := range n.allLinks() {
		if l.proofs != nil {
			l.proofs.prove()
			l.proofs.askAgain(time.Now(), 0)
		}
	}
}

// handleProofs takes the frames of the exchange.
func (l *link) handleProofs(t wire.FrameType, body []byte) error {
	if l.proofs == nil {
		return &wire.ParseError{Part: t.String(), Rule: "was not negotiated"}
	}
	if t == wire.FrameChallenge {
		c, err := wire.ParseChallenge(body)
		if err != nil {
			return err
		}
		return l.proofs.challenged(c)
	}
	p, err := wire.ParseProof(body)
	if err != nil {
		return err
	}
	return l.proofs.proven(p)
}

// prove sends a proof if one is due: the peer has asked, and there is a connection
// on which it has not seen our certificate of now.
func (p *proofs) prove() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proveLocked()
}

func (p *proofs) proveLocked() {
	l, n := p.link, p.link.node
	leaf := n.o.Identity.Certificate()
	if p.asked.IsZero() || p.pending != nil || leaf == nil || leaf == p.declined {
		return
	}
	all := l.allConnections()
	if !slices.ContainsFunc(all, func(c *connection) bool { return c.lacks(leaf) }) {
		return
	}
	t := wire.ProofTranscript{
		Prover: p.role, ProverID: n.o.Identity.ID().String(), VerifierID: l.remote.ID.String(),
		Link: l.id, Nonce: p.asked, Counter: p.sent + 1, Bindings: bindingsOf(all, p.role),
	}
	proof, leaf, err := n.o.Identity.Prove(t.Append(nil))
	var frame []byte
	if err == nil {
		frame, err = wire.AppendProof(nil, &wire.Proof{
			Counter: t.Counter, Bindings: t.Bindings, Chain: proof.Chain, Signature: proof.Signature,
		})
	}
	if err != nil {
		// An SVID that has ended, or whose key or chain cannot be used here: the link
		// is renewed, or ends.
		n.log.Warn("cannot prove certificate on link", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "err", err)
		n.proofDone(l, outboundDirection, reasonOf(err))
		return
	}
	p.used, p.asked = p.asked, wire.Nonce{}
	p.sent = t.Counter
	p.pending = &pendingProof{counter: t.Counter, leaf: leaf, connections: all}
	l.out.sendProof(frame)
}

// bindingsOf lists what stands for connections in a proof.
func bindingsOf(all []*connection, prover wire.Role) []wire.Binding {
	out := make([]wire.Binding, len(all))
	for i, c := range all {
		out[i] = c.binding(prover)
	}
	slices.SortFunc(out, func(a, b wire.Binding) int { return bytes.Compare(a[:], b[:]) })
	return out
}

// challenged takes the peer's challenge: the answer to our last proof, or a wish
// for another.
func (p *proofs) challenged(c wire.Challenge) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case c.Answers > p.sent:
		return &wire.ParseError{Part: "challenge", Rule: "answers a proof that was not sent"}
	case !p.used.IsZero() && c.Nonce == p.used:
		return nil // asked again, while our proof was on its way
	case p.pending != nil && c.Answers != p.pending.counter:
		return &wire.ParseError{Part: "challenge", Rule: "does not answer the last proof"}
	case p.pending != nil:
		p.settle(c.Verdict)
	default:
		p.declined = nil // asked again: what was wrong may be right now
	}
	p.asked = c.Nonce
	p.proveLocked()
	return nil
}

// settle ends what waits for a verdict. mu is held.
func (p *proofs) settle(verdict wire.Status) {
	l, done := p.link, p.pending
	p.pending, p.declined = nil, nil
	l.node.proofDone(l, outboundDirection, verdict.String())
	if verdict != wire.OK {
		p.declined = done.leaf
		l.node.log.Warn("peer does not accept our certificate", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "status", verdict.String())
		return
	}
	for _, c := range done.connections {
		c.shown(done.leaf)
	}
	l.extend(done.connections)
}

// ask sends the first challenge.
func (p *proofs) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.challenge()
}

// challenge sends a challenge, with a new nonce if the last one was used. Each
// repeats the last verdict: the outbox may drop one for its successor. mu is held.
func (p *proofs) challenge() {
	if p.nonce.IsZero() {
		_, _ = rand.Read(p.nonce[:]) // never fails
	}
	p.askedAt = time.Now()
	frame, err := wire.AppendChallenge(nil, &wire.Challenge{Nonce: p.nonce, Answers: p.heard, Verdict: p.verdict})
	if err != nil {
		p.link.close(wire.Internal, err)
		return
	}
	p.link.out.sendChallenge(frame)
}

// askAgain repeats the challenge when the last proof was refused, at least pause
// after the one before.
func (p *proofs) askAgain(now time.Time, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verdict != wire.OK && now.Sub(p.askedAt) >= pause {
		p.challenge()
	}
}

// refused reports whether the peer's last proof was not accepted.
func (p *proofs) refused() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.verdict != wire.OK
}

// proven takes the peer's proof. An error breaks the protocol.
func (p *proofs) proven(proof wire.Proof) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, n := p.link, p.link.node
	nonce := p.nonce
	switch {
	case nonce.IsZero():
		return &wire.ParseError{Part: "proof", Rule: "was not asked for"}
	case proof.Counter != p.heard+1:
		return &wire.ParseError{Part: "proof", Rule: "is out of order"}
	}
	p.nonce = wire.Nonce{} // good for one proof, whatever becomes of it
	p.heard = proof.Counter
	bound := n.bound(l.remote, p.role.Other(), proof.Bindings)
	if !slices.ContainsFunc(bound, func(c *connection) bool { return c.number == controlNumber && c.link.Load() == l }) {
		return &wire.ParseError{Part: "proof", Rule: "is not about this link"}
	}
	t := wire.ProofTranscript{
		Prover: p.role.Other(), ProverID: l.remote.ID.String(), VerifierID: n.o.Identity.ID().String(),
		Link: l.id, Nonce: nonce, Counter: proof.Counter, Bindings: proof.Bindings,
	}
	chain, err := n.o.Identity.VerifyProof(identity.Proof{Chain: proof.Chain, Signature: proof.Signature}, t.Append(nil),
		l.remote.ID, func(id spiffeid.ID) error { return n.admits(Remote{l.remote.Cluster, l.remote.Gateway, id}) })
	result := wire.OK.String()
	if err != nil {
		result = reasonOf(err)
	}
	n.proofDone(l, inboundDirection, result)
	switch {
	case err != nil && result == string(identity.ReasonBadProof):
		return err
	case err != nil:
		if p.verdict == wire.OK {
			n.log.Warn("certificate of peer is not accepted", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway,
				"spiffe_id", l.remote.ID.String(), "reason", result, "err", err)
		}
		p.verdict = wire.Revoked
	default:
		p.verdict = wire.OK
		for _, c := range bound {
			c.proved(chain)
		}
		l.extend(bound)
		// A bundle or a roster that changed since the check was swept for the chain
		// before this one.
		if err := n.stillAdmitted(bound[0], verdicts{}); err != nil {
			l.close(wire.Revoked, err)
			return nil
		}
	}
	p.challenge()
	return nil
}

// bound finds the connections of remote that a proof is about. They are looked for
// among all, not in the link: one that has just been dialed has its place there at
// one end a moment before it has it at the other.
func (n *Node) bound(remote Remote, prover wire.Role, bindings []wire.Binding) []*connection {
	listed := make(map[wire.Binding]bool, len(bindings))
	for _, b := range bindings {
		listed[b] = true
	}
	var found []*connection
	for _, c := range n.allConnections() {
		if c.remote == remote && listed[c.binding(prover)] {
			found = append(found, c)
		}
	}
	return found
}

// extend moves the deadlines of connections to what was proven.
func (l *link) extend(all []*connection) {
	for _, c := range all {
		c.watchEnd()
	}
	notify(l.extended)
}

// proofDone counts a proof: one of the peer that was checked here (in), or one of
// ours that the peer has answered (out).
func (n *Node) proofDone(l *link, direction, result string) {
	if n.knows(l.remote.Cluster) {
		n.metrics.reauthentications.WithLabelValues(l.remote.Cluster, direction, result).Inc()
	}
}
