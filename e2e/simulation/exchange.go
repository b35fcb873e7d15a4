package simulation

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// The rhythms of the exchange that have no constant of their own there.
const (
	batchGap     = 150 * time.Millisecond
	silence      = 3 * exchange.HeartbeatEvery
	stableAfter  = time.Minute
	answerWithin = 5 * time.Second
)

// listener follows one peer: the product's Applier, fed by a modelled stream.
type listener struct {
	fed     *federation
	peer    *cluster
	applier *exchange.Applier
	heard   time.Duration // -1 is never
	leased  time.Duration
	lost    bool
	over    bool
	attempt int
	turn    int // voids what waits
	watch   *watch
	synced  time.Duration // of this stream; 0 is not yet
	keeping bool
	// sent are lines that came once, which a fault sends again.
	sent [][]byte
}

func newListener(f *federation, peer *cluster) *listener {
	l := &listener{fed: f, peer: peer, heard: -1, leased: f.now}
	l.applier = f.s.seams.applier(l.options())
	if kept := f.disk.kept[peer.name]; kept != nil {
		if _, err := l.applier.Restore(kept); err != nil {
			panic(err)
		}
	}
	at := l.applier.Snapshot().Position()
	f.say(f.name, "remembers (%d, %d) of %s with %d services", at.Epoch, at.Version, peer.name, len(l.applier.Snapshot().Services()))
	f.s.oracle.listens(l)
	l.turn++
	f.after(f.between(0, 50*time.Millisecond), l.connect(l.turn))
	return l
}

func (l *listener) options() exchange.ApplierOptions {
	return exchange.ApplierOptions{Cluster: l.peer.name, ID: spiffeid.RequireFromString(l.peer.id)}
}

// entry is the peer in the route table.
func (l *listener) entry() route.Peer {
	e := route.Peer{
		Name: l.peer.name, ID: l.peer.id, Locality: l.peer.locality, Gateways: l.applier.Snapshot().Gateways(),
		Asserts: asserts(l.peer), ControlLost: l.lost, HeardAt: zero.Add(max(0, l.heard)),
	}
	if len(e.Gateways) == 0 {
		for _, g := range l.peer.gateways {
			e.Gateways = append(e.Gateways, catalog.Gateway{Addresses: []string{g.address()}})
		}
	}
	return e
}

// connect opens a stream through a link of one of the own gateways.
func (l *listener) connect(turn int) func() {
	return func() {
		if l.over || l.turn != turn || l.watch != nil {
			return
		}
		f := l.fed
		have, full := l.applier.Connected()
		e := l.way()
		if e == nil {
			l.again(errors.New("no link"))
			return
		}
		w := &watch{to: l, from: l.peer.fed, end: e, sent: have, full: full, asked: full, first: true, there: pipe{from: e}, back: pipe{from: e.far}}
		l.watch, l.synced = w, 0
		f.say(f.name, "asks %s over %s for what follows (%d, %d)", l.peer.name, e.gateway.name, have.Epoch, have.Version)
		w.doneNear = e.carries(func(wire.Status) { w.cut() })
		w.doneFar = e.far.carries(func(wire.Status) { w.leave() })
		w.there.send(func() {
			far := w.from
			far.after(localDelay, func() { w.open() })
		})
		f.after(answerWithin, func() {
			if l.watch == w && !w.opened {
				w.cut()
			}
		})
		w.heardFrom()
	}
}

// way is a link to the peer that a fresh gateway has.
func (l *listener) way() *end {
	var ends []*end
	for _, g := range l.fed.fresh() {
		if !g.up || l.fed.home.parted[g] {
			continue
		}
		for _, e := range g.ends {
			if e.far.gateway.home == l.peer {
				ends = append(ends, e)
			}
		}
	}
	if len(ends) == 0 {
		return nil
	}
	return pick(l.fed.engine, ends)
}

// again waits before the next attempt.
func (l *listener) again(err error) {
	f := l.fed
	f.say(f.name, "exchange with %s: %v", l.peer.name, err)
	l.turn++
	f.after(exchange.Backoff(l.attempt, f.rng.Float64()), l.connect(l.turn))
	l.attempt++
}

// nudge ends the wait: there is a link again.
func (l *listener) nudge() {
	if l.watch == nil && !l.over {
		l.turn++
		l.connect(l.turn)()
	}
}

// drop ends the stream without another.
func (l *listener) drop() {
	l.turn++
	if w := l.watch; w != nil {
		l.watch = nil
		w.end_()
	}
}

// take applies lines that have come.
func (l *listener) take(lines []byte) error {
	f := l.fed
	for line := range bytes.Lines(lines) {
		before := l.applier.Snapshot()
		effect, err := f.s.seams.apply(l, bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			return err
		}
		l.heard, l.leased = f.now, f.now
		if l.lost {
			l.lost = false
			f.touch()
		}
		if effect.Synced && l.synced == 0 {
			l.synced = f.now
		}
		if after := l.applier.Snapshot(); after != before {
			f.note(f.name, "applies "+string(l.peer.name), after.Position().Epoch<<32|after.Position().Version)
			f.mixText(after.Digest())
			f.s.oracle.listenerApplied(l)
			f.touch()
			l.keep()
		}
	}
	return nil
}

