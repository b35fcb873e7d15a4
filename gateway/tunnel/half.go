package tunnel

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// half is one end of a stream: what Stream and Inbound share. It keeps
// quic-go's rules: a stream is freed only when its sending side was closed or
// cancelled and its receiving side was read to the end or cancelled, and Close
// must not run while Write does.
type half struct {
	qs   duplex
	conn *connection

	// writing is held by Write and by what must not run beside it.
	writing  sync.Mutex
	finished atomic.Bool // FIN or a reset was sent
	over     atomic.Bool // Close or Reset was called
}

func (h *half) read(p []byte) (int, error) {
	n, err := h.qs.Read(p)
	return n, h.conn.streamError(err)
}

func (h *half) write(p []byte) (int, error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	done := h.conn.sending(len(p))
	n, err := h.qs.Write(p)
	done.end()
	return n, h.conn.streamError(err)
}

func (h *half) closeWrite() error {
	h.writing.Lock()
	defer h.writing.Unlock()
	if h.finished.Swap(true) {
		return nil
	}
	// It fails only for a stream that was reset, which the next Read says better.
	_ = h.qs.Close()
	return nil
}

// closeRead tells the other end to stop sending.
func (h *half) closeRead(status wire.Status) { h.qs.CancelRead(quic.StreamErrorCode(status)) }

// reset aborts what is not finished. What was written before stays deliverable,
// as it is behind a TCP connection that is reset after its last byte was sent.
func (h *half) reset(status wire.Status) {
	if !h.finished.Swap(true) {
		h.qs.SetReliableBoundary()
		h.qs.CancelWrite(quic.StreamErrorCode(status))
	}
	h.closeRead(status)
	h.over.Store(true)
}

// end closes both directions. A Write that is blocked is cut off by a reset: a
// FIN would pass what got through as the whole.
func (h *half) end() {
	if !h.writing.TryLock() {
		h.reset(wire.Canceled)
		return
	}
	if !h.finished.Swap(true) {
		_ = h.qs.Close()
	}
	h.writing.Unlock()
	h.closeRead(wire.Canceled) // nothing to do after EOF
	h.over.Store(true)
}

func (h *half) setReadDeadline(t time.Time) error  { return h.qs.SetReadDeadline(t) }
func (h *half) setWriteDeadline(t time.Time) error { return h.qs.SetWriteDeadline(t) }
