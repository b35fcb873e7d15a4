package spare

import (
	"math"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// rise and fall are the time constants of what is wanted: a surge is seen within a
	// second, and its end believed after some.
	rise = time.Second
	fall = 3 * time.Second
	// memory is that of rates and of calls in flight, which are never the same for two
	// moments.
	memory = time.Second
)

// Demand is what is asked of one port. The zero value is ready.
type Demand struct {
	at    time.Time
	own   side
	peers side
}

// side is that of the own callers, or of peers' calls.
type side struct {
	last   route.MeterReading
	rate   route.ByPriority // attempts begun a second
	shed   route.ByPriority // refused a second
	mean   route.ByPriority // in flight
	wanted route.ByPriority
	// takes is how long a call takes, in seconds.
	takes float64
}

// Observe reads a port's meter at now and returns what is wanted. It is to be called
// every second or more often.
func (d *Demand) Observe(m *route.Meter, now time.Time) route.PortDemand {
	passed := now.Sub(d.at)
	first := d.at.IsZero()
	if first || passed > 0 {
		d.at = now
		d.own.observe(m.Read(false), passed, first)
		d.peers.observe(m.Read(true), passed, first)
	}
	return route.PortDemand{Own: d.own.wanted, Peers: d.peers.wanted, Rate: d.own.asked(), Shed: d.own.shed}
}

// Idle reports whether nothing was asked for so long that nothing is left to say.
func (d *Demand) Idle() bool {
	const least = 0.01
	return d.own.wanted.Sum() < least && d.peers.wanted.Sum() < least && d.own.shed.Sum() < least && d.own.rate.Sum() < least
}

func (s *side) asked() (all route.ByPriority) {
	for p := range all {
		all[p] = s.rate[p] + s.shed[p]
	}
	return all
}

func (s *side) observe(r route.MeterReading, passed time.Duration, first bool) {
	last := s.last
	s.last = r
	if first {
		for p := range r.InFlight {
			s.mean[p] = float64(max(r.InFlight[p], 0))
			s.wanted[p] = s.mean[p]
		}
		return
	}
	for p := range r.Begun {
		s.rate[p] = towards(s.rate[p], float64(r.Begun[p]-last.Begun[p])/passed.Seconds(), passed, memory)
		s.shed[p] = towards(s.shed[p], float64(r.Shed[p]-last.Shed[p])/passed.Seconds(), passed, memory)
		s.mean[p] = towards(s.mean[p], float64(max(r.InFlight[p], 0)), passed, memory)
	}
	// Little's law: of calls that come at a rate and stay for a time, their product is
	// there at once. Where none is let in, the time is that of those before.
	if rate := s.rate.Sum(); rate > 0.01 {
		s.takes = s.mean.Sum() / rate
	}
	for p := range s.wanted {
		now, pace := s.mean[p]+s.shed[p]*s.takes, rise
		if now < s.wanted[p] {
			pace = fall
		}
		s.wanted[p] = towards(s.wanted[p], now, passed, pace)
	}
}

// towards is an exponentially weighted mean whose last step took passed.
func towards(mean, sample float64, passed, memory time.Duration) float64 {
	return mean + (sample-mean)*(1-math.Exp(-passed.Seconds()/memory.Seconds()))
}
