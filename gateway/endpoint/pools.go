package endpoint

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
)

const (
	// ConnectTimeout is short: endpoints are near, and another one is too.
	ConnectTimeout = time.Second
	// idleTimeout is how long an unused connection is kept.
	idleTimeout = 30 * time.Second
	// idlePerEndpoint bounds the unused HTTP/1.1 connections to one endpoint:
	// enough for the concurrency of a busy one, since net/http's 2 would dial
	// again for most requests.
	idlePerEndpoint = 64
	// idleTotal bounds them over all endpoints.
	idleTotal = 4096
	// maxResponseHeader bounds an answer's header, as requests' are.
	maxResponseHeader = 64 << 10
	// pingAfter and pingTimeout find out that an HTTP/2 endpoint is gone without
	// a word while requests wait on its connection.
	pingAfter   = 5 * time.Second
	pingTimeout = 2 * time.Second
)

// ErrNoMTLS means that the endpoint speaks mTLS and these Pools cannot.
var ErrNoMTLS = errors.New("the endpoint speaks mtls, and there is no identity to speak it with")

// ErrOwnListener means that the endpoint's address is one of this gateway's listeners.
var ErrOwnListener = errors.New("the endpoint is this gateway's own listener")

// Options configure Pools.
type Options struct {
	// Dial makes connections; nil is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Own are the gateway's listeners.
	Own []netip.AddrPort
	// Virtual are the addresses that the gateway gives to services; the zero value is none.
	Virtual netip.Prefix
	// Secure makes a connection to an endpoint that must prove to be server an mTLS
	// one, and closes it on errors; *workload.Dialer's. Nil: endpoints that speak mTLS
	// cannot be reached. They are never spoken to in plaintext.
	Secure func(ctx context.Context, c net.Conn, server string) (net.Conn, error)
}

// Pools are the connections to endpoints.
type Pools struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	secure  func(ctx context.Context, c net.Conn, server string) (net.Conn, error)
	own     []netip.AddrPort
	virtual netip.Prefix
	http1   *http.Transport
	http2   *http.Transport
}

// New returns empty pools.
func New(o Options) *Pools {
	p := &Pools{dial: o.Dial, secure: o.Secure, own: o.Own, virtual: o.Virtual}
	if p.dial == nil {
		p.dial = new(net.Dialer).DialContext
	}
	if p.secure == nil {
		p.secure = func(_ context.Context, c net.Conn, _ string) (net.Conn, error) {
			_ = c.Close() // nothing was sent
			return nil, ErrNoMTLS
		}
	}
	clearText := new(http.Protocols)
	clearText.SetUnencryptedHTTP2(true)
	transport := func() *http.Transport {
		return &http.Transport{
			DialContext:            p.dialHTTP,
			DisableCompression:     true, // bodies pass as they are
			MaxIdleConns:           idleTotal,
			MaxIdleConnsPerHost:    idlePerEndpoint,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxResponseHeader,
			ExpectContinueTimeout:  time.Second,
			WriteBufferSize:        16 << 10,
			ReadBufferSize:         16 << 10,
		}
	}
	p.http1, p.http2 = transport(), transport()
	p.http2.Protocols = clearText
	p.http2.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	return p
}

// Close closes the connections that are not in use. Those in use close when
// their requests are done.
func (p *Pools) Close() {
	p.http1.CloseIdleConnections()
	p.http2.CloseIdleConnections()
}

// Connect opens a raw connection to e. Errors are *retry.ConnectError.
func (p *Pools) Connect(ctx context.Context, e *catalog.Endpoint) (net.Conn, error) {
	c, err := p.connect(ctx, targetOf(e))
	if err != nil {
		return nil, &retry.ConnectError{Endpoint: e.ID, Err: err}
	}
	return c, nil
}

// ConnectUDP opens a socket that is connected to e, which speaks UDP: only its datagrams come
// in, and its host's word that nobody is there. Errors are *retry.ConnectError.
func (p *Pools) ConnectUDP(ctx context.Context, e *catalog.Endpoint) (net.Conn, error) {
	c, err := p.connectUDP(ctx, targetOf(e))
	if err != nil {
		return nil, &retry.ConnectError{Endpoint: e.ID, Err: err}
	}
	return c, nil
}

func (p *Pools) connectUDP(ctx context.Context, t target) (net.Conn, error) {
	switch {
	case p.isOwn(t.address):
		return nil, ErrOwnListener
	case t.transport != catalog.Plain:
		return nil, ErrNoMTLS // which there is over TCP only
	}
	return p.dial(ctx, "udp", t.address.String())
}

// RoundTrip sends req to e, which speaks protocol. The request's URL is replaced
// by e's address; its Host stays. The request must not be used again until the
// response's body is closed.
func (p *Pools) RoundTrip(e *catalog.Endpoint, protocol catalog.Protocol, req *http.Request) (*http.Response, error) {
	t := targetOf(e)
	// A shallow copy: its URL is ours.
	out := req.WithContext(context.WithValue(req.Context(), targetKey{}, t))
	u := *req.URL
	u.Scheme, u.Host = "http", t.host(time.Now())
	out.URL = &u
	transport := p.http1
	if protocol == catalog.GRPC || IsGRPC(req) {
		transport = p.http2
	} else {
		once(out)
	}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		if d, ok := errors.AsType[*dialError](err); ok {
			err = &retry.ConnectError{Endpoint: e.ID, Err: d.err}
		}
		return nil, err
	}
	return resp, nil
}

// IsGRPC reports whether a request is a gRPC call, which only HTTP/2 carries.
func IsGRPC(r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && r.ProtoMajor >= 2 && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// dialError marks an error as one of dialing on its way through net/http.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

func (p *Pools) dialHTTP(ctx context.Context, _, _ string) (net.Conn, error) {
	t, ok := ctx.Value(targetKey{}).(target)
	if !ok {
		return nil, &dialError{errors.New("no endpoint")}
	}
	if spare, ok := ctx.Value(spareKey{}).(*Spare); ok {
		if c := spare.take(t); c != nil {
			return c, nil
		}
	}
	c, err := p.connect(ctx, t)
	if err != nil {
		return nil, &dialError{err}
	}
	return c, nil
}

func (p *Pools) connect(ctx context.Context, t target) (net.Conn, error) {
	if p.isOwn(t.address) {
		return nil, ErrOwnListener
	}
	bounded, cancel := context.WithTimeout(ctx, ConnectTimeout)
	c, err := p.dial(bounded, "tcp", t.address.String())
	cancel()
	if err != nil || t.transport == catalog.Plain {
		return c, err
	}
	return p.secure(ctx, c, t.server)
}

// isOwn reports whether a is a listener of this gateway, or would lead to one. A listener on all
// addresses is met on loopback at least; on others its host would have to be in
// the catalog as its own workload.
func (p *Pools) isOwn(a netip.AddrPort) bool {
	addr := a.Addr().Unmap()
	if p.virtual.Contains(addr) {
		return true
	}
	for _, own := range p.own {
		if own.Port() != a.Port() {
			continue
		}
		if own.Addr().Unmap() == addr || (own.Addr().IsUnspecified() && addr.IsLoopback()) {
			return true
		}
	}
	return false
}