// keep writes the last good state, a while later.
func (l *listener) keep() {
	if l.keeping {
		return
	}
	l.keeping = true
	f := l.fed
	f.after(2*time.Second, func() {
		l.keeping = false
		if data, err := l.applier.Kept(f.clock()); err == nil && !l.over {
			f.disk.kept[l.peer.name] = data
		}
	})
}

// lease marks the peer's control plane as lost when it has been silent.
func (l *listener) lease() {
	if !l.lost && l.fed.now-l.leased >= exchange.Lease {
		l.lost = true
		l.fed.note(l.fed.name, "control lost of "+string(l.peer.name), 0)
		l.fed.touch()
	}
}

// watch is a stream between two federations, at both ends.
type watch struct {
	to                *listener
	from              *federation
	end               *end
	there, back       pipe
	doneNear, doneFar func()
	opened            bool
	closed, left      bool // for the listener, for the exporter
	sent              exchange.Position
	full, first       bool
	asked             bool // a full list was asked for
	wrote             time.Duration
	due               bool
	heard             int
}

// open is at the exporter: the request has come.
func (w *watch) open() {
	f := w.from
	if w.left {
		return
	}
	if f.peers[w.to.fed.home.name] == nil { // not a peer
		w.cut()
		return
	}
	w.opened = true
	f.watches = append(f.watches, w)
	w.write()
	w.beat()
}

// wake writes what has changed, not more often than the exporter does.
func (w *watch) wake() {
	if w.due || w.left {
		return
	}
	w.due = true
	w.from.at(max(w.from.now, w.wrote+batchGap), func() {
		w.due = false
		if !w.left && w.from.exporter.Position(w.to.fed.home.name) != w.sent {
			w.write()
		}
	})
}

// beat sends a heartbeat in silence.
func (w *watch) beat() {
	w.from.after(exchange.HeartbeatEvery, func() {
		if w.left {
			return
		}
		if w.from.now-w.wrote >= exchange.HeartbeatEvery {
			w.write()
		}
		w.beat()
	})
}

func (w *watch) write() {
	f := w.from
	lines, at, err := f.s.seams.next(w)
	if err != nil {
		w.cut()
		return
	}
	w.sent, w.full, w.first, w.wrote = at, false, false, f.now
	f.s.oracle.wrote(w, at)
	// In pieces, so that a cut may come between any two lines.
	for len(lines) > 0 {
		piece := lines
		if f.chance(0.5) {
			if i := bytes.IndexByte(lines, '\n'); i >= 0 {
				piece = lines[:i+1]
			}
		}
		lines = lines[len(piece):]
		w.back.send(func() { w.to.fed.after(localDelay, func() { w.arrived(piece) }) })
	}
	f.s.oracle.queued(f.name, "exchange stream", len(w.back.waiting), maxStreamQueue)
}

// arrived is at the listener.
func (w *watch) arrived(lines []byte) {
	l := w.to
	if w.closed || l.watch != w {
		return
	}
	w.heardFrom()
	l.sent = append(l.sent, lines)
	if len(l.sent) > 32 {
		l.sent = slices.Delete(l.sent, 0, 16)
	}
	if err := l.take(lines); err != nil {
		w.refused(err)
	}
}

func (w *watch) refused(err error) {
	l := w.to
	if w.closed {
		return
	}
	l.fed.note(l.fed.name, "refuses "+string(l.peer.name), 0)
	if _, full := l.applier.Connected(); full && !w.asked {
		l.attempt = 0 // a full list is asked for, which is something else
	}
	l.watch = nil
	w.end_()
	if l.fed.s.seams.returns(l, err) {
		l.again(err)
	}
}

// heardFrom winds the watchdog up.
func (w *watch) heardFrom() {
	w.heard++
	n := w.heard
	w.to.fed.after(silence, func() {
		if !w.closed && w.heard == n {
			w.cut()
		}
	})
}

// cut ends the stream; the listener comes back.
func (w *watch) cut() {
	if w.closed {
		return
	}
	w.end_()
	l := w.to
	if l.watch != w {
		return
	}
	l.watch = nil
	f := l.fed
	if l.synced != 0 && f.now-l.synced >= stableAfter {
		l.attempt = 0
	}
	if f.up && !l.over {
		f.after(0, func() {
			if l.watch == nil {
				l.again(errors.New("stream ended"))
			}
		})
	}
}

// end_ ends the stream at both ends.
func (w *watch) end_() {
	w.closed = true
	w.doneNear()
	w.doneFar()
	w.leave()
}

// leave ends the exporter's end: the listener's may not know yet.
func (w *watch) leave() {
	w.left = true
	w.from.watches = slices.DeleteFunc(w.from.watches, func(o *watch) bool { return o == w })
}
