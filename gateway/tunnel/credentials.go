package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// credentials are what the two ends of a connection have shown each other: in its
// handshake at first, in proofs on its link's control stream later.
type credentials struct {
	// bindings stand for the connection in proofs: by the dialing side, and by the
	// accepting side.
	bindings [2]wire.Binding

	mu sync.Mutex
	// peer is the chain that the other end has proven last; never empty.
	peer []*x509.Certificate
	// own is our leaf that the other end has seen proven last; nil when it cannot be
	// told which, since ours changed during the handshake.
	own *x509.Certificate
	// ownEnd is the end of own, or the earlier one of those that it may be.
	ownEnd time.Time
}

// newCredentials takes what the handshake has shown; before and after are our
// certificate when it began and now.
func newCredentials(state tls.ConnectionState, before, after *x509.Certificate) (*credentials, error) {
	r := &credentials{peer: state.PeerCertificates}
	for _, role := range []wire.Role{wire.Dialer, wire.Acceptor} {
		secret, err := state.ExportKeyingMaterial(wire.ProofExporter, role.Context(), wire.BindingSize)
		if err != nil {
			return nil, err
		}
		copy(r.bindings[role-1][:], secret)
	}
	if before == after {
		r.own = after
	}
	for _, c := range []*x509.Certificate{before, after} {
		if c != nil && (r.ownEnd.IsZero() || c.NotAfter.Before(r.ownEnd)) {
			r.ownEnd = c.NotAfter
		}
	}
	return r, nil
}

// binding stands for the connection in proofs by the end with that role.
func (r *credentials) binding(prover wire.Role) wire.Binding { return r.bindings[prover-1] }

// deadline is when the connection must end unless something is proven anew.
func (r *credentials) deadline() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if end := r.peer[0].NotAfter; end.Before(r.ownEnd) {
		return end
	}
	return r.ownEnd
}

// chain is what the other end has proven last.
func (r *credentials) chain() []*x509.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peer
}

// proved takes a chain that the other end has proven.
func (r *credentials) proved(chain []*x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peer = chain
}

// shown is told that the other end has accepted our proof of leaf.
func (r *credentials) shown(leaf *x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own, r.ownEnd = leaf, leaf.NotAfter
}

// lacks reports whether the other end may have seen another certificate than leaf.
func (r *credentials) lacks(leaf *x509.Certificate) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own != leaf
}

var (
	errNotPeer = errors.New("not a gateway of a peer")
	errExpired = errors.New("certificate expired without renewal")
)

// watchEnd ends the connection at its deadline, wherever that moves to.
func (c *connection) watchEnd() {
	c.expiryMu.Lock()
	defer c.expiryMu.Unlock()
	left := time.Until(c.deadline())
	switch {
	case c.expiry == nil:
		c.expiry = time.AfterFunc(left, c.expire)
	case c.forgotten:
	default:
		c.expiry.Reset(left)
	}
}

// expire is called at a deadline, which may have moved meanwhile.
func (c *connection) expire() {
	if time.Until(c.deadline()) > 0 {
		c.watchEnd()
		return
	}
	if l := c.link.Load(); l != nil && c.number != controlNumber && time.Until(l.controlEnd()) > 0 {
		// The link is proven and this connection is not: it is dialed anew.
		c.cut(wire.Revoked)
		return
	}
	c.end(wire.Revoked, errExpired)
}

// unwatch stops what watchEnd began, for good.
func (c *connection) unwatch() {
	c.expiryMu.Lock()
	defer c.expiryMu.Unlock()
	c.forgotten = true
	c.expiry.Stop()
}

// controlEnd is the deadline of the link's control connection.
func (l *link) controlEnd() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.connections[controlNumber]; c != nil {
		return c.deadline()
	}
	return time.Time{}
}

// peerLeaf is the certificate that the other end of the link has proven last, nil
// when the link has no connection left. mu is held.
func (l *link) peerLeaf() *x509.Certificate {
	if c := l.connections[controlNumber]; c != nil {
		return c.chain()[0]
	}
	return nil
}

// verdicts remembers chains that were checked, for the length of one sweep: the
// connections of a link show the same.
type verdicts map[string]error

// verify checks a chain against the bundles of now.
func (v verdicts) verify(source *identity.Source, chain []*x509.Certificate) error {
	var key []byte
	for _, c := range chain {
		key = append(key, c.Raw...)
	}
	err, known := v[string(key)]
	if !known {
		_, err = source.VerifyPeer(chain)
		v[string(key)] = err
	}
	return err
}
