package codel

import "time"

// The defaults of Options: a target that is small beside what services take, and an
// interval of the order of a round trip between regions, as RFC 8289 has it.
const (
	DefaultTarget   = 20 * time.Millisecond
	DefaultInterval = 100 * time.Millisecond
)

// Options are the two times of the rule. Interval is not below Target.
type Options struct {
	// Target is the wait that is acceptable in a queue that stands.
	Target time.Duration
	// Interval is how long waits must have been above Target for the queue to count as
	// standing, and how long a request may wait in one that does not.
	Interval time.Duration
}

// Filled is o with each field that is 0 at its default.
func (o Options) Filled() Options {
	if o.Target == 0 {
		o.Target = DefaultTarget
	}
	if o.Interval == 0 {
		o.Interval = max(DefaultInterval, 5*o.Target)
	}
	return o
}

// State is the state of one queue; the zero value is that of an empty one. It is for one
// goroutine at a time.
type State struct {
	above    int64 // since when every wait was above the target; 0 while one was not
	short    int64 // of a queue that stands: since when every wait was short; 0 while one was not
	standing bool
}

// Leave is asked of each request that leaves the queue at now (Unix nanoseconds) to be
// served, after it has waited; true means that it is to be dropped instead.
func (s *State) Leave(now int64, waited time.Duration, o Options) (drop bool) {
	switch {
	case s.standing && waited > o.Target/2:
		s.short = 0
	case s.standing && s.short == 0:
		s.short = now
	case s.standing && now-s.short >= int64(o.Interval):
		s.Emptied()
	case s.standing:
	case waited <= o.Target:
		s.above = 0
	case s.above == 0:
		s.above = now
	case now-s.above >= int64(o.Interval):
		s.standing = true
	}
	return s.standing && waited > o.Target || waited > o.Interval
}

// Emptied is told that nobody waits any more, which is the end of a standing queue.
func (s *State) Emptied() { *s = State{} }

// Standing reports whether the queue stands.
func (s *State) Standing() bool { return s.standing }

// Since is how long waits have been above the target at now: how long the overload
// lasts already, and a guess of how long it will.
func (s *State) Since(now int64) time.Duration {
	if s.above == 0 {
		return 0
	}
	return time.Duration(now - s.above)
}
