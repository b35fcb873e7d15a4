package client

import (
	"encoding/json"
	"errors"
	"io"
)

// errLineTooLong means that one value of a stream exceeds its bound.
var errLineTooLong = errors.New("line exceeds its bound")

// lineReader reads a stream of JSON values, each of at most limit bytes (and
// what the decoder reads ahead).
type lineReader struct {
	dec    *json.Decoder
	budget *budgetReader
	limit  int64
}

func newLineReader(r io.Reader, limit int64) *lineReader {
	b := &budgetReader{r: r}
	return &lineReader{dec: json.NewDecoder(b), budget: b, limit: limit}
}

func (l *lineReader) next(into any) error {
	l.budget.left = l.limit
	if err := l.dec.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF // a stream has no end of its own
		}
		return err
	}
	return nil
}

type budgetReader struct {
	r    io.Reader
	left int64
}

func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLineTooLong
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
