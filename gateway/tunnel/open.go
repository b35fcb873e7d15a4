package tunnel

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// openings hold a header and the first payload while they are queued.
var openings = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// keepOpening bounds what goes back to the pool.
const keepOpening = 64 << 10

// OpenStream opens a stream to cluster over its best link and sends h and first
// in one flight. It returns at once, without waiting for the far gateway; only
// when flow control has no credit for first does it wait, at most until ctx ends.
// ctx does not bind the stream after that. Errors are *LinkError with Delivered
// false, *RefusedError (wire.Overloaded: the peer grants no more streams),
// *wire.FieldError for a header that breaks a bound, and ctx's cause.
func (n *Node) OpenStream(ctx context.Context, cluster string, h *wire.Header, first []byte) (*Stream, error) {
	return n.openStream(ctx, cluster, h, first, func(*Stream) {})
}

// openStream is OpenStream; began is called with a stream before anything is sent on it,
// again with another one if nothing could be.
func (n *Node) openStream(ctx context.Context, cluster string, h *wire.Header, first []byte, began func(*Stream)) (*Stream, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	buf := openings.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= keepOpening {
			openings.Put(buf)
		}
	}()
	b, err := wire.AppendHeader((*buf)[:0], h)
	if err != nil {
		return nil, err
	}
	*buf = append(b, first...)

	var (
		tried [maxLinksPerGateway]*link // more would not help
		full  *link
	)
	ok := able(h, hasRaw)
	for i := range tried {
		l := n.pick(cluster, tried[:i], ok)
		if l == nil {
			break
		}
		tried[i] = l
		s, err := l.open(ctx, h.Flow, *buf, began)
		switch {
		case err == nil:
			return s, nil
		case errors.Is(err, errNoCredit):
			full = l
		case errors.Is(err, errGone):
		default:
			return nil, err
		}
	}
	if full != nil {
		n.refusedBy(full, outboundDirection, wire.Overloaded)
		return nil, &RefusedError{Cluster: cluster, Gateway: full.remote.Gateway, Status: wire.Overloaded, Message: "no more streams on any connection"}
	}
	return nil, n.unable(cluster, h, hasRaw)
}

var (
	errNoLink   = errors.New("no link is up")
	errNoCredit = errors.New("no credit for another stream")
	errGone     = errors.New("connections have ended")
)

func hasRaw(l *link) bool { return len(*l.raw.Load()) > 0 || l.pool.ready() }

// open opens a stream on one of the link's connections and queues opening.
func (l *link) open(ctx context.Context, flow bool, opening []byte, began func(*Stream)) (*Stream, error) {
	if l.pool != nil {
		return l.openTurn(ctx, opening, began)
	}
	connections, meter := *l.raw.Load(), &l.meters.streamOut
	if flow {
		connections, meter = l.flowCarriers(), &l.meters.flowOut
	}
	result := errGone
	var tried [maxConnections]*connection
	for i := range min(len(connections), len(tried)) {
		c := leastBusy(connections, l.node.turn.Load(), tried[:i])
		if c == nil {
			break
		}
		tried[i] = c
		qs, err := c.quic.OpenStream()
		if err != nil {
			if _, ok := errors.AsType[*quic.StreamLimitReachedError](err); ok {
				result = errNoCredit
			}
			continue
		}
		s := &Stream{half: half{qs: qs, conn: c}, link: l, meter: meter}
		began(s)
		err = qs.TryWriteAll(opening)
		if errors.Is(err, quic.ErrWouldBlock) {
			if err = writeUntil(ctx, qs, opening); err != nil {
				cancelled(qs)
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				return nil, c.linkError(err, true)
			}
		}
		if err != nil {
			cancelled(qs)
			continue // nothing was queued
		}
		l.opened(s)
		return s, nil
	}
	return nil, result
}

// opened counts a stream that was opened.
func (l *link) opened(s *Stream) {
	s.conn.streams.Add(1)
	l.streams.Add(1)
	l.node.outbound.Add(1)
	s.meter.began()
}

// writeUntil writes b, at most until ctx ends.
func writeUntil(ctx context.Context, qs duplex, b []byte) error {
	stop := context.AfterFunc(ctx, func() { _ = qs.SetWriteDeadline(time.Unix(1, 0)) })
	_, err := qs.Write(b)
	if stop() || err != nil {
		return err
	}
	return ctx.Err()
}
