package tunnel

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/lane"
)

// What links are made of is QUIC, or TLS over TCP where UDP does not come through.
// Both are used by the same methods, and speak of their errors in quic-go's types.

// Lane says what a link runs on. The vocabulary is closed.
type Lane string

// The lanes.
const (
	LaneQUIC Lane = "quic"
	LaneTLS  Lane = "tls"
)

// lanes lists the closed set.
var lanes = [...]Lane{LaneQUIC, LaneTLS} //nolint:gochecknoglobals // a constant

// channel is an authenticated connection: *quic.Conn or *lane.Conn.
type channel interface {
	Context() context.Context
	ConnectionState() quic.ConnectionState
	ConnectionStats() quic.ConnectionStats
	CloseWithError(code quic.ApplicationErrorCode, message string) error
	RemoteAddr() net.Addr
	SendDatagram(b []byte) error
}

// duplex is a stream of one: *quic.Stream or *lane.Stream.
type duplex interface {
	io.ReadWriteCloser
	StreamID() quic.StreamID
	TryWriteAll(b []byte) error
	CancelRead(code quic.StreamErrorCode)
	CancelWrite(code quic.StreamErrorCode)
	SetReliableBoundary()
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	SetDeadline(t time.Time) error
}

// requester sends requests on one connection.
type requester interface {
	RoundTrip(req *http.Request) (*http.Response, error)
}

var (
	_ channel = (*quic.Conn)(nil)
	_ channel = (*lane.Conn)(nil)
	_ duplex  = (*quic.Stream)(nil)
	_ duplex  = (*lane.Stream)(nil)
)
