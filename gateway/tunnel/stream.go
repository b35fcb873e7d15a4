package tunnel

import (
	"context"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Stream is the near end of a stream. One goroutine may read while another
// writes. Every stream must be ended: Close, or Reset.
type Stream struct{}

// Remote is the gateway at the other end.
func (s *Stream) Remote() Remote { return Remote{} }

// Status waits for the far gateway's answer. A refusal is not an error here:
// look at Reply.Status. It is part of the reading side: not to be called
// concurrently with Read. Errors are *LinkError, *ResetError and ctx's.
func (s *Stream) Status(ctx context.Context) (wire.Reply, error) { return wire.Reply{}, errNotBuilt }

// Read reads payload. Before the first byte it waits for the far gateway's
// answer; a refusal is a *RefusedError. Half-close is io.EOF, a reset is
// *ResetError, the end of the link is *LinkError.
func (s *Stream) Read(p []byte) (int, error) { return 0, errNotBuilt }

// Write writes payload and blocks while flow control has no credit.
func (s *Stream) Write(p []byte) (int, error) { return 0, errNotBuilt }

// CloseWrite half-closes: the other end reads EOF after everything written. It
// must not be called concurrently with Write.
func (s *Stream) CloseWrite() error { return nil }

// Reset aborts both directions. What was written before stays deliverable to
// the other end, which then sees *ResetError with the status.
func (s *Stream) Reset(status wire.Status) {}

// Close ends the stream: what was written is still delivered, what the other end
// sends is refused. It unblocks a pending Read and is safe to call twice.
func (s *Stream) Close() error { return nil }

// SetReadDeadline is as in net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error { return nil }

// SetWriteDeadline is as in net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error { return nil }
