package tunnel

import (
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Inbound is the far end of a stream that a peer opened. One goroutine may read
// while another writes. Payload may be read before Accept.
type Inbound struct {
	// Header is what the peer said; Remote is who the peer is.
	Header wire.Header
	Remote Remote
}

// Accept sends the ok, together with the first payload if that comes soon
// (Write flushes it; so does Accept itself without payload).
func (in *Inbound) Accept() error { return errNotBuilt }

// Refuse answers with a typed refusal and ends the stream.
func (in *Inbound) Refuse(status wire.Status, message string) error {
	return errNotBuilt
}

// RefuseWith is Refuse with a whole reply.
func (in *Inbound) RefuseWith(r wire.Reply) error { return errNotBuilt }

// Read reads payload, see [Stream.Read].
func (in *Inbound) Read(p []byte) (int, error) { return 0, errNotBuilt }

// Write writes payload; it accepts the stream if that was not done yet.
func (in *Inbound) Write(p []byte) (int, error) { return 0, errNotBuilt }

// CloseWrite half-closes, see [Stream.CloseWrite]; it accepts the stream if that
// was not done yet.
func (in *Inbound) CloseWrite() error { return nil }

// Reset aborts both directions, see [Stream.Reset].
func (in *Inbound) Reset(status wire.Status) {}

// Close ends the stream, see [Stream.Close].
func (in *Inbound) Close() error { return nil }

// SetReadDeadline is as in net.Conn.
func (in *Inbound) SetReadDeadline(t time.Time) error { return nil }

// SetWriteDeadline is as in net.Conn.
func (in *Inbound) SetWriteDeadline(t time.Time) error { return nil }
