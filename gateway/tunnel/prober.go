package tunnel

import (
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// verdict is what a prober thinks of its link.
type verdict int

const (
	alive verdict = iota
	// deaf: nothing was received for three intervals.
	deaf
	// unheard: the other end says that it received nothing from us for nearly
	// three intervals.
	unheard
)

// prober decides whether a link is alive. It is pure: time and what was received
// come from outside. It is ticked at half the probe interval, so that a cut is
// noticed at most half an interval late.
//
// A link is dead when three probes in a row are missing and no other packet came
// instead: with 2 % loss three lost probes happen every few hours, while the
// acknowledgements of our own probes come through. In the other direction the
// peer's Quiet plays that part.
type prober struct {
	interval time.Duration
	start    time.Time // zero of the clock on the wire

	lastTick time.Time
	lastSent time.Time
	seq      uint64

	packets  uint64    // received on the connection at the last tick
	heardAt  time.Time // when a packet was last seen to have come
	peerSeq  uint64    // highest received
	got      uint64    // how many were received
	peerSent time.Duration
	peerAt   time.Time

	// ours is what the peer last said of our probes.
	ours struct{ heard, got uint64 }

	// disowned: the last probe said that we are not heard.
	disowned bool
}

func newProber(interval time.Duration, now time.Time) *prober {
	return &prober{interval: interval, start: now, lastTick: now, heardAt: now}
}

// window is how long silence may last.
func (p *prober) window() time.Duration { return missedProbes * p.interval }

// tick is called every half interval with the number of packets received so far.
// It returns a probe to send when one is due. late says that our own clock was
// held up: silence then says nothing about the link, and the window restarts.
func (p *prober) tick(now time.Time, packets uint64) (probe wire.Probe, due, late bool, v verdict) {
	late = now.Sub(p.lastTick) > p.interval+p.interval/2
	p.lastTick = now
	if packets != p.packets {
		p.packets, p.heardAt = packets, now
	}
	if late {
		p.heardAt, p.disowned = now, false
	}
	switch {
	case now.Sub(p.heardAt) >= p.window():
		v = deaf
	case p.disowned:
		v = unheard
	}
	// A little slack: a tick that comes a moment early must not cost a half
	// interval.
	if due = now.Sub(p.lastSent) >= p.interval-p.interval/8; !due {
		return probe, false, late, v
	}
	p.lastSent = now
	p.seq++
	probe = wire.Probe{Seq: p.seq, Heard: p.peerSeq, Got: p.got, Sent: now.Sub(p.start), Quiet: now.Sub(p.heardAt)}
	if p.peerSeq > 0 {
		probe.Echo, probe.Delay = p.peerSent, now.Sub(p.peerAt)
	}
	return probe, true, late, v
}

// sample is what a probe says about the path.
type sample struct {
	// rtt is the round trip, if measured.
	rtt      time.Duration
	measured bool
	// sent and got count our probes and those of them that arrived, since the
	// last sample; got is larger when one arrived late.
	sent, got uint64
}

// receive takes a probe of the other end.
func (p *prober) receive(now time.Time, probe *wire.Probe) (s sample) {
	p.heardAt = now
	p.got++
	if probe.Seq <= p.peerSeq {
		return s // late or repeated: what it says is stale
	}
	p.peerSeq, p.peerSent, p.peerAt = probe.Seq, probe.Sent, now
	// Half an interval early: when the other end has been deaf for a whole
	// window it closes the link and says no more.
	p.disowned = probe.Quiet >= p.window()-p.interval/2
	if probe.Heard == 0 || probe.Heard > p.seq {
		return s // nothing heard yet, or a probe that we never sent
	}
	if probe.Heard >= p.ours.heard && probe.Got >= p.ours.got && probe.Got <= probe.Heard {
		s.sent, s.got = probe.Heard-p.ours.heard, probe.Got-p.ours.got
		p.ours.heard, p.ours.got = probe.Heard, probe.Got
	}
	s.rtt = now.Sub(p.start) - probe.Echo - probe.Delay
	s.measured = s.rtt >= 0 && probe.Echo <= p.lastSent.Sub(p.start)
	return s
}
