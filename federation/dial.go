package federation

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// attemptTimeout bounds one way to a peer: through one gateway, the WAN and
	// back four times (CONNECT, TCP at the far end, TLS). A gateway that hangs
	// must leave time for the next.
	attemptTimeout = 5 * time.Second
	// maxConnectHeader bounds a gateway's answer to CONNECT.
	maxConnectHeader = 16 << 10
)

// errNoGateway means that no own gateway is heard that could carry a call.
var errNoGateway = errors.New("no living gateway with a control listener")

// tunnelDialer reaches one peer's federation through the own gateways: CONNECT
// at a gateway's control listener over mTLS, and inside of that mTLS from
// federation to federation. The gateway carries bytes; what it could do is drop
// them.
type tunnelDialer struct {
	identity *identity.Source
	cluster  spiffeid.ID // own
	peer     catalog.ClusterName
	peerID   spiffeid.ID
	// candidates are the own gateways to try, in order.
	candidates func() []*route.Report
	via        atomic.Pointer[string] // the gateway of the last connection
	authority  atomic.Pointer[authority]
}

// authority is what the peer's certificate hung below at the last connection.
type authority struct {
	keyID    string
	notAfter time.Time
}

// dial tries each candidate in turn.
func (d *tunnelDialer) dial(ctx context.Context) (net.Conn, error) {
	candidates := d.candidates()
	if len(candidates) == 0 {
		return nil, errNoGateway
	}
	var errs []error
	for _, r := range candidates {
		conn, err := d.through(ctx, r)
		if err == nil {
			d.via.Store(&r.Gateway.Name)
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("gateway %s: %w", r.Gateway.Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// through returns a connection to the peer's federation, both handshakes done.
func (d *tunnelDialer) through(ctx context.Context, r *route.Report) (_ net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	// The ID is made of the name, and not taken from the report: the name was
	// checked against the certificate when the report came.
	id, err := mesh.GatewayID(d.cluster, r.Gateway.Name)
	if err != nil {
		return nil, err
	}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.Control)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = raw.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	outer := tls.Client(raw, d.identity.ClientTLS([]string{"http/1.1"}, identity.AuthorizeIDs(id)))
	if err := outer.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	tunnel, err := connect(outer, d.peer)
	if err != nil {
		return nil, err
	}
	inner := tls.Client(tunnel, d.identity.ClientTLS([]string{"h2", "http/1.1"}, identity.AuthorizeIDs(d.peerID)))
	if err := inner.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("federation of %s: %w", d.peer, err)
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	chain := inner.ConnectionState().PeerCertificates
	d.authority.Store(&authority{keyID: d.identity.AuthorityOf(chain), notAfter: chain[0].NotAfter})
	return inner, nil
}

// refusedError is a gateway's refusal to carry a connection.
type refusedError struct {
	status int
	reason string // of a join: why no gateway of the inviter was reached
}

func (e *refusedError) Error() string {
	if e.reason != "" {
		return e.reason
	}
	return fmt.Sprintf("connect: status %d %s", e.status, http.StatusText(e.status))
}

// connect asks the gateway for the reserved service of the peer.
func connect(conn net.Conn, peer catalog.ClusterName) (net.Conn, error) {
	target := catalog.FederationService(peer).String() + ":443"
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(&limitedReader{conn: conn, left: maxConnectHeader}, 4096)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	_ = resp.Body.Close() // an answer to CONNECT has no body of its own
	if resp.StatusCode != http.StatusOK {
		return nil, &refusedError{status: resp.StatusCode}
	}
	if r.Buffered() > 0 {
		// TLS clients speak first: nothing can follow the header yet.
		return nil, errors.New("connect: bytes before the first of ours")
	}
	return conn, nil
}

// limitedReader bounds what is read of a connection.
type limitedReader struct {
	conn net.Conn
	left int
}

var errHeaderTooLong = fmt.Errorf("header is longer than %d bytes", maxConnectHeader)

// Read reads at most what is left.
func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errHeaderTooLong
	}
	n, err := l.conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// client speaks HTTP over one connection at a time to the peer's federation.
func (d *tunnelDialer) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialTLSContext:    func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx) },
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		IdleConnTimeout:   time.Minute,
	}}
}

// lastAuthority is of the last connection, nil before the first.
func (d *tunnelDialer) lastAuthority() *authority { return d.authority.Load() }

// lastVia is the gateway of the last connection, "" before the first.
func (d *tunnelDialer) lastVia() string {
	if name := d.via.Load(); name != nil {
		return *name
	}
	return ""
}
