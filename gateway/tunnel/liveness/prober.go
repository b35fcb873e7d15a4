package liveness

import (
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Verdict is what a Prober thinks of its link.
type Verdict int

// The verdicts. Deaf and Unheard end the link.
const (
	Alive Verdict = iota
	// Deaf: nothing was received for Missed intervals.
	Deaf
	// Unheard: the other end says that it received nothing from us for nearly as
	// long, and has not taken it back.
	Unheard
)

const (
	// Interval is the time between probes that the other numbers were chosen for.
	//
	// Silence of 700 ms is what a link needs that is well: an end that gets no CPU for
	// 400 ms, a way whose delay moves by 50 ms both ways, and what was lost before.
	// Where probes are 200 ms apart, one lost packet of each direction before such a
	// stall makes that too little, once in 3,000 stalls; at 100 ms it takes two of each,
	// once in some millions. A cut is seen no later for it, but sooner, by half the
	// difference of the intervals: silence is looked for as often as probes are sent,
	// and twice.
	Interval = 100 * time.Millisecond
	// Missed probes in a row make a link dead.
	Missed = 7
	// doubted is for how many intervals the other end's word must stand.
	doubted = 5
	// tardy is how many intervals a tick may be late before it is our own fault.
	tardy = 3
)

// Prober decides whether a link is alive. It is pure: time and what was received
// come from outside. It is ticked at half the probe interval, so that a cut is
// noticed at most half an interval late.
//
// A link is dead when Missed probes in a row are missing and no other packet came
// instead: the acknowledgements of our own probes are as many again. In the other
// direction the peer's Quiet plays that part.
type Prober struct {
	interval time.Duration
	start    time.Time // zero of the clock on the wire

	lastTick time.Time
	lastSent time.Time
	awake    time.Time // when the last late tick ended a hold-up of our own
	seq      uint64

	packets  uint64    // received on the connection at the last tick
	heardAt  time.Time // when a packet was last seen to have come
	peerSeq  uint64    // highest received
	got      uint64    // how many were received
	peerSent time.Duration
	peerAt   time.Time

	// ours is what the peer last said of our probes.
	ours struct{ heard, got uint64 }

	// disowned is since when the last probe says that we are not heard; zero while
	// we are.
	disowned time.Time
}

// New returns a Prober that has just heard its link.
func New(interval time.Duration, now time.Time) *Prober {
	return &Prober{interval: interval, start: now, lastTick: now, heardAt: now}
}

// window is how long silence may last.
func (p *Prober) window() time.Duration { return Missed * p.interval }

// doubt is how long the word that we are not heard must stand: the next probes may
// take it back. Where a path stands still for 400 ms and goes on, that word and
// what it was about arrive together. An end that stays deaf closes the link and says
// so by its connections, which is faster; this is for when none of that arrives.
func (p *Prober) doubt() time.Duration { return doubted * p.interval }

// Tick is called every half interval with the number of packets received so far.
// It returns a probe to send when one is due. late says that our own clock was
// held up: silence then says nothing about the link, and the window restarts.
func (p *Prober) Tick(now time.Time, packets uint64) (probe wire.Probe, due, late bool, v Verdict) {
	late = now.Sub(p.lastTick) > tardy*p.interval
	p.lastTick = now
	if packets != p.packets {
		p.packets, p.heardAt = packets, now
	}
	if late {
		p.heardAt, p.disowned, p.awake = now, time.Time{}, now
	}
	switch {
	case now.Sub(p.heardAt) >= p.window():
		v = Deaf
	case !p.disowned.IsZero() && now.Sub(p.disowned) >= p.doubt():
		v = Unheard
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

// Quiet is how long nothing has been received, as of the last tick or probe.
func (p *Prober) Quiet(now time.Time) time.Duration { return now.Sub(p.heardAt) }

// Sample is what a probe says about the path.
type Sample struct {
	// RTT is the round trip, if Measured.
	RTT      time.Duration
	Measured bool
	// Sent and Got count our probes and those of them that arrived, since the
	// last sample; Got is larger when one arrived late.
	Sent, Got uint64
}

// Receive takes a probe of the other end.
func (p *Prober) Receive(now time.Time, probe *wire.Probe) (s Sample) {
	p.heardAt = now
	p.got++
	if probe.Seq <= p.peerSeq {
		return s // late or repeated: what it says is stale
	}
	p.peerSeq, p.peerSent, p.peerAt = probe.Seq, probe.Sent, now
	// An interval early: when the other end has been deaf for a whole
	// window it closes the link and says no more. While we were held up ourselves
	// we were quiet, and probes of that time may still come: they say nothing of
	// the link before we have been awake for as long.
	limit := p.window() - p.interval
	switch {
	case probe.Quiet < limit || now.Sub(p.awake) < limit:
		p.disowned = time.Time{}
	case p.disowned.IsZero():
		p.disowned = now
	}
	if probe.Heard == 0 || probe.Heard > p.seq {
		return s // nothing heard yet, or a probe that we never sent
	}
	if probe.Heard >= p.ours.heard && probe.Got >= p.ours.got && probe.Got <= probe.Heard {
		s.Sent, s.Got = probe.Heard-p.ours.heard, probe.Got-p.ours.got
		p.ours.heard, p.ours.got = probe.Heard, probe.Got
	}
	s.RTT = now.Sub(p.start) - probe.Echo - probe.Delay
	s.Measured = s.RTT >= 0 && probe.Echo <= p.lastSent.Sub(p.start)
	return s
}
