package fair

import "time"

// age gives back the slots of requests that have held them for Hold, once a second. They
// are counted by the second in which they were taken, so that this costs nothing for each.
func (g *Gate) age(now int64) {
	if g.o.Hold <= 0 {
		return
	}
	second := now / int64(time.Second)
	if second <= g.second {
		return
	}
	last := g.second
	g.second = second
	hold := g.holdSeconds()
	freed := false
	for _, s := range g.senders {
		// What was taken before second-hold is old; what was older at the last call is
		// gone already. A long pause makes all of it old.
		for at := max(last-hold, second-hold-int64(len(s.since))); at < second-hold; at++ {
			slot := &s.since[positive(at, int64(len(s.since)))]
			if *slot > 0 {
				g.used -= int(*slot)
				s.used -= int(*slot)
				*slot, freed = 0, true
			}
		}
	}
	if freed {
		g.keep(now)
		g.admit(now)
	}
}

// counts takes the slot of a ticket out of its second, and reports whether it still counted.
func (g *Gate) counts(s *sender, second int64) bool {
	if g.o.Hold <= 0 {
		return true
	}
	if second < g.second-g.holdSeconds() {
		return false
	}
	s.since[positive(second, int64(len(s.since)))]--
	return true
}

func (g *Gate) holdSeconds() int64 {
	return min(max(int64(g.o.Hold/time.Second), 1), maxHoldSeconds)
}

func positive(n, length int64) int64 { return (n%length + length) % length }
