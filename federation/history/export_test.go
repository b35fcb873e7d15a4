package history

import (
	"context"

	"github.com/isthmus-mesh/isthmus/federation/store"
)

// Compact drops the oldest records where there are too many.
func (l *Log) Compact(ctx context.Context) error { return l.compactNow(ctx) }

// First and Last are where the chain begins and ends.
func (l *Log) First() uint64 { _, h := l.snapshot(); return h.First }

// Last is the sequence of the last record.
func (l *Log) Last() uint64 { _, h := l.snapshot(); return h.Sequence }

// Decode reads a stored record.
func Decode(item store.Item) (*Record, error) { return decode(item) }

// Encode is what is stored of a record.
func (r *Record) Encode() ([]byte, error) { return r.encode() }
