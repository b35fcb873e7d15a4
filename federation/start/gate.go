package start

import (
	"slices"
	"time"
)

const (
	// SourceGrace is how long a start waits for a source that has nothing on disk.
	SourceGrace = 30 * time.Second
	// RosterGrace is how long it waits for the gateways of before: they report every
	// second, and come back within a few.
	RosterGrace = 5 * time.Second
	// PeerGrace is how long it waits for the catalog of a peer that was known and is
	// not on disk any more. It is asked over links that are up: one that does not
	// answer for so long may be silent for ever, and what operators change waits too,
	// links to peers that are in no gateway's table yet among it.
	PeerGrace = 5 * time.Second
)

// Gate is one start. It is for one goroutine at a time.
type Gate struct {
	opened time.Time
	// Gateways and peers that there were before the start.
	gateways, peers []string

	sourcesSpoke, peersSpoke, rosterKnown bool

	// lost: a gateway has a table that is not of this memory, since then.
	lost   bool
	lostAt time.Time
}

// Open begins at the time at which the doors are opened. gateways and peers are the
// names of those that the store remembers.
func Open(now time.Time, gateways, peers []string) *Gate {
	return &Gate{opened: now, gateways: gateways, peers: peers}
}

// Lost says that a gateway routes by a table that this federation does not remember
// to have made: its memory is older than the gateway's, or gone. Every peer is
// waited for then, whether it is remembered or not.
func (g *Gate) Lost(now time.Time) {
	g.lost, g.lostAt, g.peersSpoke = true, now, false
}

// Sources is asked with the sources that have said nothing and have nothing on disk.
// late is who is no longer waited for, told once.
func (g *Gate) Sources(now time.Time, silent []string) (ready bool, late []string) {
	if g.sourcesSpoke {
		return true, nil
	}
	if len(silent) > 0 && now.Sub(g.opened) < SourceGrace {
		return false, nil
	}
	g.sourcesSpoke = true
	return true, silent
}

// Peers is the same for the peers of whom nothing is known. Only the table waits for
// them: what is told to peers is of the own cluster.
func (g *Gate) Peers(now time.Time, silent []string) (ready bool, late []string) {
	if g.peersSpoke {
		return true, nil
	}
	awaited, since := silent, g.lostAt
	if !g.lost {
		since = g.opened
		awaited = nil
		for _, name := range silent {
			if slices.Contains(g.peers, name) {
				awaited = append(awaited, name)
			}
		}
	}
	if len(awaited) > 0 && now.Sub(since) < PeerGrace {
		return false, nil
	}
	g.peersSpoke = true
	return true, awaited
}

// Roster is asked with the gateways whose reports are fresh: is that all of them?
func (g *Gate) Roster(now time.Time, fresh []string) bool {
	if g.rosterKnown {
		return true
	}
	missing := slices.ContainsFunc(g.gateways, func(name string) bool { return !slices.Contains(fresh, name) })
	if (missing || len(fresh) == 0) && now.Sub(g.opened) < RosterGrace {
		return false
	}
	g.rosterKnown = true
	return true
}

// Waits reports whether something is still waited for, which time alone may end.
func (g *Gate) Waits() bool { return !g.sourcesSpoke || !g.peersSpoke || !g.rosterKnown }
