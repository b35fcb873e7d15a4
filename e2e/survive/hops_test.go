package survive

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/retry"
)

// TestAFarGatewayRoutesNothingOn: a call has two hops at most, from the caller's
// gateway to that of the region that serves it. first says that it serves and does
// not; it knows second, which near cannot reach. It refuses, and never asks second:
// so calls cannot go round, and one retry layer decides, at the caller's end.
func TestAFarGatewayRoutesNothingOn(t *testing.T) {
	var arrived atomic.Int64
	configure := func(w *world) {
		w.sites[first].hearsay = true
		w.sites[second].serve(func(rw http.ResponseWriter, _ *http.Request) {
			arrived.Add(1)
			_, _ = io.WriteString(rw, string(second))
		})
	}
	inWorld(t, 1, configure, func(w *world) {
		p := w.path(near, second)
		p.Cut = true
		w.between(near, second, p)
		time.Sleep(3 * time.Second)
		l := w.load(50*time.Millisecond, 100*time.Millisecond)
		time.Sleep(5 * time.Second)
		l.stop()
		calls := l.take()
		for _, c := range calls {
			if c.err == nil || !c.tcp && !strings.Contains(c.err.Error(), "503") {
				w.failf("a call was answered by %q, %v", c.by, c.err)
			}
		}
		if n := arrived.Load(); n > 0 {
			w.failf("second was asked %d times", n)
		}
		// The same calls pass once near reaches second by itself.
		p.Cut = false
		w.between(near, second, p)
		time.Sleep(5*time.Second + retry.Window) // the calls before have used up the budget
		l = w.load(100*time.Millisecond, 0)
		time.Sleep(5 * time.Second)
		l.stop()
		for _, c := range l.take() {
			if c.by != second {
				w.failf("a call was answered by %q, %v", c.by, c.err)
			}
		}
		if retries := w.counter(first, "isthmus_gateway_retries_total"); retries != 0 {
			w.failf("the far gateway made %v retries of its own", retries)
		}
		w.t.Logf("figure: %d calls to a region that only knows who serves, none passed on by it", len(calls))
	})
}
