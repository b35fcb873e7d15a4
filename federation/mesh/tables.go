package mesh

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// maxLogBytes bounds the patches that are kept for gateways that lag: what
	// lags more gets a full one.
	maxLogBytes = 64 << 20
	// maxLogSteps bounds their number: a minute of changes without a pause.
	maxLogSteps = 1024
)

// tables holds the current table, and the last patches, encoded once for all
// gateways. There is no queue: a gateway that was busy gets what it lacks.
type tables struct {
	mu      sync.Mutex
	state   *state         // nil before the first table
	edition *route.Edition // the state's
	at      position
	log     []step // of one epoch, each leads to the next
	bytes   int    // of log
	full    *fullCopy
	whole   *wholeCopy
	changed chan struct{}
}

// step is one patch as it is sent.
type step struct {
	from, to uint64
	lines    [][]byte
	bytes    int
}

// position orders tables.
type position struct{ epoch, version uint64 }

func (p position) before(o position) bool {
	return p.epoch < o.epoch || (p.epoch == o.epoch && p.version < o.version)
}

func newTables() *tables { return &tables{changed: make(chan struct{})} }

// publish makes a table the current one. It costs what has changed since the
// table before, and a look at everything at the first and after a new epoch.
func (t *tables) publish(e *route.Edition) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	table := e.Head()
	if t.state == nil || t.at.epoch != table.Epoch || t.at.version >= table.Version {
		s, err := stateOf(e)
		if err != nil {
			return fmt.Errorf("table: %w", err)
		}
		t.state, t.log, t.bytes = s, nil, 0
	} else if err := t.advance(e); err != nil {
		t.state, t.log, t.bytes, t.at = nil, nil, 0, position{} // until the next one
		return fmt.Errorf("table: %w", err)
	}
	t.at, t.edition = position{table.Epoch, table.Version}, e
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

func (t *tables) advance(e *route.Edition) error {
	p, err := t.state.advance(e)
	if err != nil {
		return err
	}
	s := step{from: p.Since, to: p.Version}
	if s.lines, err = p.lines(); err != nil {
		return err
	}
	for _, l := range s.lines {
		s.bytes += len(l)
	}
	t.log = append(t.log, s)
	for t.bytes += s.bytes; len(t.log) > 0 && (t.bytes > maxLogBytes || len(t.log) > maxLogSteps); {
		t.bytes -= t.log[0].bytes
		t.log[0].lines = nil // the rest of the array may live on
		t.log = t.log[1:]
	}
	return nil
}

// position returns that of the current table, and a channel that is closed when
// it is no longer the current one.
func (t *tables) position() (position, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at, t.changed
}

// patches returns the lines that lead from have to the current table; false
// where they are not kept.
func (t *tables) patches(have position) (lines [][]byte, to position, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if have.epoch != t.at.epoch || len(t.log) == 0 || have.version < t.log[0].from {
		return nil, t.at, false
	}
	for _, s := range t.log {
		switch {
		case s.from == have.version:
			have.version = s.to
			lines = append(lines, s.lines...)
		case s.from > have.version:
			return nil, t.at, false // a version that was never published
		}
	}
	return lines, have, have == t.at
}

// fullCopy is a full patch, encoded by the first gateway that needs it, and let
// go after the last.
type fullCopy struct {
	at    position
	users int
	once  sync.Once
	state state
	lines [][]byte
	err   error
}

// open returns the lines of the current table's full patch, and what to call
// when they are no longer needed.
func (t *tables) open() (lines [][]byte, at position, done func(), err error) {
	t.mu.Lock()
	if t.state == nil {
		t.mu.Unlock()
		return nil, position{}, func() {}, nil
	}
	f := t.full
	if f == nil || f.at != t.at && !t.leadsOn(f.at) {
		f = &fullCopy{at: t.at, state: state{table: t.state.table, rows: t.state.rows, sum: t.state.sum}}
		t.full = f
	}
	f.users++
	t.mu.Unlock()
	f.once.Do(func() {
		var p *Patch
		if p, f.err = f.state.fullPatch(); f.err == nil {
			f.lines, f.err = p.lines()
		}
	})
	return f.lines, f.at, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if f.users--; f.users == 0 && t.full == f {
			t.full = nil
		}
	}, f.err
}

// leadsOn reports whether the log leads on from a position.
func (t *tables) leadsOn(from position) bool {
	return from.epoch == t.at.epoch && len(t.log) > 0 && from.version >= t.log[0].from
}

// wholeCopy is the current table as one line, for gateways that take no patches.
type wholeCopy struct {
	at   position
	line []byte
}

// line returns the current table as one line; nil before the first.
func (t *tables) line() ([]byte, position, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == nil {
		return nil, position{}, nil
	}
	if t.whole != nil && t.whole.at == t.at {
		return t.whole.line, t.at, nil
	}
	line, err := json.Marshal(TableLine{Table: t.edition.Table()})
	if err != nil {
		return nil, t.at, fmt.Errorf("table: %w", err)
	}
	if len(line) >= MaxTableBytes {
		return nil, t.at, fmt.Errorf("table: %d bytes, at most %d", len(line), MaxTableBytes)
	}
	t.whole = &wholeCopy{at: t.at, line: append(line, '\n')}
	return t.whole.line, t.at, nil
}
