package exchange

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// lineBuffer gathers the lines of a batch; each stream has one at either end, for
	// as long as it lasts.
	lineBuffer = 16 << 10
	// streamType is the type of a stream of lines.
	streamType = "application/x-ndjson"
)

// wayOut is where the lines of a stream go.
type wayOut interface {
	io.Writer
	Flush() error
	// cut ends a write that goes on, and those to come.
	cut()
}

// answer is the way out by the answer to a request.
type answer struct {
	http.ResponseWriter
	rc *http.ResponseController
}

// Flush sends what is written.
func (a *answer) Flush() error {
	if err := a.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (a *answer) cut() { _ = a.rc.SetWriteDeadline(time.Unix(1, 0)) }

// lineWriter writes events to a client that may read slowly, but reads.
type lineWriter struct {
	w    wayOut
	buf  *bufio.Writer
	line []byte // room for one

	// stall ends the stream when a write takes writeTimeout. A deadline of each
	// write would be a message to the connection's goroutine each time.
	stall    *time.Timer
	mu       sync.Mutex
	released bool
}

func newLineWriter(w wayOut) *lineWriter {
	l := &lineWriter{w: w}
	l.buf = bufio.NewWriterSize(l, lineBuffer)
	l.stall = time.AfterFunc(writeTimeout, l.cut)
	l.stall.Stop()
	return l
}

// cut ends a write that goes on.
func (l *lineWriter) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.released { // the answer is no longer ours then
		l.w.cut()
	}
}

// Write is the buffer's way out: each chunk has its own time.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.stall.Reset(writeTimeout)
	defer l.stall.Stop()
	return l.w.Write(p)
}

// release gives the answer back: its connection may serve another request.
func (l *lineWriter) release() {
	l.stall.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released = true
}

func (l *lineWriter) write(e *Event) (err error) {
	if l.line, err = e.append(l.line[:0]); err != nil {
		return fmt.Errorf("event %s: %w", e.Type, err)
	}
	_, err = l.buf.Write(l.line)
	return err
}

// batch writes a batch; the lines of services are there already.
func (l *lineWriter) batch(o *outgoing) error {
	if o.whole != nil {
		_, err := l.buf.Write(o.whole)
		return err
	}
	for ev := range o.head {
		if err := l.write(ev); err != nil {
			return err
		}
	}
	if o.body != nil {
		if _, err := l.buf.Write(o.body); err != nil {
			return err
		}
		return l.write(&o.sync)
	}
	for _, e := range o.entries {
		if _, err := l.buf.Write(e.line); err != nil {
			return err
		}
	}
	return l.write(&o.sync)
}

func (l *lineWriter) flush() error {
	if err := l.buf.Flush(); err != nil {
		return err
	}
	l.stall.Reset(writeTimeout)
	defer l.stall.Stop()
	return l.w.Flush()
}
