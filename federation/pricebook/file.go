package pricebook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/price"
)

// MaxBytes bounds the file of a book.
const MaxBytes = 8 << 20

// Read decodes and checks a book. The error is strictyaml.Problems: every problem,
// with its file, line, field, value and rule.
func Read(file string, data []byte) (*price.Book, error) {
	if len(data) > MaxBytes {
		return nil, strictyaml.Problems{{File: file, Rule: fmt.Sprintf("has %d bytes, at most %d", len(data), MaxBytes)}}
	}
	b := new(price.Book)
	doc, err := strictyaml.Decode(file, data, b)
	problems, _ := errors.AsType[strictyaml.Problems](err)
	if !doc.Unreadable {
		problems = doc.With(problems, b.Validate())
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return b, nil
}

// Keeper keeps the last good text of a book where it outlives the process.
type Keeper interface {
	Save(data []byte) error
	Load(accept func([]byte) error) (skipped, err error)
}

// File follows a file with a price book. A file that cannot be read or that is wrong
// changes nothing: the last good book stays in force, also across a restart.
type File struct {
	path string
	kept Keeper

	mu     sync.Mutex
	seen   os.FileInfo
	text   []byte // of the file, as read last
	said   string // of what is wrong, so that it is told once
	status Status
}

// Status is what is known of a book.
type Status struct {
	Path string
	Book *price.Book // in force; nil is none
	// Since is when it came into force here; Kept says that it is the one of before a
	// restart, since the file was no good from the start on.
	Since time.Time
	Kept  bool
	// Err is what is wrong with the file; nil if nothing.
	Err error
}

// NewFile follows a path; kept may be nil.
func NewFile(path string, kept Keeper) *File {
	return &File{path: path, kept: kept, status: Status{Path: path}}
}

// Status is that of the last look.
func (f *File) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// Look reads the file if it has changed, and reports whether another book, or another
// error, is in force since.
func (f *File) Look(now time.Time) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && f.seen != nil && os.SameFile(info, f.seen) && info.ModTime().Equal(f.seen.ModTime()) && info.Size() == f.seen.Size() {
		return false
	}
	var data []byte
	if err == nil {
		data, err = readBounded(f.path)
	}
	if err != nil {
		f.seen = nil
		return f.fail(err, now)
	}
	f.seen = info
	if f.text != nil && bytes.Equal(data, f.text) && f.status.Err == nil {
		return false
	}
	b, err := Read(f.path, data)
	if err != nil {
		f.text = nil
		return f.fail(err, now)
	}
	f.text = data
	f.status = Status{Path: f.path, Book: b, Since: now}
	if f.kept != nil {
		if err := f.kept.Save(data); err != nil {
			f.status.Err = fmt.Errorf("in force, but not kept for a restart: %w", err)
		}
	}
	return true
}

// fail keeps the book in force, and takes the kept one where there is none yet.
func (f *File) fail(err error, now time.Time) (changed bool) {
	said := err.Error()
	changed = f.status.Err == nil || said != f.said
	f.status.Err, f.said = err, said
	if f.status.Book == nil && f.kept != nil {
		_, loading := f.kept.Load(func(data []byte) error {
			b, err := Read(f.path, data)
			if err != nil {
				return err
			}
			f.status.Book, f.status.Since, f.status.Kept = b, now, true
			return nil
		})
		if loading != nil {
			f.status.Err = errors.Join(err, loading)
		}
	}
	return changed
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, MaxBytes+1))
}
