package workload

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// enterTimeout bounds a handshake: who only opens connections must not hold slots.
const enterTimeout = 10 * time.Second

// DoorOptions configure a Door. Source and Live are required.
type DoorOptions struct {
	// Source is who the gateway is at this door.
	Source *identity.Source
	// ALPN are the application protocols that are offered; none negotiates none.
	ALPN []string
	// Form says which IDs are workloads' at all; nil: every one.
	Form func(spiffeid.ID) bool
	// Ask is asked about who has proven an ID, last of all; nil lets everybody pass. It
	// may take a while, and its refusals are *RefusedError.
	Ask func(ctx context.Context, leaf *x509.Certificate) error
	// Allowed are the IDs that may enter; none means every one of the trust domain.
	Allowed []policy.IDPattern
	Live    *Live
}

// Door lets workloads in.
type Door struct {
	o      DoorOptions
	config *tls.Config
}

// NewDoor returns a Door.
func NewDoor(o DoorOptions) (*Door, error) {
	if o.Source == nil || o.Live == nil {
		return nil, errors.New("workload: a door needs a source and the live connections")
	}
	d := &Door{o: o}
	d.config = o.Source.WorkloadServerTLS(o.ALPN, identity.AuthorizeFunc(d.admits))
	return d, nil
}

// admits reports whether an authenticated workload may enter.
func (d *Door) admits(id spiffeid.ID) bool {
	if own := d.o.Source.TrustDomain(); own.IsZero() || id.TrustDomain() != own {
		return false
	}
	if d.o.Form != nil && !d.o.Form(id) {
		return false
	}
	return len(d.o.Allowed) == 0 || policy.MatchesAny(d.o.Allowed, id)
}

// Guest is a workload that has entered.
type Guest struct {
	// Conn is the connection in the clear.
	Conn *tls.Conn
	// Caller is the SPIFFE ID that it has proven.
	Caller string
	leave  func()
}

// Enter makes the handshake on c. The returned context ends with ctx, or when the
// guest's certificate is no longer trusted (Revoked says why). On an error c is as
// good as closed, which is left to the caller.
func (d *Door) Enter(ctx context.Context, c net.Conn) (context.Context, *Guest, error) {
	return d.enter(ctx, ctx, c)
}

// enter is Enter with a context for the handshake and one for the guest.
func (d *Door) enter(shaking, ctx context.Context, c net.Conn) (context.Context, *Guest, error) {
	conn := tls.Server(c, d.config)
	bounded, cancel := context.WithTimeout(shaking, enterTimeout)
	err := conn.HandshakeContext(bounded)
	if err != nil && bounded.Err() != nil && shaking.Err() == nil {
		err = errors.Join(err, context.DeadlineExceeded)
	}
	var id spiffeid.ID
	if err == nil {
		id, err = identity.PeerID(conn.ConnectionState())
	}
	if err == nil && d.o.Ask != nil {
		// Not within the handshake: only now it is proven who asks.
		err = d.o.Ask(bounded, conn.ConnectionState().PeerCertificates[0])
	}
	cancel()
	d.o.Live.count(sideIn, err)
	if err != nil {
		return ctx, nil, err
	}
	ctx, end := context.WithCancelCause(ctx)
	remove := d.o.Live.add(&connection{source: d.o.Source, side: sideIn, chain: conn.ConnectionState().PeerCertificates, end: end})
	return ctx, &Guest{Conn: conn, Caller: id.String(), leave: func() { remove(); end(nil) }}, nil
}

// Leave is called once the connection is closed.
func (g *Guest) Leave() { g.leave() }

// Revoked is why ctx, of Enter, ended if the guest's certificate was the reason.
func Revoked(ctx context.Context) *RevokedError {
	if ctx.Err() == nil {
		return nil
	}
	e, _ := errors.AsType[*RevokedError](context.Cause(ctx))
	return e
}
