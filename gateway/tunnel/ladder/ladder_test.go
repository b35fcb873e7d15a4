package ladder_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/ladder"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at is a clock that only the test moves.
type at struct {
	t   *testing.T
	now time.Time
	l   *ladder.Ladder
}

func newAt(t *testing.T) *at { return &at{t: t, now: start, l: ladder.New(start)} }

func (a *at) after(d time.Duration) { a.now = a.now.Add(d) }

// wants checks a decision; have says whether there is a TLS link.
func (a *at) wants(what string, doubted, have, want bool, again time.Duration) {
	a.t.Helper()
	if w, g := a.l.Decide(a.now, doubted, have); w != want || g != again {
		a.t.Errorf("%s: wanted %v, again %v; want %v, %v", what, w, g, want, again)
	}
}

func (a *at) trusts(what string, want bool) {
	a.t.Helper()
	if got := a.l.Trusted(a.now); got != want {
		a.t.Errorf("%s: trusted %v", what, got)
	}
}

func TestQUICComesFirst(t *testing.T) {
	a := newAt(t)
	a.wants("at the start", false, false, false, ladder.Stagger)
	a.after(ladder.Stagger / 2)
	a.wants("a moment later", false, false, false, ladder.Stagger/2)
	a.l.Up(a.now)
	a.trusts("the first link", true)
	a.wants("up in time", false, false, false, 0)
}

func TestTLSIsDialedWhereQUICDoesNotComeUp(t *testing.T) {
	a := newAt(t)
	a.trusts("before anything", false)
	a.after(ladder.Stagger)
	a.wants("not up in time", false, false, true, 0)
	a.after(time.Hour)
	a.wants("still not", false, true, true, 0)
}

func TestADeathIsFollowedAtOnce(t *testing.T) {
	a := newAt(t)
	a.l.Up(a.now)
	a.after(time.Hour)
	a.wants("doubted", true, false, true, 0)
	a.wants("heard again", false, false, false, 0)
	a.l.Down(a.now, true)
	a.l.Down(a.now.Add(time.Minute), false) // said twice
	a.trusts("while it is away", false)
	a.wants("dead", false, false, true, 0)
}

// An end that said goodbye comes back, or another takes its place: QUIC has its
// moment first.
func TestAnOrderlyEndGivesQUICItsTime(t *testing.T) {
	a := newAt(t)
	a.l.Up(a.now)
	a.after(time.Hour)
	a.l.Down(a.now, false)
	a.wants("after an orderly end", false, false, false, ladder.Stagger)
}

func TestBackToQUIC(t *testing.T) {
	a := newAt(t)
	a.l.Up(a.now)
	a.after(time.Hour)
	a.l.Down(a.now, true)
	a.after(time.Minute)
	a.l.Up(a.now)
	a.trusts("after one death", true)
	a.wants("just healed", false, true, true, ladder.Settle)
	a.after(ladder.Settle)
	a.wants("settled", false, true, false, 0)
}

// A path that lets handshakes through and loses what follows must not cost every
// call a reset.
func TestAPathThatFlapsIsTrustedLater(t *testing.T) {
	a := newAt(t)
	a.l.Up(a.now)
	hold := time.Duration(0)
	for death := range 12 {
		a.after(time.Second)
		if hold > time.Second {
			a.after(hold - time.Second)
		}
		a.l.Down(a.now, true)
		a.l.Up(a.now)
		switch {
		case death == 0:
		case hold == 0:
			hold = ladder.FirstHold
		default:
			hold = min(2*hold, ladder.MaxHold)
		}
		if hold == 0 {
			a.trusts("after one death", true)
			continue
		}
		a.trusts("a link after many deaths", false)
		a.wants("not trusted yet", false, false, true, hold)
		late := a.now
		a.after(hold)
		a.trusts("after its time", true)
		a.now = late
	}
	if hold != ladder.MaxHold || ladder.MaxHold >= time.Minute {
		t.Errorf("held for %v at last: a path that has healed is used within a minute", hold)
	}
	a.after(ladder.Stable)
	a.l.Down(a.now, false)
	a.l.Up(a.now)
	a.trusts("after a link that lasted", true)
}
