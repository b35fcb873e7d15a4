package exchange

import (
	"bufio"
	"bytes"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// What follows runs the two ends of the exchange step by step, without a
// connection between them: for simulations, whose own network carries the lines.

// Next is what a watch of a peer is sent that holds have: the lines of a batch, or
// of a heartbeat where the listener stands where the feed does, and where it stands
// after them. first says that it is the first of its stream, which is a batch in any
// case. The error is what ends the stream: the peer is told nothing yet, or no
// longer.
func (e *Exporter) Next(peer catalog.ClusterName, have Position, full, first bool) (lines []byte, at Position, err error) {
	e.mu.Lock()
	t := e.told[peer]
	e.mu.Unlock()
	if t == nil {
		return nil, Position{}, fmt.Errorf("peer %s: %s", peer, problemNotReady)
	}
	o, at, err := e.lacks(t, have, full, first)
	if err != nil {
		return nil, Position{}, err
	}
	var buf bytes.Buffer
	out := lineWriter{buf: bufio.NewWriter(&buf)}
	if o != nil {
		err = out.batch(o)
	} else {
		e.mu.Lock()
		at = t.feed.at
		beat := t.feed.heartbeat()
		e.mu.Unlock()
		err = out.write(beat)
	}
	if err == nil {
		err = out.buf.Flush()
	}
	return buf.Bytes(), at, err
}

// Kept is the last good state as it is kept on disk, for Restore; nil where there
// is none.
func (a *Applier) Kept(heardAt time.Time) ([]byte, error) {
	if a.snapshot == nil {
		return nil, nil
	}
	return encodeState(a.snapshot, a.opts.ID, heardAt)
}
