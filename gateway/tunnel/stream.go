package tunnel

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Stream is the near end of a stream. One goroutine may read while another
// writes. Every stream must be ended, by Close or by Reset; until then it counts
// against the limits of both gateways.
type Stream struct {
	half
	link  *link
	meter *streamMeter
	done  atomic.Bool

	// Of the reading side.
	answered bool
	reply    wire.Reply
	failed   error // why there is no answer; final
}

// Remote is the gateway at the other end.
func (s *Stream) Remote() Remote { return s.link.remote }

// Lane is what carries the stream. It is fixed.
func (s *Stream) Lane() Lane { return s.conn.lane() }

// Status waits for the far gateway's answer. A refusal is not an error here: look
// at Reply.Status. It is part of the reading side: not to be called concurrently
// with Read, and a read deadline that was set before ends with it. Errors are
// *LinkError, *ResetError, *wire.ParseError and ctx's cause.
func (s *Stream) Status(ctx context.Context) (wire.Reply, error) {
	if s.answered || s.failed != nil {
		return s.reply, s.failed
	}
	if ctx.Done() != nil {
		fired := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			_ = s.qs.SetReadDeadline(time.Unix(1, 0))
			close(fired)
		})
		defer func() {
			if !stop() {
				<-fired
			}
			_ = s.qs.SetReadDeadline(time.Time{})
		}()
	}
	err := s.await()
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return s.reply, err
}

// await reads the answer.
func (s *Stream) await() error {
	if s.answered || s.failed != nil {
		return s.failed
	}
	r := countingReader{r: s.qs}
	reply, err := wire.ReadReply(&r)
	switch {
	case err == nil:
		s.reply, s.answered = reply, true
		if reply.Status != wire.OK {
			s.link.node.refusedBy(s.link, outboundDirection, reply.Status)
		}
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded) && r.n == 0:
		return err // nothing is lost: ask again
	case errors.Is(err, os.ErrDeadlineExceeded):
		// In the middle of an answer, which is one packet: it will not come.
		s.failed = &wire.ParseError{Part: "reply", Rule: "stopped in the middle"}
	case isEOF(err):
		s.failed = &wire.ParseError{Part: "reply", Rule: "is missing"}
	default:
		if _, ok := errors.AsType[*wire.ParseError](err); ok {
			s.failed = err
		} else {
			s.failed = s.conn.streamError(err)
		}
	}
	return s.failed
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// Read reads payload. Before the first byte it waits for the far gateway's
// answer; a refusal is a *RefusedError. Half-close is io.EOF, a reset is
// *ResetError, the end of the link is *LinkError.
func (s *Stream) Read(p []byte) (int, error) {
	if !s.answered {
		if err := s.await(); err != nil {
			return 0, err
		}
	}
	if s.reply.Status != wire.OK {
		return 0, s.refusal()
	}
	return s.read(p)
}

func (s *Stream) refusal() error {
	r := s.link.remote
	return &RefusedError{Cluster: r.Cluster, Gateway: r.Gateway, Status: s.reply.Status, Message: s.reply.Message, RetryAfter: s.reply.RetryAfter}
}

// Write writes payload and blocks while flow control has no credit. After the far
// end stopped reading it returns *ResetError, after the end of the link
// *LinkError.
func (s *Stream) Write(p []byte) (int, error) { return s.write(p) }

// CloseWrite half-closes: the other end reads EOF after everything written. It
// waits for a Write that is blocked.
func (s *Stream) CloseWrite() error { return s.closeWrite() }

// CloseRead tells the other end to stop sending, whose Write then fails with
// *ResetError; what arrives is thrown away. The writing side goes on.
func (s *Stream) CloseRead(status wire.Status) { s.closeRead(status) }

// Reset aborts both directions. What was written before stays deliverable to
// the other end, which then sees *ResetError with the status. A direction that
// CloseWrite finished stays finished. It unblocks Read and Write.
func (s *Stream) Reset(status wire.Status) {
	s.reset(status)
	s.leave()
}

// Close ends the stream: what was written is still delivered, what the other end
// sends is refused. It unblocks a pending Read; a pending Write is cut off, and
// the other end then sees a reset and not EOF. It is safe to call twice.
func (s *Stream) Close() error {
	s.end()
	s.leave()
	return nil
}

// leave gives the stream's place back, once.
func (s *Stream) leave() {
	if s.done.Swap(true) {
		return
	}
	s.meter.ended()
	s.conn.streams.Add(-1)
	s.link.streams.Add(-1)
	s.link.node.streamEnded(&s.link.node.outbound)
}

// SetReadDeadline is as in net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.setReadDeadline(t) }

// SetWriteDeadline is as in net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.setWriteDeadline(t) }

// streamEnded counts one less; Drain waits for none.
func (n *Node) streamEnded(count interface{ Add(int64) int64 }) {
	if count.Add(-1) == 0 && n.draining.Load() {
		notify(n.idle)
	}
}

// refusedBy counts a refusal, and learns from one.
func (n *Node) refusedBy(l *link, direction string, status wire.Status) {
	if n.knows(l.remote.Cluster) {
		n.metrics.refused.WithLabelValues(l.remote.Cluster, direction, status.String()).Inc()
	}
	if direction == outboundDirection && status == wire.Draining {
		l.peerDrain() // the news crossed with our stream
	}
}

var _ io.ReadWriteCloser = (*Stream)(nil)

// cancelled ends a stream that could not be opened properly.
func cancelled(qs duplex) {
	qs.CancelWrite(quic.StreamErrorCode(wire.Canceled))
	qs.CancelRead(quic.StreamErrorCode(wire.Canceled))
}
