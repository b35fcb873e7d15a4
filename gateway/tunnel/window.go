package tunnel

import (
	"sync/atomic"

	"github.com/quic-go/quic-go"
)

// windows are the receive windows of connections under one budget for all.
type windows struct {
	budget int64
	used   atomic.Int64
	// initial and largest are those of a connection; its streams' are a
	// sixteenth.
	initial, largest int64
}

func newWindows(budget int64) *windows {
	initial := max(minInitialWindow, min(budget/initialShare, maxInitialWindow))
	return &windows{
		budget:  budget,
		initial: initial,
		largest: max(initial, min(budget/4, windowsPerConnection*maxStreamWindow)),
	}
}

// inbound is how many accepted connections fit.
func (w *windows) inbound() int { return int(min(maxInbound, w.budget/w.initial)) }

// configure sets the windows of a connection's configuration.
func (w *windows) configure(c *quic.Config) {
	c.InitialConnectionReceiveWindow = uint64(w.initial)
	c.MaxConnectionReceiveWindow = uint64(w.largest)
	c.InitialStreamReceiveWindow = uint64(w.initial / windowsPerConnection)
	c.MaxStreamReceiveWindow = uint64(w.largest / windowsPerConnection)
}

// take takes n bytes for a connection to grow, or nothing.
func (w *windows) take(n int64) bool {
	for {
		used := w.used.Load()
		if used+n > w.budget {
			return false
		}
		if w.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// base takes a new connection's initial window, over the budget if need be: the
// number of connections is bounded elsewhere.
func (w *windows) base() { w.used.Add(w.initial) }

// give returns bytes.
func (w *windows) give(n int64) { w.used.Add(-n) }
