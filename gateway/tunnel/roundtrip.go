package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// RoundTrip sends req to cluster over HTTP/3 on its best link. h travels beside
// it; header fields of the tunnel in req are replaced and those in the response
// removed. req is not changed, and need not have a scheme. As with any
// http.RoundTripper the body of the response must be closed; trailers are there
// after its EOF. The body of the request is sent while the response may already
// be read.
//
// While the only link is one that the peer has just dialed, a request waits for the
// first connection that carries requests to it, for a second at most.
//
// A refusal comes back as *RefusedError before any byte of the body; a link that
// dies as *LinkError, also from the body; a reset stream as *ResetError; ctx's
// error as it is.
func (n *Node) RoundTrip(cluster string, h *wire.Header, req *http.Request) (*http.Response, error) {
	var tried [maxLinksPerGateway]*link
	ok := able(h, hasHTTP)
	for i := range tried {
		l := n.pick(cluster, tried[:i], ok)
		if l == nil && i == 0 {
			l = n.awaitHTTP(req.Context(), cluster, ok)
		}
		if l == nil {
			break
		}
		tried[i] = l
		connections := *l.http.Load()
		c := leastBusy(connections, n.turn.Load(), nil)
		if c == nil {
			continue
		}
		if c.streams.Load() >= int64(n.o.MaxStreamsPerLink) {
			// The peer has the same default; beyond its limit requests would wait
			// for credit instead of going elsewhere.
			n.refusedBy(l, outboundDirection, wire.Overloaded)
			closeBody(req)
			return nil, &RefusedError{Cluster: cluster, Gateway: l.remote.Gateway, Status: wire.Overloaded, Message: "too many requests in progress"}
		}
		resp, sent, err := c.roundTrip(l, h, req)
		if e, ok := errors.AsType[*LinkError](err); ok && !e.Delivered && !sent {
			continue // nothing of req was used
		}
		return resp, err
	}
	closeBody(req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return nil, n.unable(cluster, h, hasHTTP)
}

func hasHTTP(l *link) bool { return len(*l.http.Load()) > 0 }

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// roundTrip sends req on c. sent says that req was touched: its body may have
// been read.
func (c *connection) roundTrip(l *link, h *wire.Header, req *http.Request) (resp *http.Response, sent bool, err error) {
	var touched atomic.Bool
	out, err := outgoing(h, req, &touched)
	if err != nil {
		return nil, true, err
	}
	if out.Body != nil {
		out.Body = &sendingBody{ReadCloser: out.Body, conn: c}
	}
	x := &exchange{conn: c, link: l}
	x.begin()
	resp, err = c.client.RoundTrip(out)
	if err != nil {
		x.end()
		return nil, touched.Load(), c.requestError(req.Context(), l, err, touched.Load())
	}
	reply, refused, err := wire.ReplyFromHTTP(resp.Header)
	wire.StripHTTP(resp.Header)
	if err != nil || refused {
		_ = resp.Body.Close()
		x.end()
		if err != nil {
			return nil, true, err
		}
		c.node.refusedBy(l, outboundDirection, reply.Status)
		return nil, true, &RefusedError{
			Cluster: c.remote.Cluster, Gateway: c.remote.Gateway,
			Status: reply.Status, Message: reply.Message, RetryAfter: reply.RetryAfter,
		}
	}
	resp.Request = req
	x.body, x.ctx = resp.Body, req.Context()
	resp.Body = x
	return resp, true, nil
}

// RemoteOf says which gateway gave an answer of RoundTrip.
func RemoteOf(resp *http.Response) (Remote, bool) {
	x, ok := resp.Body.(*exchange)
	if !ok {
		return Remote{}, false
	}
	return x.conn.remote, true
}

// outgoing makes the request that goes on the wire. touched is set before its
// first byte does.
func outgoing(h *wire.Header, req *http.Request, touched *atomic.Bool) (*http.Request, error) {
	out := req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		WroteHeaderField: func(string, []string) { touched.Store(true) },
	}))
	out.Header = req.Header.Clone()
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	if err := h.SetHTTP(out.Header); err != nil {
		return nil, err
	}
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or http3 would add its own
	}
	if out.URL == nil {
		out.URL = &url.URL{Path: "/"}
	} else {
		u := *out.URL
		out.URL = &u
	}
	// The scheme says how the hop is carried, not what the caller spoke.
	out.URL.Scheme = "https"
	if out.Body == http.NoBody {
		out.Body = nil // saves a goroutine
	}
	return out, nil
}

// requestError translates an error of http3 for users of this package.
func (c *connection) requestError(ctx context.Context, l *link, err error, delivered bool) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !delivered {
		// The connection went away, or GOAWAY came, before anything was sent.
		return c.linkError(err, false)
	}
	if c.tcp != nil {
		return c.laneError(l, err)
	}
	if e, ok := errors.AsType[*quic.StreamError](err); ok {
		if e.Remote && http3.ErrCode(e.ErrorCode) == http3.ErrCodeRequestRejected {
			// RFC 9114, 4.1.1: not processed at all. It crossed GOAWAY.
			c.node.refusedBy(l, outboundDirection, wire.Draining)
			return &RefusedError{Cluster: c.remote.Cluster, Gateway: c.remote.Gateway, Status: wire.Draining}
		}
		return c.streamError(err)
	}
	// quic-go's errors of a connection all say so; its context may lag behind.
	if errors.Is(err, net.ErrClosed) {
		return c.linkError(err, true)
	}
	// The peer's HTTP is malformed, or ours would have been.
	return &ResetError{Status: wire.Protocol, Remote: true}
}

// exchange is one request in progress; as the response's body it ends the count
// when the body does.
type exchange struct {
	conn *connection
	link *link
	body io.ReadCloser
	ctx  context.Context
	done atomic.Bool
}

func (x *exchange) begin() {
	x.conn.streams.Add(1)
	x.link.streams.Add(1)
	x.conn.node.outbound.Add(1)
	x.link.meters.httpOut.began()
}

func (x *exchange) end() {
	if x.done.Swap(true) {
		return
	}
	x.link.meters.httpOut.ended()
	x.conn.streams.Add(-1)
	x.link.streams.Add(-1)
	x.conn.node.streamEnded(&x.conn.node.outbound)
}

// Read implements io.Reader.
func (x *exchange) Read(p []byte) (int, error) {
	n, err := x.body.Read(p)
	if err != nil {
		if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = x.conn.requestError(x.ctx, x.link, err, true)
		}
		x.end()
	}
	return n, err
}

// Close implements io.Closer.
func (x *exchange) Close() error {
	x.end()
	return x.body.Close()
}
