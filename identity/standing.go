package identity

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Standing says how well the own identity stands. The vocabulary is closed.
type Standing string

// The standings. Only the first two serve.
const (
	// StandingGood: the SVID is valid and its renewal is not due, or not late.
	StandingGood Standing = "good"
	// StandingDegraded: the SVID is valid and in full use, but its renewal is late:
	// without help the process stops being able to make connections at NotAfter.
	StandingDegraded Standing = "degraded"
	// StandingExpired: the SVID is past its life and not presented.
	StandingExpired Standing = "expired"
	// StandingNone: there is no SVID yet.
	StandingNone Standing = "none"
)

const (
	// overdueFraction of the life that an SVID had when it arrived may pass before
	// its renewal counts as late. Renewal is due at half; SPIRE spreads it over 45 to
	// 55 %, the embedded CA over 40 to 50 %, so that 60 % alarms nobody in vain.
	overdueFraction = 0.6
	// While renewal is late the watch is begun anew every so often: an agent that
	// hangs keeps its stream open and silent, and only a new one tells.
	minRewatch = time.Second
	maxRewatch = time.Minute
	// maxTimer bounds one wait of the overseer, since timers stand still while the
	// machine sleeps and certificates do not.
	maxTimer = time.Minute
)

// Standing returns how the own identity stands and, unless it is good, why.
//
// Renewal is late when 60 % of the SVID's life has passed without one; or earlier,
// when the source of the identity fails (no Workload API, an answer or files that
// are refused): then at half of the life that was left when it began to fail.
func (s *Source) Standing() (Standing, error) {
	s.mu.Lock()
	failing := s.last.failing
	cause := errors.Join(s.last.update, s.last.watch)
	s.mu.Unlock()
	st, now := s.state.Load(), s.now()
	if st.svid == nil {
		return StandingNone, s.notReady(nil)
	}
	late, _ := st.lateness(now, failing)
	if late == StandingGood {
		return late, nil
	}
	if cause == nil {
		cause = errors.New("nothing newer was offered")
	}
	verb := "expires"
	if late == StandingExpired {
		verb = "expired"
	}
	return late, fmt.Errorf("svid %s at %s and is not renewed by %s: %w", verb, st.notAfter().UTC().Format(time.RFC3339), s.opts.where(), cause)
}

// sourceFails notes when the source of the identity began to fail.
func (s *Source) sourceFails() {
	s.mu.Lock()
	first := s.last.failing.IsZero()
	if first {
		s.last.failing = s.now()
	}
	s.mu.Unlock()
	if first {
		s.metrics.failing.Set(1)
		s.wakeOverseer()
	}
}

// sourceWorks ends what sourceFails began. The caller holds mu.
func (s *Source) sourceWorks() {
	if s.last.failing.IsZero() {
		return
	}
	s.last.failing = time.Time{}
	s.metrics.failing.Set(0)
	s.wakeOverseer()
}

func (s *Source) wakeOverseer() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// oversee raises the alarm when the SVID is not renewed in time.
func (s *Source) oversee(ctx context.Context, rewatch chan<- struct{}) {
	updates, cancel := s.Updates()
	defer cancel()
	reported := StandingGood
	timedOut := false
	for {
		s.mu.Lock()
		failing := s.last.failing
		s.mu.Unlock()
		st, now := s.state.Load(), s.now()
		late, next := st.lateness(now, failing)
		s.metrics.overdue.Set(btof(late != StandingGood))
		if late != reported {
			s.reportLateness(late, st, now)
			reported = late
		}
		if late != StandingGood && timedOut {
			select {
			case rewatch <- struct{}{}:
			default:
			}
		}
		timer := time.NewTimer(next)
		timedOut = false
		select {
		case <-updates:
		case <-s.wake:
		case <-timer.C:
			timedOut = true
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// lateness judges the SVID at a moment, given since when its source fails (zero:
// it does not), and says when to look again. Without an SVID there is nothing to
// renew, and all is good; WaitReady and Ready speak of that.
func (st *state) lateness(now, failing time.Time) (Standing, time.Duration) {
	if st.svid == nil {
		return StandingGood, maxTimer
	}
	life := st.notAfter().Sub(st.received)
	due := st.received.Add(time.Duration(float64(life) * overdueFraction))
	if !failing.IsZero() {
		half := failing.Add(st.notAfter().Sub(failing) / 2)
		if half.Before(due) {
			due = half
		}
	}
	left := st.notAfter().Sub(now)
	switch {
	case left <= 0:
		return StandingExpired, maxRewatch
	case !now.Before(due):
		return StandingDegraded, min(max(left/2, minRewatch), maxRewatch, left)
	default:
		return StandingGood, min(due.Sub(now), maxTimer)
	}
}

func (s *Source) reportLateness(late Standing, st *state, now time.Time) {
	args := []any{"spiffe_id", st.svid.ID.String(), "source", s.opts.where(), "duration", st.notAfter().Sub(now)}
	switch late {
	case StandingDegraded:
		s.log.Error("svid renewal overdue", args...)
	case StandingExpired:
		s.log.Error("svid expired", args...)
	default:
		s.log.Info("svid renewal caught up", args...)
	}
}

func btof(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
