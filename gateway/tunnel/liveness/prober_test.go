package liveness

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const interval = Interval

// said is how long an end has been quiet for the other to say so in earnest.
const said = (Missed - 1) * interval

// clock ticks a prober at its rhythm.
type clock struct {
	now     time.Time
	packets uint64
	p       *Prober
}

func newClock() *clock {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &clock{now: now, p: New(interval, now)}
}

func (c *clock) tick(after time.Duration) (probe wire.Probe, due, late bool, v Verdict) {
	c.now = c.now.Add(after)
	return c.p.Tick(c.now, c.packets)
}

// wait ticks for so many half intervals, in which packets come that are no probes.
func (c *clock) wait(halves int) (v Verdict) {
	for range halves {
		c.packets++
		_, _, _, v = c.tick(interval / 2)
	}
	return v
}

func TestProberSendsOncePerInterval(t *testing.T) {
	c := newClock()
	sent := 0
	for range 100 {
		c.packets++
		probe, due, late, v := c.tick(interval / 2)
		if late || v != Alive {
			t.Fatalf("late %v, verdict %v", late, v)
		}
		if due {
			if sent++; probe.Seq != uint64(sent) {
				t.Errorf("probe %d has number %d", sent, probe.Seq)
			}
		}
	}
	if sent != 50 {
		t.Errorf("%d probes in 50 intervals", sent)
	}
}

func TestProberIsDeafAfterSevenIntervals(t *testing.T) {
	c := newClock()
	c.packets++
	_, _, _, v := c.tick(interval / 2)
	silent := 0
	for ; v == Alive; silent++ {
		_, _, _, v = c.tick(interval / 2)
	}
	if v != Deaf || silent != 2*Missed {
		t.Errorf("verdict %v after %d half intervals", v, silent)
	}
}

func TestAnyPacketIsASignOfLife(t *testing.T) {
	c := newClock()
	for i := range 100 {
		if i%5 == 0 {
			c.packets++ // an acknowledgement, never a probe
		}
		if _, _, _, v := c.tick(interval / 2); v != Alive {
			t.Fatalf("dead at tick %d", i)
		}
	}
}

// A process that was held up has not listened: its silence is its own.
func TestLateProberBlamesItself(t *testing.T) {
	c := newClock()
	c.packets++
	c.tick(interval / 2)
	probe, due, late, v := c.tick(10 * time.Second)
	if !late || v != Alive {
		t.Fatalf("late %v, verdict %v", late, v)
	}
	// Nor may the other end conclude from our probe that it is not heard.
	if !due || probe.Quiet != 0 {
		t.Errorf("probe after the pause: due %v, %+v", due, probe)
	}
	// The window starts anew and is not longer than any other.
	n := 0
	for ; v == Alive; n++ {
		_, _, late, v = c.tick(interval / 2)
		if late {
			t.Fatal("late again")
		}
	}
	if n != 2*Missed {
		t.Errorf("dead after %d half intervals", n)
	}
}

func TestProberBelievesThatItIsNotHeard(t *testing.T) {
	c := newClock()
	hear := func(seq uint64, quiet time.Duration) Verdict {
		c.packets++
		c.p.Receive(c.now, &wire.Probe{Seq: seq, Quiet: quiet})
		_, _, _, v := c.tick(interval / 2)
		return v
	}
	if v := hear(1, said-interval/2); v != Alive {
		t.Errorf("quiet for less: %v", v)
	}
	if v := hear(2, said); v != Alive {
		t.Errorf("quiet for the window, said a moment ago: %v", v)
	}
	if v := hear(3, 0); v != Alive {
		t.Errorf("heard again: %v", v)
	}
	if v := c.wait(2 * doubted); v != Alive {
		t.Errorf("long after it was taken back: %v", v)
	}
	if v := hear(4, said); v != Alive {
		t.Errorf("quiet for the window, said a moment ago: %v", v)
	}
	if v := c.wait(2*doubted - 1); v != Unheard {
		t.Errorf("not taken back: %v", v)
	}
	if v := hear(5, 0); v != Alive {
		t.Errorf("heard again: %v", v)
	}
	// An old probe that comes late says nothing about now.
	if v := hear(2, said); v != Alive {
		t.Errorf("stale probe: %v", v)
	}
}

