package tunnel

import (
	"errors"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// probes runs the Prober of a link on its control connection.
type probes struct {
	link    *link
	control *connection

	mu     sync.Mutex
	prober *liveness.Prober
}

var (
	errDeaf    = errors.New("seven probes missed")
	errUnheard = errors.New("peer does not hear us")
)

// send ticks until the link ends, or ends it.
func (p *probes) send() {
	l, m := p.link, p.link.node.metrics.probes
	sent, lateTicks := m.WithLabelValues("sent"), m.WithLabelValues("late")
	ticker := time.NewTicker(l.node.o.ProbeInterval / 2)
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
	l := p.link
	heard := l.node.metrics.probes.WithLabelValues("heard")
	for {
		b, err := p.control.qc.ReceiveDatagram(l.ctx)
		if err != nil {
			return
		}
		var probe wire.Probe
		is, err := wire.ParseProbe(b, &probe)
		if err != nil {
			l.close(wire.Protocol, err)
			return
		}
		if !is {
			continue
		}
		heard.Inc()
		p.mu.Lock()
		s := p.prober.Receive(time.Now(), &probe)
		p.mu.Unlock()
		l.path.addProbes(s.Sent, s.Got)
		if s.Measured {
			l.path.sample(s.RTT)
			l.rttNanos.Store(int64(l.path.delay()))
		}
	}
}
