package accept

import "sync/atomic"

// Slots is a bound on how many of something are open at once. It never blocks.
type Slots struct {
	parent   *Slots
	most     int64
	used     atomic.Int64
	reserved atomic.Int64 // of used, those of listeners that wait for a caller
}

// NewSlots returns a bound of most.
func NewSlots(most int) *Slots { return &Slots{most: int64(most)} }

// Child is a bound within s: each slot of it takes one of s too.
func (s *Slots) Child(most int) *Slots { return &Slots{parent: s, most: int64(most)} }

// TryAcquire takes a slot and reports whether there was one. Each success is
// followed by one Release.
func (s *Slots) TryAcquire() bool {
	if s.used.Add(1) > s.most {
		s.used.Add(-1)
		return false
	}
	if s.parent != nil && !s.parent.TryAcquire() {
		s.used.Add(-1)
		return false
	}
	return true
}

// Release gives a slot back.
func (s *Slots) Release() {
	s.used.Add(-1)
	if s.parent != nil {
		s.parent.Release()
	}
}

// reserve tells that a slot is taken for nobody yet (1), or no longer (-1).
func (s *Slots) reserve(n int64) {
	for at := s; at != nil; at = at.parent {
		at.reserved.Add(n)
	}
}

// Used is how many slots are taken, without those that listeners hold for the next
// caller.
func (s *Slots) Used() int { return int(s.used.Load() - s.reserved.Load()) }

// Most is the bound.
func (s *Slots) Most() int { return int(s.most) }
