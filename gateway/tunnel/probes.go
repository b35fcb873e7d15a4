package tunnel

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// probes runs the Prober of a link on its control connection.
type probes struct {
	link     *link
	control  *connection
	interval time.Duration
	// late is set while the link has not been heard for long enough to look for another.
	late atomic.Bool

	mu     sync.Mutex
	prober *liveness.Prober
}

// laneSlower is how much slower a TLS link is probed: what TCP has lost comes later,
// and everything behind it, so that silence means less there.
const laneSlower = 2

// lateAfter is how many missed probes make a QUIC link doubtful.
const lateAfter = 3

func newProbes(l *link, control *connection) *probes {
	interval := l.node.o.ProbeInterval
	if l.lane == LaneTLS {
		interval *= laneSlower
	}
	return &probes{link: l, control: control, interval: interval, prober: liveness.New(interval, time.Now())}
}

// quiet is how long the link has not been heard.
func (p *probes) quiet(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.prober.Quiet(now)
}

// watch looks whether the link has become doubtful, or is so no longer.
func (p *probes) watch(now time.Time) {
	l := p.link
	if l.lane == LaneTLS || l.node.o.TLS == nil {
		return
	}
	if late := p.quiet(now) >= lateAfter*p.interval; p.late.Swap(late) != late {
		l.node.climb(l.remote)
	}
}

var (
	errDeaf    = errors.New("seven probes missed")
	errUnheard = errors.New("peer does not hear us")
)

// send ticks until the link ends, or ends it.
func (p *probes) send() {
	l, m := p.link, p.link.node.metrics.probes
	sent, lateTicks := m.WithLabelValues("sent"), m.WithLabelValues("late")
	ticker := time.NewTicker(p.interval / 2)
	defer ticker.Stop()
	var buf []byte
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-ticker.C:
		}
		packets := p.control.qc.ConnectionStats().PacketsReceived
		p.mu.Lock()
		probe, due, late, v := p.prober.Tick(time.Now(), packets)
		p.mu.Unlock()
		if late {
			lateTicks.Inc()
		}
		p.watch(time.Now())
		switch v {
		case liveness.Alive:
		case liveness.Deaf:
			l.close(wire.LinkDead, errDeaf)
			return
		case liveness.Unheard:
			l.close(wire.LinkDead, errUnheard)
			return
		}
		if due {
			// This blocks only with 32 datagrams waiting, which is three seconds of
			// probes: the link is dead long before.
			buf = wire.AppendProbe(buf[:0], &probe)
			if err := p.control.qc.SendDatagram(buf); err == nil {
				sent.Inc()
			}
		}
	}
}

// receive takes probes until the link ends.
func (p *probes) receive() {
	for {
		b, err := p.control.quic.ReceiveDatagram(p.link.ctx)
		if err != nil {
			return
		}
		p.take(b)
	}
}

// take takes a datagram.
func (p *probes) take(b []byte) {
	l := p.link
	var probe wire.Probe
	is, err := wire.ParseProbe(b, &probe)
	if err != nil {
		l.close(wire.Protocol, err)
		return
	}
	if !is {
		return
	}
	l.node.metrics.probes.WithLabelValues("heard").Inc()
	p.mu.Lock()
	s := p.prober.Receive(time.Now(), &probe)
	p.mu.Unlock()
	l.path.addProbes(s.Sent, s.Got)
	if s.Measured {
		l.path.sample(s.RTT)
		l.rttNanos.Store(int64(l.path.delay()))
	}
	l.heardAgain()
}
