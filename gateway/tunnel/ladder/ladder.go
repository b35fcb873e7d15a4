package ladder

import "time"

const (
	// Stagger is how long QUIC has at the start before TLS is dialed beside it: a
	// handshake across the world takes no longer.
	Stagger = 300 * time.Millisecond
	// Settle is how long QUIC must carry before the TLS link is let go.
	Settle = 15 * time.Second
	// Stable is how long a QUIC link must last for its death to be held against no
	// other.
	Stable = time.Minute
	// FirstHold is how long a link is not trusted after two deaths in a row; it
	// doubles with each further one, to MaxHold at most.
	FirstHold = time.Second
	// MaxHold is the longest that a link is not trusted.
	MaxHold = 30 * time.Second
)

// Ladder is the state of one remote gateway.
type Ladder struct {
	missing time.Time // since when no QUIC link is up; zero while one is
	silent  bool      // the last one died in silence
	upSince time.Time // of the QUIC link that is up
	trusted time.Time // from when on it is trusted
	deaths  int       // by silence, in a row
}

// New returns the ladder of a gateway that is about to be dialed.
func New(now time.Time) *Ladder { return &Ladder{missing: now} }

// Up is told that a QUIC link has come up, and none was.
func (l *Ladder) Up(now time.Time) {
	l.missing, l.silent, l.upSince = time.Time{}, false, now
	l.trusted = now.Add(l.hold())
}

// hold is how long a link that comes up now is not trusted.
func (l *Ladder) hold() time.Duration {
	if l.deaths < 2 {
		return 0
	}
	hold := FirstHold
	for range l.deaths - 2 {
		if hold *= 2; hold >= MaxHold {
			return MaxHold
		}
	}
	return hold
}

// Down is told that the last QUIC link has gone; silent: by missed probes, and not
// by a word of either end.
func (l *Ladder) Down(now time.Time, silent bool) {
	if !l.missing.IsZero() {
		return
	}
	switch {
	case now.Sub(l.upSince) >= Stable && silent:
		l.deaths = 1
	case now.Sub(l.upSince) >= Stable:
		l.deaths = 0
	case silent:
		l.deaths++
	}
	l.missing, l.silent = now, silent
}

// Trusted reports whether new streams go to QUIC, given that a link of it is up.
func (l *Ladder) Trusted(now time.Time) bool { return l.missing.IsZero() && !now.Before(l.trusted) }

// Decide says whether a TLS link should be there, and when to ask again (0: only
// after news). doubted: QUIC is up and has not been heard for a while. have says that
// there is one.
func (l *Ladder) Decide(now time.Time, doubted, have bool) (want bool, again time.Duration) {
	if !l.missing.IsZero() {
		wait := Stagger
		if l.silent {
			wait = 0
		}
		if left := wait - now.Sub(l.missing); left > 0 && !have {
			return false, left
		}
		return true, 0
	}
	if doubted {
		return true, 0
	}
	if left := l.trusted.Sub(now); left > 0 {
		return true, left
	}
	if !have {
		return false, 0
	}
	if left := l.trusted.Add(Settle).Sub(now); left > 0 {
		return true, left
	}
	return false, 0
}
