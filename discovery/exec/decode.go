package exec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// EventKind is what a Decoder has read.
type EventKind int

// The kinds of events.
const (
	// Committed: Event.Snapshot replaces the one before.
	Committed EventKind = iota + 1
	// Unchanged: a complete read found the last commit again; Event.Snapshot is it.
	Unchanged
	// Failed: Event.Err says why a read failed; the last commit stays.
	Failed
)

// Event is one thing that a child said.
type Event struct {
	Kind     EventKind
	Snapshot *catalog.Snapshot
	Err      error
}

// ProtocolError is a line that breaks the protocol.
type ProtocolError struct {
	// Line counts from 1.
	Line int
	Err  error
}

// Error names the line.
func (e *ProtocolError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns what is wrong with the line.
func (e *ProtocolError) Unwrap() error { return e.Err }

// Decoder reads the protocol. It is not safe for concurrent use.
type Decoder struct {
	r    *bufio.Reader
	name string
	line int
	// greeted is set after hello.
	greeted bool
	tx      *transaction
	last    *catalog.Snapshot
}

// transaction is what stands between begin and commit.
type transaction struct {
	full    bool
	puts    map[catalog.ServiceName]*catalog.Service
	order   []*catalog.Service
	removes map[catalog.ServiceName]bool
	bytes   int
}

// NewDecoder reads from r; the snapshots are of the source name.
func NewDecoder(r io.Reader, name string) *Decoder {
	return &Decoder{r: bufio.NewReaderSize(r, MaxLine), name: name}
}

// Next returns the next event. After an error (io.EOF, a *ProtocolError) the
// stream is of no use any more; what was committed before is.
func (d *Decoder) Next() (Event, error) {
	for {
		line, err := d.readLine()
		if err != nil {
			return Event{}, err
		}
		if len(line) == 0 {
			continue
		}
		m, err := parseMessage(line)
		if err != nil {
			return Event{}, d.broken(err)
		}
		event, err := d.take(m, len(line))
		if err != nil {
			return Event{}, d.broken(err)
		}
		if event.Kind != 0 {
			return event, nil
		}
	}
}

func (d *Decoder) broken(err error) error { return &ProtocolError{Line: d.line, Err: err} }

// readLine returns the next line without its end. It is valid until the next call.
func (d *Decoder) readLine() ([]byte, error) {
	line, err := d.r.ReadSlice('\n')
	d.line++
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, d.broken(fmt.Errorf("is longer than %d bytes", MaxLine))
	case errors.Is(err, io.EOF) && (len(line) > 0 || d.tx != nil):
		return nil, io.ErrUnexpectedEOF // a line or a list that was cut
	case err != nil:
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// take applies one message; the event's kind is 0 where there is none yet.
func (d *Decoder) take(m *message, size int) (Event, error) {
	if !d.greeted && m.Hello == nil {
		return Event{}, errors.New("the first message must be hello")
	}
	if d.tx != nil {
		if d.tx.bytes += size; d.tx.bytes > MaxTransaction {
			return Event{}, fmt.Errorf("more than %d bytes without a commit", MaxTransaction)
		}
	}
	switch {
	case m.Hello != nil:
		return Event{}, d.hello(m.Hello)
	case m.Begin != nil:
		return Event{}, d.begin(m.Begin)
	case m.Error != nil:
		d.tx = nil
		text := m.Error.Message
		if len(text) > maxMessage {
			text = text[:maxMessage] + "..."
		}
		return Event{Kind: Failed, Err: fmt.Errorf("the command reports: %s", text)}, nil
	case m.Unchanged != nil:
		if d.tx != nil || d.last == nil {
			return Event{}, errors.New("unchanged must stand after a commit, not inside of a list")
		}
		return Event{Kind: Unchanged, Snapshot: d.last}, nil
	case m.Reread != nil:
		return Event{}, errors.New("reread is the parent's word")
	case d.tx == nil:
		return Event{}, errors.New("service, endpoints, remove and commit need a begin")
	case m.Service != nil:
		return Event{}, d.tx.put(m.Service)
	case m.Endpoints != nil:
		return Event{}, d.tx.more(m.Endpoints)
	case m.Remove != nil:
		return Event{}, d.tx.remove(*m.Remove)
	default:
		return d.commit(m.Commit)
	}
}

func (d *Decoder) hello(m *helloMessage) error {
	if d.greeted {
		return errors.New("hello is said once")
	}
	if m.Version != Version {
		return fmt.Errorf("the command speaks version %d of the protocol, this process version %d", m.Version, Version)
	}
	d.greeted = true
	return nil
}

func (d *Decoder) begin(m *beginMessage) error {
	switch {
	case d.tx != nil:
		return errors.New("begin stands inside of a list that was not committed")
	case !m.Full && d.last == nil:
		return errors.New("the first list must be full")
	}
	d.tx = &transaction{full: m.Full, puts: map[catalog.ServiceName]*catalog.Service{}, removes: map[catalog.ServiceName]bool{}}
	return nil
}

func (t *transaction) put(s *catalog.Service) error {
	if t.puts[s.Name] != nil || t.removes[s.Name] {
		return fmt.Errorf("service %s is named twice", s.Name)
	}
	if len(t.order) >= catalog.MaxServices {
		return fmt.Errorf("more than %d services", catalog.MaxServices)
	}
	t.puts[s.Name] = s
	t.order = append(t.order, s)
	return nil
}

func (t *transaction) more(m *endpointsMessage) error {
	s := t.puts[m.Service]
	if s == nil {
		return fmt.Errorf("endpoints of %s, which was not put since begin", m.Service)
	}
	s.Endpoints = append(s.Endpoints, m.Endpoints...)
	return nil
}

func (t *transaction) remove(name catalog.ServiceName) error {
	switch {
	case t.full:
		return errors.New("a full list removes nothing")
	case t.puts[name] != nil || t.removes[name]:
		return fmt.Errorf("service %s is named twice", name)
	}
	t.removes[name] = true
	return nil
}

// commit builds the snapshot; what equals the one before is shared with it.
func (d *Decoder) commit(m *commitMessage) (Event, error) {
	tx := d.tx
	d.tx = nil
	var next *catalog.Snapshot
	var err error
	if tx.full {
		if next, err = catalog.NewSnapshot(d.name, tx.order); err == nil && d.last != nil {
			delta := catalog.Diff(d.last, next)
			next, err = d.last.With(delta.Upserts, delta.Removes)
		}
	} else {
		removes := make([]catalog.ServiceName, 0, len(tx.removes))
		for name := range tx.removes {
			removes = append(removes, name)
		}
		next, err = d.last.With(tx.order, removes)
	}
	if err != nil {
		return Event{}, err
	}
	if next.Len() != m.Services || next.EndpointCount() != m.Endpoints {
		return Event{}, fmt.Errorf("commit says %d services and %d endpoints, there are %d and %d: a line was lost",
			m.Services, m.Endpoints, next.Len(), next.EndpointCount())
	}
	d.last = next
	return Event{Kind: Committed, Snapshot: next}, nil
}
