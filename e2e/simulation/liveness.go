package simulation

import (
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Watched is how two probers fared on one modelled link.
type Watched struct {
	// Deaths are verdicts of a dead link, by cause.
	Deaf, Unheard int
	Stalls        int
	Probes        uint64
	Hash          uint64
}

// Strain is what a link that is well is put through.
type Strain struct {
	// For is how long.
	For time.Duration
	// Delay is one way; each packet takes up to Jitter more or less, and is lost with
	// probability Loss.
	Delay, Jitter time.Duration
	Loss          float64
	// Stall is how long an end gets no CPU; Every is the mean time between two of one end.
	Stall, Every time.Duration
}

// Watch runs the product's probers at both ends of one link that is never cut. Every
// death is a false one.
func Watch(seed uint64, s Strain) Watched {
	w := &watched{engine: newEngine(seed, nil), strain: s}
	for i := range w.ends {
		e := &watchedEnd{w: w, far: 1 - i, at: w.between(0, probeInterval/2)}
		e.process = process{engine: &w.engine, up: true}
		e.prober = liveness.New(probeInterval, e.clock())
		w.ends[i] = e
		e.after(e.at, e.tick)
		w.after(w.pause(), e.hold)
	}
	for w.step(s.For) {
	}
	w.out.Hash = w.hash
	return w.out
}

type watched struct {
	engine
	strain Strain
	ends   [2]*watchedEnd
	out    Watched
}

type watchedEnd struct {
	process
	w       *watched
	far     int
	at      time.Duration
	prober  *liveness.Prober
	packets uint64
}

func (w *watched) pause() time.Duration {
	if w.strain.Every <= 0 {
		return 1000 * time.Hour
	}
	return w.between(w.strain.Every/2, w.strain.Every*3/2)
}

func (e *watchedEnd) hold() {
	e.w.out.Stalls++
	e.held = max(e.held, e.now+e.w.strain.Stall)
	e.w.after(e.w.pause(), e.hold)
}

// send carries a packet to the other end, or loses it.
func (e *watchedEnd) send(arrive func(*watchedEnd)) {
	w := e.w
	if w.chance(w.strain.Loss) {
		return
	}
	to := w.ends[e.far]
	to.after(w.strain.Delay+w.between(0, 2*w.strain.Jitter)-w.strain.Jitter, func() {
		to.packets++
		arrive(to)
	})
}

func (e *watchedEnd) tick() {
	w := e.w
	probe, due, _, v := e.prober.Tick(e.clock(), e.packets)
	switch v {
	case liveness.Alive:
	case liveness.Deaf, liveness.Unheard:
		if v == liveness.Deaf {
			w.out.Deaf++
		} else {
			w.out.Unheard++
		}
		w.mix(uint64(w.now))
		// The link is made anew, at both ends.
		for _, x := range w.ends {
			x.prober = liveness.New(probeInterval, x.clock())
		}
	}
	if due {
		w.out.Probes++
		e.send(func(to *watchedEnd) { to.receive(probe) })
	}
	e.after(probeInterval/2, e.tick)
}

func (e *watchedEnd) receive(probe wire.Probe) {
	e.prober.Receive(e.clock(), &probe)
	e.w.mix(probe.Seq)
	e.send(func(*watchedEnd) {}) // the acknowledgement
}
