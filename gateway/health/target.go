package health

import (
	"net/netip"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Target is one endpoint to check.
type Target struct {
	Key     route.EndpointKey
	Address netip.AddrPort
	// Server is the SPIFFE ID that an endpoint of transport mtls must prove, "" of one in
	// plaintext. Checks of type tcp only connect: what the endpoint's mesh allows the
	// gateway says nothing of its health.
	Server string
	// Check says how; zero fields are the policy's defaults. Type "none" is not
	// checked.
	Check policy.HealthCheck
}

// State is what the checks found of an endpoint.
type State struct {
	Healthy bool
	// Reason is the last failure, "" when healthy.
	Reason string
	// Since is when Healthy last changed.
	Since time.Time
}

// filled sets the defaults of a check.
func filled(c policy.HealthCheck) policy.HealthCheck {
	if c.Type == "" {
		c.Type = policy.DefaultCheckType
	}
	for _, f := range []struct {
		field *uint32
		value uint32
	}{
		{&c.IntervalMS, policy.DefaultCheckIntervalMS},
		{&c.TimeoutMS, policy.DefaultCheckTimeoutMS},
		{&c.Fall, policy.DefaultCheckFall},
		{&c.Rise, policy.DefaultCheckRise},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if c.Path == "" && c.Type == typeHTTP {
		c.Path = "/"
	}
	return c
}

// Streak is what the results of one endpoint's checks add up to. It is pure; the
// zero value has seen none.
type Streak struct {
	known     bool
	state     State
	successes uint32 // in a row
	failures  uint32 // in a row
}

// State is what is known, if anything is.
func (s *Streak) State() (state State, known bool) { return s.state, s.known }

// Take counts one result ("" is a success) by a check whose Fall and Rise are set,
// and reports whether the state changed.
func (s *Streak) Take(failure string, check policy.HealthCheck, now time.Time) bool {
	if failure == "" {
		s.successes, s.failures = s.successes+1, 0
		// The first word about an endpoint is believed at once if it is good: a
		// gateway that starts must not wait for the second round.
		if !s.known || (!s.state.Healthy && s.successes >= check.Rise) {
			s.known, s.state = true, State{Healthy: true, Since: now}
			return true
		}
		return false
	}
	s.successes, s.failures = 0, s.failures+1
	if s.failures < check.Fall {
		return false
	}
	changed := !s.known || s.state.Healthy
	if changed {
		s.state.Since = now
	}
	s.known, s.state.Healthy, s.state.Reason = true, false, failure
	return changed
}

// entry is the life of one target in the checker.
type entry struct {
	Streak
	target  Target
	due     time.Time
	index   int // in the queue, -1 while its check runs
	removed bool

	discarded uint32 // in a row
}

// take counts one result and reports whether the state changed.
func (e *entry) take(failure string, now time.Time) bool {
	e.discarded = 0
	return e.Take(failure, e.target.Check, now)
}

// queue is a heap of entries by due time.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.index = -1
	return e
}
