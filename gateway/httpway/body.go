package httpway

import (
	"errors"
	"io"
	"sync"

	"github.com/isthmus-mesh/isthmus/gateway/strict"
)

// MaxReplay bounds how much of a request's body is kept for another attempt.
const MaxReplay = 64 << 10

// bodyPiece is how much is read at a time while the body is kept.
const bodyPiece = 8 << 10

var errSuperseded = errors.New("body belongs to a later attempt")

// body is a request's body that several attempts read one after another. An
// attempt that failed may still sit in a Read of the caller's connection; what it
// gets then belongs to the attempt after it, not to nobody.
type body struct {
	src io.Reader

	mu      sync.Mutex
	wait    *sync.Cond
	kept    []byte // all that was read, while it is kept
	err     error  // how the source ended
	reading bool   // somebody is in src.Read
	lost    bool   // more than MaxReplay was read, or the answer is here
	current int    // the attempt that may read
	taken   func() // called when the source has ended
}

func newBody(src io.Reader) *body {
	b := &body{src: src}
	b.wait = sync.NewCond(&b.mu)
	return b
}

// attempt returns the body from its start, for one attempt; those before it get
// nothing more.
func (b *body) attempt() io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current++
	b.wait.Broadcast()
	return &bodyReader{body: b, attempt: b.current}
}

// replayable reports whether another attempt can have all of it.
func (b *body) replayable() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.lost
}

// whole reports whether the source has ended.
func (b *body) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil
}

// violation is what in the body was not strict HTTP; nil for a body that is, as far
// as it was read.
func (b *body) violation() *strict.Error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e, _ := errors.AsType[*strict.Error](b.err)
	return e
}

// release says that there will be no other attempt.
func (b *body) release() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = true
}

// bodyReader is one attempt's view.
type bodyReader struct {
	body    *body
	attempt int
	off     int
}

// Read implements io.Reader.
func (r *bodyReader) Read(p []byte) (int, error) {
	b := r.body
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case r.attempt != b.current:
			return 0, errSuperseded
		case r.off < len(b.kept):
			n := copy(p, b.kept[r.off:])
			r.off += n
			return n, nil
		case b.err != nil:
			return 0, b.err
		case b.reading:
			b.wait.Wait()
		case b.lost:
			b.kept, r.off = nil, 0
			return b.direct(p)
		default:
			b.fill()
		}
	}
}

// Close implements io.Closer. The caller's body is closed by its server.
func (r *bodyReader) Close() error { return nil }

// fill reads a piece into what is kept. b.mu is held, but not while reading.
func (b *body) fill() {
	if free := cap(b.kept) - len(b.kept); free < bodyPiece {
		grown := make([]byte, len(b.kept), max(2*cap(b.kept), len(b.kept)+bodyPiece))
		copy(grown, b.kept)
		b.kept = grown
	}
	// Only the reader writes behind the length, and there is one.
	space := b.kept[len(b.kept):cap(b.kept)]
	n, err := b.read(space)
	b.kept = b.kept[:len(b.kept)+n]
	b.err = err
	if len(b.kept) > MaxReplay {
		b.lost = true
	}
}

func (b *body) direct(p []byte) (int, error) {
	n, err := b.read(p)
	b.err = err
	return n, err
}

func (b *body) read(p []byte) (int, error) {
	b.reading = true
	b.mu.Unlock()
	n, err := b.src.Read(p)
	b.mu.Lock()
	if err != nil && b.taken != nil {
		b.taken()
	}
	b.reading = false
	b.wait.Broadcast()
	return n, err
}
