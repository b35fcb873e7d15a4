package route

import (
	"maps"
	"sync/atomic"
)

// Meter counts the attempts at one port of a service through this gateway, by whom
// they are for and by priority: what demand is read from. Every method is safe for
// concurrent use, takes no lock and allocates nothing.
type Meter struct{ sides [2]meterSide }

type meterSide struct {
	begun, shed [Priorities]atomic.Uint64
	inFlight    [Priorities]atomic.Int64
}

// MeterReading is what one side of a Meter says at a moment. Begun and Shed only grow.
type MeterReading struct {
	Begun, Shed [Priorities]uint64
	InFlight    [Priorities]int64
}

func (m *Meter) side(fromPeer bool) *meterSide { return &m.sides[truth(fromPeer)] }

// Begin counts an attempt that begins; each is followed by one End.
func (m *Meter) Begin(p Priority, fromPeer bool) {
	s := m.side(fromPeer)
	s.begun[p%Priorities].Add(1)
	s.inFlight[p%Priorities].Add(1)
}

// End counts the end of an attempt.
func (m *Meter) End(p Priority, fromPeer bool) { m.side(fromPeer).inFlight[p%Priorities].Add(-1) }

// Shed counts a call that fits nowhere.
func (m *Meter) Shed(p Priority, fromPeer bool) { m.side(fromPeer).shed[p%Priorities].Add(1) }

// Read reads the own callers' side, or that of peers' calls.
func (m *Meter) Read(fromPeer bool) (r MeterReading) {
	s := m.side(fromPeer)
	for p := range Priorities {
		r.Begun[p], r.Shed[p], r.InFlight[p] = s.begun[p].Load(), s.shed[p].Load(), s.inFlight[p].Load()
	}
	return r
}

// Meters reads all meters of ports that are in use.
func (l *Live) Meters() map[PortKey]*Meter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.meters)
}
