package workload

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// dialTimeout bounds a handshake with an endpoint and its judgement. A Consul
	// sidecar asks its agent, which may ask the servers.
	dialTimeout = 3 * time.Second
	// signTimeout is how long an endpoint's sign is waited for that it has taken the
	// gateway's certificate. Consul's proxy and most TLS libraries give it with the end
	// of the handshake; only one that gives none, and says nothing, costs this much.
	signTimeout = 100 * time.Millisecond
)

// past is a deadline that ends a Read at once.
var past = time.Unix(1, 0)

// Dialer makes connections to endpoints mTLS ones.
type Dialer struct {
	identities *Identities
	live       *Live
}

// NewDialer returns a Dialer.
func NewDialer(identities *Identities, live *Live) *Dialer {
	return &Dialer{identities: identities, live: live}
}

// Secure makes raw, a connection to an endpoint that must prove to be server, an mTLS
// one. It closes raw on errors, before which nothing was delivered.
func (d *Dialer) Secure(ctx context.Context, raw net.Conn, server string) (net.Conn, error) {
	c, err := d.secure(ctx, raw, server)
	d.live.count(sideOut, err)
	if err != nil {
		_ = raw.Close() // the error is the news
		return nil, err
	}
	return c, nil
}

func (d *Dialer) secure(ctx context.Context, raw net.Conn, server string) (*Conn, error) {
	id, err := spiffeid.FromString(server)
	if err != nil {
		return nil, fmt.Errorf("server id: %w", err)
	}
	source := d.identities.For(id)
	if err := source.Ready(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c := new(Conn)
	conn := tls.Client(raw, source.WorkloadClientTLS(identity.AuthorizeIDs(id), func() {
		if c.waiting { // a second sign may come at any time
			_ = raw.SetReadDeadline(past)
		}
	}))
	c.Conn = conn
	if err := conn.HandshakeContext(ctx); err != nil {
		if isAlert(err) {
			return nil, &DeniedError{Err: err}
		}
		return nil, errors.Join(err, ctx.Err())
	}
	if err := c.await(ctx, raw); err != nil {
		return nil, err
	}
	c.remove = d.live.add(&connection{
		source: source, side: sideOut, chain: conn.ConnectionState().PeerCertificates,
		end: func(error) { _ = raw.Close() }, // its reader is told nothing finer
	})
	return c, nil
}

// Conn is a connection to an endpoint.
type Conn struct {
	*tls.Conn
	waiting bool   // for the sign, which comes from within a Read
	early   []byte // what the endpoint said meanwhile
	ended   error  // what it ended with meanwhile
	heard   bool   // something of the endpoint has been read
	remove  func()
}

// await waits for the endpoint's verdict: a sign, its first byte, or the alert.
func (c *Conn) await(ctx context.Context, raw net.Conn) error {
	until := time.Now().Add(signTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	if err := raw.SetReadDeadline(until); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetReadDeadline(past) })
	var first [1]byte
	c.waiting = true
	n, err := c.Conn.Read(first[:])
	c.waiting = false
	if !stop() {
		return ctx.Err()
	}
	c.early = first[:n]
	switch {
	case n > 0 || errors.Is(err, os.ErrDeadlineExceeded):
	case isAlert(err):
		return &DeniedError{Err: err}
	case errors.Is(err, io.EOF):
		c.ended = err // an orderly end is for the caller to see
	default:
		return err
	}
	return raw.SetReadDeadline(time.Time{})
}

// Read implements net.Conn. An alert before anything else is the endpoint's refusal,
// late.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.early) > 0 && len(p) > 0 {
		n := copy(p, c.early)
		c.early, c.heard = c.early[n:], true
		return n, nil
	}
	if c.ended != nil {
		return 0, c.ended
	}
	n, err := c.Conn.Read(p)
	c.heard = c.heard || n > 0
	if err != nil && !c.heard && isAlert(err) {
		err = &DeniedError{Err: err}
	}
	return n, err
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.remove()
	return c.Conn.Close()
}

// Inner is the connection below the endpoint's bytes, for who resets it.
func (c *Conn) Inner() *tls.Conn { return c.Conn }
