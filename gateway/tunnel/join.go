package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// Bounds of connections of strangers who come to join. An operator joins one
// cluster at a time: what is above these is an attack, and costs nobody else.
const (
	maxJoins       = 4
	joinsPerSecond = 5
	joinBurst      = 10
	// joinTime is the longest that a stranger's connection lives: two handshakes
	// and two messages.
	joinTime = 10 * time.Second
	// joinBytes bounds what travels each way: bundles are below 128 KiB.
	joinBytes = 512 << 10
	// joinStagger is how long one address has before the next is tried beside it:
	// a handshake across the world, and a lost packet.
	joinStagger = 500 * time.Millisecond
	// joinLinger is how long the last bytes have to arrive.
	joinLinger = 2 * time.Second
)

// JoinHandler serves strangers who come to join: clusters that are invited and
// whose certificates nobody here can verify yet.
type JoinHandler interface {
	// JoinOpen says whether they are listened to at all; it is asked in each
	// handshake, and must not block.
	JoinOpen() bool
	// ServeJoin carries the one stream of a stranger to where it is judged.
	ServeJoin(ctx context.Context, s *JoinStream)
}

// joins bounds strangers.
type joins struct {
	open atomic.Int64
	pace *rate.Limiter
}

func newJoins() *joins { return &joins{pace: rate.NewLimiter(joinsPerSecond, joinBurst)} }

// enter gives a stranger a place; leave must follow true.
func (j *joins) enter() bool {
	if !j.pace.Allow() {
		return false
	}
	if j.open.Add(1) > maxJoins {
		j.open.Add(-1)
		return false
	}
	return true
}

func (j *joins) leave() { j.open.Add(-1) }

// listenerTLS is what the listener asks of who dials.
func (n *Node) listenerTLS() *tls.Config {
	config := n.o.Identity.ServerTLS([]string{alpnRaw, alpnHTTP, alpnCallback}, n.authorize)
	if n.o.Join == nil {
		return config
	}
	return n.o.Identity.WithJoin(config, n.o.Join.JoinOpen)
}

func isJoin(qc *quic.Conn) bool {
	return qc.ConnectionState().TLS.NegotiatedProtocol == identity.JoinALPN
}

// serveJoin gives a stranger one stream, for a while.
func (n *Node) serveJoin(ctx context.Context, qc *quic.Conn) {
	status := wire.OK
	defer func() { _ = qc.CloseWithError(quic.ApplicationErrorCode(status), status.String()) }()
	if !n.joins.enter() {
		status = wire.Overloaded
		n.metrics.accepted.WithLabelValues("join_" + status.String()).Inc()
		return
	}
	defer n.joins.leave()
	n.metrics.accepted.WithLabelValues("join").Inc()
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	qs, err := qc.AcceptStream(ctx)
	if err != nil {
		status = wire.DeadlineExceeded
		return
	}
	ctx, end := context.WithCancel(ctx)
	n.spawn(func() {
		if _, err := qc.AcceptStream(ctx); err == nil {
			// Nobody who means well opens a second one.
			_ = qc.CloseWithError(quic.ApplicationErrorCode(wire.Protocol), wire.Protocol.String())
		}
		end()
	})
	defer end()
	n.o.Join.ServeJoin(ctx, newJoinStream(qc, qs))
	// The one who dialed closes when it has what it came for.
	linger := time.NewTimer(joinLinger)
	defer linger.Stop()
	select {
	case <-linger.C:
	case <-ctx.Done():
	case <-qc.Context().Done():
	}
}

