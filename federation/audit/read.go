package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// scanBytes is how much of the log one page may cost: with a filter that lets
	// little through a page is short, and says where to go on.
	scanBytes = 16 << 20
	// blockBytes are read at a time.
	blockBytes = 1 << 20
)

// Position is a place between two entries: the bytes of a file before it. The
// zero Position is the end of the log.
type Position struct {
	File   uint64 // the file's first sequence
	Offset int64
}

// ErrPosition means that there is no such place, or no more.
var ErrPosition = errors.New("no such place in the audit log")

// Page returns at most limit entries before from, newest first, for which keep
// (nil: all) says yes, and the place to go on from; the zero Position where there
// is nothing before. Lines that do not verify are left out: Verify tells of them.
func (l *Log) Page(ctx context.Context, from Position, limit int, keep func(*Entry) bool) ([]Entry, Position, error) {
	files := l.snapshot()
	at, end := len(files)-1, int64(0)
	if from == (Position{}) {
		if at >= 0 {
			end = files[at].size
		}
	} else {
		for at >= 0 && files[at].first != from.File {
			at--
		}
		if at < 0 || from.Offset < 0 || from.Offset > files[at].size {
			return nil, Position{}, fmt.Errorf("audit: %w", ErrPosition)
		}
		end = from.Offset
	}
	var out []Entry
	budget := int64(scanBytes)
	for ; at >= 0; at-- {
		for end > 0 {
			if ctx.Err() != nil {
				return nil, Position{}, context.Cause(ctx)
			}
			if budget <= 0 {
				return out, Position{File: files[at].first, Offset: end}, nil
			}
			block, start, err := readBefore(files[at], end)
			if err != nil {
				return nil, Position{}, fmt.Errorf("audit: %w", err)
			}
			budget -= int64(len(block))
			for len(block) > 0 {
				line := block[bytes.LastIndexByte(block[:len(block)-1], '\n')+1:]
				if e, err := decode(bytes.TrimSuffix(line, []byte("\n"))); err == nil && (keep == nil || keep(&e)) {
					if len(out) == limit {
						return out, Position{File: files[at].first, Offset: start + int64(len(block))}, nil
					}
					out = append(out, e)
				}
				block = block[:len(block)-len(line)]
			}
			end = start
		}
		if at > 0 {
			end = files[at-1].size
		}
	}
	return out, Position{}, nil
}

// readBefore reads whole lines that end at end, and where they begin.
func readBefore(f file, end int64) (block []byte, start int64, err error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = r.Close() }()
	start = max(0, end-blockBytes)
	block = make([]byte, end-start)
	if _, err := r.ReadAt(block, start); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	if start > 0 {
		// The first line is perhaps a part of one; the block holds many.
		cut := bytes.IndexByte(block, '\n') + 1
		if cut == 0 || cut == len(block) {
			return nil, max(0, start), nil // no line fits: damage, which is skipped
		}
		block, start = block[cut:], start+int64(cut)
	}
	return block, start, nil
}
