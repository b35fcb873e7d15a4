package health

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// TestALateCheckerBlamesItself: a process that was stopped wakes up to timeouts
// that are its own. A stopped process cannot be had inside a test, so the beat
// that it would have missed is put into the past.
func TestALateCheckerBlamesItself(t *testing.T) {
	c, err := New(Options{
		Random: func() uint64 { return 0 },
		Dial:   func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrDeadlineExceeded },
	})
	if err != nil {
		t.Fatal(err)
	}
	k := route.EndpointKey{Service: catalog.MustServiceName("web"), Port: "http", ID: "a"}
	c.SetTargets([]Target{{Key: k, Address: netip.MustParseAddrPort("127.0.0.1:1"), Check: policy.HealthCheck{Fall: 1}}})
	round := func(lastBeat time.Duration) (State, bool) {
		c.stall.last.Store(time.Now().Add(-lastBeat).UnixNano())
		e, wait := c.next()
		for e == nil {
			c.mu.Lock()
			c.queue[0].due = time.Now()
			c.mu.Unlock()
			_ = wait
			e, wait = c.next()
		}
		c.check(t.Context(), e)
		s, known := c.States()[k]
		return s, known
	}
	for i := range maxDiscarded {
		if s, known := round(time.Second); known {
			t.Fatalf("round %d of a stopped process: %+v", i, s)
		}
	}
	if s, known := round(time.Second); !known || s.Healthy {
		t.Fatalf("a process that is always late must believe its checks in the end: %+v, %v", s, known)
	}
}

func TestATimeoutOfARunningProcessCounts(t *testing.T) {
	var s stallWatch
	now := time.Now()
	s.last.Store(now.Add(-beat).UnixNano())
	if s.since(now.Add(-time.Second), now) {
		t.Error("a process that beats is called stalled")
	}
	s.stall.Store(now.Add(-time.Second / 2).UnixNano())
	if !s.since(now.Add(-time.Second), now) {
		t.Error("a stall within the check was overlooked")
	}
	if s.since(now.Add(-time.Second/4), now) {
		t.Error("a stall before the check counts")
	}
}

func FuzzHealthStatus(f *testing.F) {
	f.Add(frame([]byte{8, 1}))
	f.Add(frame(healthRequest("shop.Billing")))
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1, 9})
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, answer []byte) {
		status, err := healthStatus(answer)
		if err != nil && status != 0 {
			t.Fatalf("%d with %v", status, err)
		}
	})
}