// A process that was held up was quiet: what the other end says of that, in probes
// that had to wait or that crossed with the first one after it, is no cut.
func TestLateProberDoesNotBelieveThatItIsNotHeard(t *testing.T) {
	c := newClock()
	c.packets++
	c.tick(interval / 2)
	if _, due, late, _ := c.tick((tardy + 1) * interval); !late || !due {
		t.Fatalf("late %v, due %v", late, due)
	}
	for seq := uint64(1); seq <= 3; seq++ {
		c.packets++
		c.p.Receive(c.now, &wire.Probe{Seq: seq, Quiet: said})
		if _, _, _, v := c.tick(interval / 2); v != Alive {
			t.Fatalf("probe %d after the hold-up: %v", seq, v)
		}
	}
	// One that is still not heard after as long is cut off.
	for range 2 * Missed {
		c.packets++
		c.tick(interval / 2)
	}
	c.p.Receive(c.now, &wire.Probe{Seq: 4, Quiet: said})
	if v := c.wait(2 * doubted); v != Unheard {
		t.Errorf("not heard for long after the hold-up: %v", v)
	}
}

func TestProberMeasures(t *testing.T) {
	c := newClock()
	probe, _, _, _ := c.tick(interval)
	// 30 ms there, 55 ms waiting, 40 ms back.
	c.now = c.now.Add(125 * time.Millisecond)
	answer := &wire.Probe{Seq: 1, Heard: probe.Seq, Echo: probe.Sent, Delay: 55 * time.Millisecond}
	if s := c.p.Receive(c.now, answer); !s.Measured || s.RTT != 70*time.Millisecond {
		t.Errorf("round trip %v, %v", s.RTT, s.Measured)
	}
	for name, lie := range map[string]wire.Probe{
		"repeated":              *answer,
		"nothing heard":         {Seq: 2},
		"a probe never sent":    {Seq: 3, Heard: 99, Echo: probe.Sent},
		"sent in the future":    {Seq: 4, Heard: 1, Echo: time.Hour},
		"waited for longer":     {Seq: 5, Heard: 1, Echo: probe.Sent, Delay: time.Hour},
		"after a jump in count": {Seq: 1 << 61},
	} {
		if s := c.p.Receive(c.now, &lie); s.Measured {
			t.Errorf("%s: measured %v", name, s.RTT)
		}
	}
}

func TestProberCountsLoss(t *testing.T) {
	c := newClock()
	for range 20 {
		c.packets++
		c.tick(interval)
	}
	var sent, got uint64
	for i, said := range []struct{ heard, got uint64 }{
		{5, 5}, {10, 7}, {10, 8}, // one came late
		{9, 7}, {99, 99}, {12, 99}, // lies and leftovers
		{20, 18},
	} {
		s := c.p.Receive(c.now, &wire.Probe{Seq: uint64(i + 1), Heard: said.heard, Got: said.got})
		sent, got = sent+s.Sent, got+s.Got
	}
	if sent != 20 || got != 18 {
		t.Errorf("%d sent, %d got; want 20 and 18", sent, got)
	}
}

func TestBackoff(t *testing.T) {
	var b Backoff
	want := []time.Duration{
		200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
		3200 * time.Millisecond, 5 * time.Second, 5 * time.Second, 5 * time.Second,
	}
	for i, w := range want {
		half, full := b, b
		if got := half.Next(.5); got != w/2 {
			t.Errorf("attempt %d: half is %v, want %v", i, got, w/2)
		}
		if full.Next(0) != 0 {
			t.Errorf("attempt %d: jitter does not reach zero", i)
		}
		b.Next(.999)
	}
	if b.Ended(59 * time.Second); b.Next(1) != backoffCap {
		t.Error("forgotten after 59 s")
	}
	if b.Ended(60 * time.Second); b.Next(1) != backoffBase {
		t.Error("not forgotten after 60 s")
	}
}
