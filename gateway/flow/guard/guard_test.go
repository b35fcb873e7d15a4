package guard_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/flow/guard"
)

// seen is a guard that is told of a hundred requests a second.
type seen struct {
	guard.Guard
	now   int64
	order []guard.Change
}

// feed tells of requests for a time; one in given of them is given up (0: none is).
func (s *seen) feed(length, took time.Duration, pending, given int) {
	const each = 10 * time.Millisecond
	for end := s.now + int64(length); s.now < end; s.now += int64(each) {
		up := given > 0 && s.now/int64(each)%int64(given) == 0
		if s.Limit() > 0 && pending >= s.Limit() {
			s.Meet(s.now)
		}
		if c := s.Take(s.now, guard.Sample{Took: took, Pending: pending, Answered: !up}); c != guard.None && c != guard.Moved {
			s.order = append(s.order, c)
		}
	}
}

func healthy() *seen {
	s := &seen{now: int64(time.Hour)}
	s.feed(time.Minute, 20*time.Millisecond, 6, 0)
	return s
}

func (s *seen) want(t *testing.T, what string, want ...guard.Change) {
	t.Helper()
	if len(s.order) != len(want) {
		t.Fatalf("%s: changes %v, want %v", what, s.order, want)
	}
	for i := range want {
		if s.order[i] != want[i] {
			t.Fatalf("%s: changes %v, want %v", what, s.order, want)
		}
	}
}

func TestItTakesAllWitnesses(t *testing.T) {
	for _, c := range []struct {
		what    string
		took    time.Duration
		pending int
		given   int
		begun   bool
	}{
		{"all of them", time.Second, 100, 2, true},
		{"nobody gives up", time.Second, 100, 0, false},
		{"few give up", time.Second, 100, 20, false},
		{"as quick as usual", 25 * time.Millisecond, 100, 2, false},
		{"no more in progress than usual", time.Second, 8, 2, false},
	} {
		s := healthy()
		s.feed(5*time.Second, c.took, c.pending, c.given)
		if begun := len(s.order) > 0; begun != c.begun || begun != (s.Limit() > 0) {
			t.Errorf("%s: changes %v, limit %d", c.what, s.order, s.Limit())
		}
	}
	s := &seen{now: int64(time.Hour)}
	s.feed(time.Minute, time.Second, 100, 2)
	s.want(t, "a service that was never seen well")
}

func TestAHoldFollowsTheService(t *testing.T) {
	s := healthy()
	s.feed(2*time.Second, time.Second, 100, 2)
	s.want(t, "overload", guard.Begun)
	// Little's law: 100 answers a second of 20 ms are 2 at once; 6 were usual.
	if s.Limit() < 6 || s.Limit() > 12 {
		t.Errorf("limit %d", s.Limit())
	}
	s.feed(5*time.Second, time.Second, s.Limit(), 2)
	if s.Limit() != 6 {
		t.Errorf("limit %d while it is slow, want what was usual", s.Limit())
	}
	s.feed(5*time.Second, 20*time.Millisecond, 100, 0)
	if s.Limit() < 50 {
		t.Errorf("limit %d after five seconds in which it is quick, though all of it is used", s.Limit())
	}
	s.feed(guard.Quiet+2*time.Second, 20*time.Millisecond, 5, 0)
	s.want(t, "nobody meets the limit", guard.Begun, guard.Ended)
	s.feed(time.Second, 20*time.Millisecond, 5, 0)
	s.feed(5*time.Second, time.Second, 100, 2)
	s.want(t, "overload again", guard.Begun, guard.Ended, guard.Begun)
	s.now += int64(time.Hour)
	s.feed(time.Second, 20*time.Millisecond, 5, 0)
	s.want(t, "an hour without a call", guard.Begun, guard.Ended, guard.Begun, guard.Ended)
}

// TestAHoldThatChangesNothingIsGivenUp, and is tried again ever more rarely.
func TestAHoldThatChangesNothingIsGivenUp(t *testing.T) {
	s := healthy()
	s.feed(2*time.Second, time.Second, 100, 2)
	s.feed(guard.Patience, time.Second, 100, 2)
	s.want(t, "no change", guard.Begun, guard.Futile)
	if s.Limit() != 0 {
		t.Errorf("limit %d after a hold that was given up", s.Limit())
	}
	s.feed(guard.Backoff-10*time.Second, time.Second, 100, 2)
	s.want(t, "within the backoff", guard.Begun, guard.Futile)
}

func TestNothingIsAllocated(t *testing.T) {
	s := healthy()
	if n := testing.AllocsPerRun(1000, func() {
		s.now += int64(time.Millisecond)
		s.Take(s.now, guard.Sample{Took: time.Second, Pending: 100, Answered: s.now%2 == 0})
	}); n != 0 {
		t.Errorf("%v allocations a sample", n)
	}
}
