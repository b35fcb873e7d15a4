package audit

import "github.com/isthmus-mesh/isthmus/internal/durable"

// SetOut replaces the file that entries are written to, and returns the one
// before.
func (l *Log) SetOut(f *durable.File) (before *durable.File) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	before, l.out = l.out, f
	return before
}

// Decode reads a line.
func Decode(line []byte) (Entry, error) { return decode(line) }

// Encode writes one.
func Encode(e Entry) ([]byte, Entry, error) { return encode(e) }
