package simulation

import (
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// The times of a link, as gateway/tunnel has them.
const (
	probeInterval    = liveness.Interval
	handshakeTimeout = 5 * time.Second
	kickPause        = time.Second
)

// end is one end of a link: the tunnel's rules of life and death run here.
type end struct {
	gateway *gateway
	far     *end
	open    bool
	born    time.Duration
	prober  prober
	packets uint64
	rtt     time.Duration
	heard   time.Duration // when a packet came last, for the oracle
	report  int           // reports under way on the control stream
	control pipe
	// onClose are what this end carries: each is told once when it dies.
	onClose map[uint64]func(wire.Status)
	order   []uint64
	serial  uint64
}

// join makes a link between two gateways.
func (s *Sim) join(a, b *gateway) *end {
	mk := func(g *gateway) *end {
		e := &end{gateway: g, open: true, born: s.now, heard: s.now, onClose: make(map[uint64]func(wire.Status)), rtt: s.net.rtt(a, b)}
		e.prober = s.seams.prober(g, probeInterval, g.clock())
		return e
	}
	x, y := mk(a), mk(b)
	x.far, y.far = y, x
	x.control.from, y.control.from = x, y
	for _, e := range []*end{x, y} {
		e.gateway.ends = append(e.gateway.ends, e)
		s.oracle.linkChanged(e)
		e.gateway.linksChanged()
		e.beat()
	}
	s.note(a.name, "link up with "+b.name, 0)
	return x
}

// beat is the tick of half an interval.
func (e *end) beat() { e.gateway.after(probeInterval/2, e.tick) }

func (e *end) tick() {
	if !e.open {
		return
	}
	g := e.gateway
	probe, due, _, verdict := e.prober.Tick(g.clock(), e.packets)
	switch verdict {
	case liveness.Alive:
	case liveness.Deaf, liveness.Unheard:
		g.oracle.linkDies(e)
		e.close(wire.LinkDead, true)
		return
	}
	if due {
		g.net.datagram(g, e.far.gateway, func() { e.far.receive(&probe) })
	}
	e.beat()
}

// receive takes a probe of the other end, and acknowledges its packet.
func (e *end) receive(probe *wire.Probe) {
	g := e.gateway
	if !e.open {
		// A stateless reset: whoever still sends learns that there is nobody.
		g.net.datagram(g, e.far.gateway, func() { e.far.close(wire.LinkDead, false) })
		return
	}
	e.packets++
	e.heard = g.now
	if s := e.prober.Receive(g.clock(), probe); s.Measured {
		e.rtt += (s.RTT - e.rtt) / 8
	}
	g.net.datagram(g, e.far.gateway, func() { e.far.packets++; e.far.heard = g.now })
}

// close ends this end, and tells the other one if tell.
func (e *end) close(status wire.Status, tell bool) {
	if !e.open {
		return
	}
	e.open = false
	g := e.gateway
	g.note(g.name, "link down with "+e.far.gateway.name, uint64(status))
	g.forget(e)
	if tell {
		g.net.datagram(g, e.far.gateway, func() { e.far.close(status, false) })
	}
	e.tellAll(status)
	g.oracle.linkChanged(e)
	g.linksChanged()
	if d := g.dialers[e.far.gateway]; d != nil {
		d.lost(e)
	}
}

// tellAll ends what the end carries.
func (e *end) tellAll(status wire.Status) {
	order := e.order
	e.order = nil
	for _, id := range order {
		if do := e.onClose[id]; do != nil {
			delete(e.onClose, id)
			do(status)
		}
	}
}

// carries registers what is told when the end dies; done takes it back.
func (e *end) carries(lost func(wire.Status)) (done func()) {
	e.serial++
	id := e.serial
	e.onClose[id] = lost
	e.order = append(e.order, id)
	if len(e.order) > 64 && len(e.order) > 2*len(e.onClose) {
		kept := e.order[:0]
		for _, id := range e.order {
			if e.onClose[id] != nil {
				kept = append(kept, id)
			}
		}
		e.order = kept
	}
	return func() { delete(e.onClose, id) }
}

// dialer keeps a link to one gateway of a peer, as the tunnel's targets do. Of two
// gateways one dials; the other knocks, so that the first hears of its restart.
type dialer struct {
	from, to *gateway
	leads    bool
	wanted   bool
	backoff  liveness.Backoff
	turn     int // voids the wait before
	kicked   time.Duration
	dialing  bool
	end      *end
}

func (d *dialer) wish(wanted bool) {
	if d.wanted == wanted {
		return
	}
	d.wanted = wanted
	d.turn++
	if wanted && d.end == nil {
		d.try()
	}
}

// try makes one attempt.
func (d *dialer) try() {
	s := d.from.s
	if !d.wanted || d.end != nil || d.dialing || !d.from.up {
		return
	}
	if !d.leads {
		if d.from.endTo(d.to) == nil {
			s.net.datagram(d.from, d.to, func() {
				if far := d.to.dialers[d.from]; far != nil {
					far.kick()
				}
			})
		}
		d.pause()
		return
	}
	d.dialing = true
	d.handshake(s.now, 200*time.Millisecond)
}

// handshake sends the first packets, and sends them again after timeouts that double.
func (d *dialer) handshake(began, timeout time.Duration) {
	s := d.from.s
	sky := s.net.sky[d.from.home.index][d.to.home.index]
	lost := s.net.blocked(d.from, d.to) || s.net.blocked(d.to, d.from) || !d.to.up || d.to.held > s.now || s.chance(3*sky.loss)
	switch {
	case lost && s.now+timeout-began < handshakeTimeout:
		d.from.after(timeout, func() { d.handshake(began, 2*timeout) })
	case lost:
		d.from.at(began+handshakeTimeout, func() { d.dialed(false) })
	default:
		d.from.after(s.net.rtt(d.from, d.to)*3/2, func() { d.dialed(d.to.up && d.to.admits(d.from)) })
	}
}

func (d *dialer) dialed(ok bool) {
	d.dialing = false
	switch {
	case !d.wanted:
	case !ok:
		d.pause()
	default:
		d.end = d.from.s.join(d.from, d.to)
	}
}

// pause waits before the next attempt.
func (d *dialer) pause() {
	d.turn++
	turn := d.turn
	d.kicked = d.from.now
	d.from.after(d.backoff.Next(d.from.rng.Float64()), func() {
		if d.turn == turn {
			d.try()
		}
	})
}

// kick is the hint that dialing may work now.
func (d *dialer) kick() {
	if !d.leads || d.end != nil || d.dialing {
		return
	}
	d.turn++
	turn := d.turn
	d.from.at(max(d.from.now, d.kicked+kickPause), func() {
		if d.turn == turn {
			d.kicked = d.from.now
			d.try()
		}
	})
}

// lost is told that the link is gone.
func (d *dialer) lost(e *end) {
	if !d.leads {
		d.pause()
		return
	}
	if d.end != e {
		return
	}
	d.end = nil
	d.backoff.Ended(d.from.now - e.born)
	d.pause()
}
