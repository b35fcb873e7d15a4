package client

import (
	"encoding/json"
	"io"
)

// ReadLines reads a stream as Gateway and Watch do, and returns the sizes of its
// values and why it ended.
func ReadLines(r io.Reader, limit int64) (sizes []int, err error) {
	lines := newLineReader(r, limit)
	for {
		var v json.RawMessage
		if err := lines.next(&v); err != nil {
			return sizes, err
		}
		sizes = append(sizes, len(v))
	}
}