// DialJoin dials the addresses (host:port) of a cluster that has invited this one
// until a gateway of it answers: one whose ID is below cluster's and whose chain
// hangs from one of the anchors. The own identity is not shown. An address that is
// silent holds the next one back for joinStagger only; the first that answers is
// taken.
func (n *Node) DialJoin(ctx context.Context, addresses []string, cluster spiffeid.ID, anchors []identity.Anchor) (*JoinStream, error) {
	if n.draining.Load() {
		return nil, &LinkError{Status: wire.Draining}
	}
	if len(addresses) == 0 {
		return nil, errNoAddress
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		s   *JoinStream
		err error
	}
	results := make(chan result)
	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	var won *JoinStream
	for started, ended := 0, 0; ended < started || started < len(addresses) && won == nil && ctx.Err() == nil; {
		select {
		case <-next.C:
			if started == len(addresses) || won != nil {
				continue
			}
			address := addresses[started]
			started++
			go func() { // waited for: the loop goes on until all have ended
				s, err := n.dialJoin(ctx, address, cluster, anchors)
				if err != nil {
					err = fmt.Errorf("%s: %s: %w", address, reasonOf(err), err)
				}
				results <- result{s, err}
			}()
			next.Reset(joinStagger)
		case r := <-results:
			ended++
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
				next.Reset(0)
			case won == nil:
				won = r.s
				cancel() // the others
			default:
				_ = r.s.Close()
			}
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, errors.Join(append(errs, ctx.Err())...)
}

var errNoAddress = errors.New("no address to dial")

func (n *Node) dialJoin(ctx context.Context, address string, cluster spiffeid.ID, anchors []identity.Anchor) (*JoinStream, error) {
	dial, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	addr, err := n.o.Resolve(dial, address)
	if err != nil {
		return nil, err
	}
	config := n.o.Identity.JoinClientTLS(anchors, func(id spiffeid.ID) error {
		if name, ok := strings.CutPrefix(id.String(), cluster.String()+gatewaySegment); !ok || !label(name) {
			return fmt.Errorf("%s is no gateway of %s", id, cluster)
		}
		return nil
	}, false)
	qc, err := n.transport.Dial(dial, addr, config, n.config)
	if err != nil {
		return nil, err
	}
	qs, err := qc.OpenStreamSync(dial)
	if err != nil {
		_ = qc.CloseWithError(quic.ApplicationErrorCode(wire.Canceled), "")
		return nil, err
	}
	s := newJoinStream(qc, qs)
	s.dialed = true
	return s, nil
}

// JoinStream is the one stream of a connection by which clusters join. It carries
// at most 512 KiB each way.
type JoinStream struct {
	qc     *quic.Conn
	qs     *quic.Stream
	dialed bool
	// in and out are what may still travel; each of one goroutine.
	in, out int
}

func newJoinStream(qc *quic.Conn, qs *quic.Stream) *JoinStream {
	return &JoinStream{qc: qc, qs: qs, in: joinBytes, out: joinBytes}
}

var errJoinTooLong = fmt.Errorf("more than %d bytes for joining", joinBytes)

// Read reads what the other end sent.
func (s *JoinStream) Read(p []byte) (int, error) {
	if s.in <= 0 {
		return 0, errJoinTooLong
	}
	n, err := s.qs.Read(p[:min(len(p), s.in)])
	s.in -= n
	return n, err
}

// Write sends.
func (s *JoinStream) Write(p []byte) (int, error) {
	if len(p) > s.out {
		return 0, errJoinTooLong
	}
	n, err := s.qs.Write(p)
	s.out -= n
	return n, err
}

// CloseWrite half-closes.
func (s *JoinStream) CloseWrite() error { return s.qs.Close() }

// Reset aborts both directions.
func (s *JoinStream) Reset(status wire.Status) {
	s.qs.CancelWrite(quic.StreamErrorCode(status))
	s.qs.CancelRead(quic.StreamErrorCode(status))
	s.hangUp(status)
}

// Close ends the stream and, where it was dialed, its connection: everything that
// was wanted has been read by then.
func (s *JoinStream) Close() error {
	s.qs.CancelRead(quic.StreamErrorCode(wire.OK))
	s.hangUp(wire.OK)
	return nil
}

func (s *JoinStream) hangUp(status wire.Status) {
	if s.dialed {
		_ = s.qc.CloseWithError(quic.ApplicationErrorCode(status), status.String())
	}
}

// RemoteAddr is where the stranger, or the inviter, is.
func (s *JoinStream) RemoteAddr() net.Addr { return s.qc.RemoteAddr() }

var _ io.ReadWriteCloser = (*JoinStream)(nil)
