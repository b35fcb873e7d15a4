package exchange

import (
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// SetAll is Set for several peers at once. Peers whose Services are one and the
// same slice share what is kept of it, so that a change of it is worked out and
// written once; the slice is not changed afterwards. The errors are those of the
// peers that go on being told the services that they were told.
func (e *Exporter) SetAll(states map[catalog.ClusterName]State) map[catalog.ClusterName]error {
	defer e.rouse()
	e.mu.Lock()
	defer e.mu.Unlock()
	errs := make(map[catalog.ClusterName]error)
	before := e.singles
	e.singles = make(map[ownName]*singles, len(before))
	moves := make(map[move][]*told)
	var order []move // by the first peer's name, so that what is shared depends on no map
	for _, peer := range slices.Sorted(maps.Keys(states)) {
		s, t := states[peer], e.told[peer]
		if t == nil {
			t = &told{peer: peer, explains: newBucket(explainsPerSecond, explainBurst)}
		}
		t.next = s
		t.own, t.labels = nameOfOwn(s), s.Labels
		if e.singles[t.own] == nil {
			if e.singles[t.own] = before[t.own]; before[t.own] == nil {
				made := new(singles)
				made.entries, made.err = singleEntries(s, e.opts.Limits)
				e.singles[t.own] = made
			}
		}
		m := move{from: t.list(), to: nameOf(s.Services)}
		if moves[m] == nil {
			order = append(order, m)
		}
		moves[m] = append(moves[m], t)
	}
	for _, m := range order {
		e.move(m, moves[m], errs)
	}
	return errs
}

// move is that of peers from one list (nil: none) to one content.
type move struct {
	from *list
	to   sliceName
}

// singles are the entries of what is said beside services: mostly all peers are
// told the same, and the same again.
type singles struct {
	entries []*entry
	err     error
}

// ownName tells what is said beside services apart without a look at it.
type ownName struct {
	gateways  *catalog.Gateway
	conflicts *merge.Conflict
	bundle    *byte
	lens      [3]int
	none      bool // no bundle, which is not an empty one
}

func nameOfOwn(s State) ownName {
	return ownName{
		gateways: firstOf(s.Gateways), conflicts: firstOf(s.Conflicts), bundle: firstOf(s.Bundle),
		lens: [3]int{len(s.Gateways), len(s.Conflicts), len(s.Bundle)}, none: s.Bundle == nil,
	}
}

func firstOf[T any](list []T) *T {
	if len(list) == 0 {
		return nil
	}
	return &list[0]
}

// sliceName tells slices of pointers apart without a look at their content.
type sliceName struct {
	first **catalog.Summary
	n     int
}

func nameOf(s []*catalog.Summary) sliceName {
	if len(s) == 0 {
		return sliceName{}
	}
	return sliceName{&s[0], len(s)}
}

// list is what the peer is told services of, nil before its first Set.
func (t *told) list() *list {
	if t.feed == nil {
		return nil
	}
	return t.feed.list
}

// move puts the next state of peers that are told the same in force. A peer whose
// state is refused goes on being told what it was.
func (e *Exporter) move(m move, peers []*told, errs map[catalog.ClusterName]error) {
	services := peers[0].next.Services
	l, owners := e.owned(m)
	c, err := l.prepare(services, e.opts.Limits)
	own := make(map[*told][]*entry, len(peers))
	for _, t := range peers {
		var entries []*entry
		fault := err
		said := e.singles[t.own]
		if fault == nil {
			fault = said.err
		}
		if fault == nil {
			entries, fault = t.feed.prepareOwn(said.entries, c.totals, e.opts.Limits)
		}
		if t.next = (State{}); fault != nil {
			errs[t.peer] = fmt.Errorf("export to %s: %w", t.peer, fault)
			continue
		}
		own[t] = entries
	}
	if len(own) == 0 {
		return
	}
	if owners > len(own) && c.news {
		l = l.clone() // others go on being told what it was
	}
	l.apply(c)
	l.given = m.to
	for _, t := range peers {
		if entries, ok := own[t]; ok {
			e.take(t, l, entries)
		}
	}
}

// owned is the list that a move begins with, and how many peers are told it: new
// peers are told what others are told.
func (e *Exporter) owned(m move) (l *list, owners int) {
	if l = m.from; l == nil {
		for _, t := range e.told {
			if m.to.n > 0 && t.feed.list.given == m.to {
				l = t.feed.list
				break
			}
		}
	}
	if l == nil {
		return newList(), 0
	}
	for _, t := range e.told {
		if t.feed.list == l {
			owners++
		}
	}
	return l, owners
}

// take makes services and entries what a peer is told.
func (e *Exporter) take(t *told, l *list, entries []*entry) {
	if t.feed == nil {
		epoch, err := e.firstEpoch(t.peer)
		if err != nil {
			return // told nothing; tried again with the next Set
		}
		t.feed = newFeed(e.opts.Cluster, epoch)
		e.told[t.peer] = t
	}
	before := t.feed.listed()
	t.feed.list = l
	relabelled := t.feed.label(t.labels)
	if t.feed.advance(before != l.version || relabelled, entries) {
		e.announce(t.peer, t)
	}
}

// listed is the version of the list that the feed has told of.
func (f *feed) listed() uint64 {
	if len(f.marks) == 0 {
		return 0
	}
	return f.marks[len(f.marks)-1].list
}

// Listeners counts the streams of all peers: a change that all are told is
// written so many times, which an owner can set the pace by.
func (e *Exporter) Listeners() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.watches
}
