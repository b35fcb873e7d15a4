package tunnel

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"
)

// gate decides which strangers may start a handshake.
type gate struct {
	limit    int64 // accepted connections
	accepted atomic.Int64
	lane     atomic.Int64 // accepted connections of TLS
	open     atomic.Int64 // handshakes in progress
	unproven *rate.Limiter
	own      func() *x509.Certificate // our certificate of now
}

func newGate(limit int, own func() *x509.Certificate) *gate {
	return &gate{limit: int64(limit), own: own, unproven: rate.NewLimiter(retryRate, retryRate)}
}

var errBusy = errors.New("too many connections or handshakes")

// demandProof is quic.Transport.VerifySourceAddress: it wants a Retry round trip
// from everybody while more come than usual, so that forged addresses cost us
// nothing but a small packet.
func (g *gate) demandProof(net.Addr) bool { return !g.unproven.Allow() }

// admit is quic.Transport.ConnContext: an error refuses the connection.
func (g *gate) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if g.accepted.Load() >= g.limit {
		return nil, errBusy
	}
	if g.open.Add(1) > maxHandshakes {
		g.open.Add(-1)
		return nil, errBusy
	}
	h := &handshake{gate: g, own: g.own()}
	// The context ends with the connection, also with one whose handshake fails.
	context.AfterFunc(ctx, h.finish)
	return context.WithValue(ctx, handshakeKey, h), nil
}

// complete is told that qc came out of the handshake and counts it until it
// ends; false means that there are too many now. Handshakes in progress do not
// count: strangers could keep peers out with them.
func (g *gate) complete(qc *quic.Conn) bool {
	if h, ok := qc.Context().Value(handshakeKey).(*handshake); ok {
		h.finish()
	}
	within := g.accepted.Add(1) <= g.limit
	context.AfterFunc(qc.Context(), func() { g.accepted.Add(-1) })
	return within
}

// admitLane gives a TCP connection its place; leaveLane must follow true.
func (g *gate) admitLane() bool {
	if g.lane.Add(1) > maxLaneInbound {
		g.lane.Add(-1)
		return false
	}
	return true
}

func (g *gate) leaveLane() { g.lane.Add(-1) }

// greet gives a handshake on TCP its place; greeted must follow true.
func (g *gate) greet() bool {
	if g.open.Add(1) > maxHandshakes {
		g.open.Add(-1)
		return false
	}
	return true
}

func (g *gate) greeted() { g.open.Add(-1) }

func (g *gate) handshaking() int64 { return g.open.Load() }

// handshake is one in progress; it is counted down once, by whoever comes first.
type handshake struct {
	gate *gate
	own  *x509.Certificate // when it began
	done atomic.Bool
}

func (h *handshake) finish() {
	if !h.done.Swap(true) {
		h.gate.open.Add(-1)
	}
}

// ownAtStart is our certificate when the handshake of an inbound connection began.
func ownAtStart(qc *quic.Conn) *x509.Certificate {
	if h, ok := qc.Context().Value(handshakeKey).(*handshake); ok {
		return h.own
	}
	return nil
}
