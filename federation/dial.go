package federation

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// attemptTimeout bounds one way to a peer: through one gateway, the WAN and
// back four times (CONNECT, TCP at the far end, TLS). A gateway that hangs
// must leave time for the next.
const attemptTimeout = 5 * time.Second

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
	via        atomic.Pointer[string] // the gateway of the last stream
	authority  atomic.Pointer[authority]
}

// authority is what the peer's certificate hung below at the last connection.
type authority struct {
	keyID    string
	notAfter time.Time
}

// dial tries each candidate in turn, for one of the protocols.
func (d *tunnelDialer) dial(ctx context.Context, protocols ...string) (net.Conn, *route.Report, error) {
	way := &control{
		identity: d.identity, cluster: d.cluster, timeout: attemptTimeout,
		target: catalog.FederationService(d.peer).String() + ":443",
		then:   func(ctx context.Context, tunnel net.Conn) (net.Conn, error) { return d.enter(ctx, tunnel, protocols) },
	}
	return throughAny(ctx, d.candidates(), way.through)
}

// enter makes the handshake with the peer's federation, inside of what the
// gateways carry.
func (d *tunnelDialer) enter(ctx context.Context, tunnel net.Conn, protocols []string) (net.Conn, error) {
	inner := tls.Client(tunnel, d.identity.ClientTLS(protocols, identity.AuthorizeIDs(d.peerID)))
	if err := inner.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("federation of %s: %w", d.peer, err)
	}
	chain := inner.ConnectionState().PeerCertificates
	d.authority.Store(&authority{keyID: d.identity.AuthorityOf(chain), notAfter: chain[0].NotAfter})
	return inner, nil
}

// client asks the peer's federation questions.
func (d *tunnelDialer) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, _, err := d.dial(ctx, "h2", "http/1.1")
			return conn, err
		},
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		IdleConnTimeout:   time.Minute,
	}}
}

// streams follows the peer's federation: the stream has a connection to itself.
func (d *tunnelDialer) streams() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, r, err := d.dial(ctx, "http/1.1")
			if err == nil {
				d.via.Store(&r.Gateway.Name)
			}
			return conn, err
		},
		IdleConnTimeout: time.Minute,
	}}
}

// lastAuthority is of the last connection, nil before the first.
func (d *tunnelDialer) lastAuthority() *authority { return d.authority.Load() }

// lastVia is the gateway of the last stream, "" before the first.
func (d *tunnelDialer) lastVia() string {
	if name := d.via.Load(); name != nil {
		return *name
	}
	return ""
}
