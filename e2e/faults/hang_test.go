package faults_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// TestHang: processes stop running and keep their sockets, as one does that
// swaps, is debugged or waits for a lock.
func TestHang(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{rate: 100, gateways: 2, instances: 2, checked: true})
	stop := func(ps ...*stand.Process) fault {
		all := func(sig syscall.Signal) func() {
			return func() {
				for _, p := range ps {
					p.Signal(sig)
				}
			}
		}
		return fault{strike: all(syscall.SIGSTOP), heal: all(syscall.SIGCONT), lasts: lostFor}
	}
	gateways, instances := w.first.Gateways, w.instances[first]

	t.Run("one of two far gateways", func(t *testing.T) {
		w.strike(t, stop(gateways[0].Process))
	})
	t.Run("both far gateways", func(t *testing.T) {
		wentOn(t, w.strike(t, stop(gateways[0].Process, gateways[1].Process)))
	})
	t.Run("one of two far endpoints", func(t *testing.T) {
		f := stop(instances[0].Process)
		f.lasts = 2 * lostFor
		w.strike(t, f)
	})
	t.Run("both far endpoints", func(t *testing.T) {
		f := stop(instances[0].Process, instances[1].Process)
		f.lasts = 2 * lostFor
		wentOn(t, w.strike(t, f))
	})
}

// TestUnseen: what no check and no probe says, or should say.
func TestUnseen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{rate: 100, gateways: 2, instances: 2})
	t.Run("starvation", w.starve)
	t.Run("endpoints hang that pass their check", w.hangUnseen)
}

// starve holds the callers' gateway up for 400 ms, again and again.
func (w *world) starve(t *testing.T) {
	g := w.home.Gateways[0]
	count := func(what string) (n int) {
		for _, c := range w.Clusters {
			for _, g := range c.Gateways {
				n += g.LogCount(what)
			}
		}
		return n
	}
	down, changed := count("link is down"), g.LogCount("cluster reach changed")
	began := time.Now()
	for range 10 {
		g.Signal(syscall.SIGSTOP)
		time.Sleep(400 * time.Millisecond)
		g.Signal(syscall.SIGCONT)
		time.Sleep(400 * time.Millisecond)
	}
	time.Sleep(time.Second)
	rs := w.load.Sofar().Between(began, time.Now().Add(-500*time.Millisecond))
	down, changed = count("link is down")-down, g.LogCount("cluster reach changed")-changed
	stand.Figure(t, "held up 10 times for 400 ms: %d calls, %d failed, answers %v, longest time without an answer %d ms, p99 %d ms; %d links were given up, %d clusters out of reach or back",
		len(rs), len(rs.Failed()), rs.Who(), rs.LongestGap().Milliseconds(), rs.Quantile(0.99).Milliseconds(), down, changed)
	if len(rs.Failed()) > 0 {
		t.Errorf("failed: %s", rs.Errors())
	}
	if n := rs.Who()[second]; n > 0 {
		t.Errorf("%d calls were answered by the next cluster", n)
	}
}

// hangUnseen stops every endpoint of first, whose connections the kernel still takes,
// so that the default check finds nothing. Callers that give up are the first sign.
func (w *world) hangUnseen(t *testing.T) {
	for _, i := range w.instances[first] {
		i.Signal(syscall.SIGSTOP)
		defer i.Signal(syscall.SIGCONT)
	}
	began := time.Now()
	const lasts = patience + 8*time.Second
	time.Sleep(lasts)
	stand.Eventually(t, within, "callers have their answers or have given up", func() error {
		if n := int(lasts.Seconds()*100*0.98) - len(w.load.Sofar().Between(began, began.Add(lasts))); n > 0 {
			return fmt.Errorf("%d have not", n)
		}
		return nil
	})
	rs := w.load.Sofar().Between(began, began.Add(lasts))
	last := rs.Between(began.Add(patience+4*time.Second), began.Add(lasts))
	stand.Figure(t, "%d calls, %d failed after %s; answered second by second:%s", len(rs), len(rs.Failed()), patience, answered(rs, began))
	if who := last.Who(); 2*who[second] < len(last) {
		t.Errorf("long after callers gave up the next cluster answers %d of %d calls: %s", who[second], len(last), last.Errors())
	}
}
