package exec

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// lineBudget is how much of endpoints goes into a line: far enough below MaxLine
// for the largest single endpoint and the service's own fields.
const lineBudget = MaxLine / 2

// Writer prints the protocol: a full list first, then what changed. After an
// error it is of no use any more. It is not safe for concurrent use.
type Writer struct {
	w       *bufio.Writer
	greeted bool
	last    *catalog.Snapshot
	full    bool
	err     error
}

// NewWriter prints to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriter(w)} }

// Publish prints a snapshot: as a full list at first and after Full, else what
// changed, or that nothing did.
func (w *Writer) Publish(s *catalog.Snapshot) error {
	full := w.full || w.last == nil
	var d catalog.Delta
	if full {
		d = catalog.Diff(nil, s)
	} else if d = catalog.Diff(w.last, s); d.IsEmpty() {
		return w.Unchanged()
	}
	w.put(&message{Begin: &beginMessage{Full: full}})
	for _, svc := range d.Upserts {
		w.service(svc)
	}
	for _, name := range d.Removes {
		w.put(&message{Remove: &name})
	}
	w.put(&message{Commit: &commitMessage{Services: s.Len(), Endpoints: s.EndpointCount()}})
	w.last, w.full = s, false
	return w.flush()
}

// Full makes the next Publish a full list.
func (w *Writer) Full() { w.full = true }

// Unchanged prints that everything was read again and is as it was published; it
// is also a sign of life. Before the first Publish it does nothing.
func (w *Writer) Unchanged() error {
	if w.last == nil {
		return nil
	}
	w.put(&message{Unchanged: &struct{}{}})
	return w.flush()
}

// Fail prints that a read failed.
func (w *Writer) Fail(err error) error {
	w.put(&message{Error: &errorMessage{Message: err.Error()}})
	return w.flush()
}

// service prints a service, in several lines where its endpoints are many.
func (w *Writer) service(s *catalog.Service) {
	rest := s.Endpoints
	head := *s
	head.Endpoints, rest = take(rest)
	w.put(&message{Service: &head})
	for len(rest) > 0 {
		var some []catalog.Endpoint
		some, rest = take(rest)
		w.put(&message{Endpoints: &endpointsMessage{Service: s.Name, Endpoints: some}})
	}
}

// take cuts off as many endpoints as fit in a line, at least one.
func take(all []catalog.Endpoint) (some, rest []catalog.Endpoint) {
	size := 0
	for i, e := range all {
		// Fields are far below 512 bytes but for these; JSON may take six bytes for one.
		n := 512 + 6*len(e.ID) + len(e.ServerID)
		for k, v := range e.Labels {
			n += 6*len(v) + len(k) + 8
		}
		if size += n; size > lineBudget && i > 0 {
			return all[:i], all[i:]
		}
	}
	return all, nil
}

// put prints one line; errors are for flush.
func (w *Writer) put(m *message) {
	if !w.greeted {
		w.greeted = true
		w.put(&message{Hello: &helloMessage{Version: Version}})
	}
	line, err := json.Marshal(m)
	if err != nil {
		w.err = fmt.Errorf("exec: encode a message: %w", err)
		return
	}
	_, _ = w.w.Write(line)  // bufio keeps its first error for Flush
	_ = w.w.WriteByte('\n') // as above
}

func (w *Writer) flush() error {
	if w.err != nil {
		return w.err
	}
	return w.w.Flush()
}
