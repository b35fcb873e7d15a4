package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/durable"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// DefaultFileBytes is where a file ends and the next begins.
	DefaultFileBytes = 32 << 20
	// DefaultFiles are kept, 1 GiB: two million changes.
	DefaultFiles = 32
	// point is the write point.
	point durable.Point = "audit"
)

// The errors that callers branch on.
var (
	// ErrNotWritable wraps why an entry could not be kept.
	ErrNotWritable = errors.New("audit log takes no entries")
	// ErrClosed means that the log is closed.
	ErrClosed = errors.New("audit log is closed")
)

// Options configure a Log.
type Options struct {
	// Dir holds the files; it is made with mode 0700, files have 0600.
	Dir string
	// FileBytes and Files bound a file and their number; 0 means the defaults.
	FileBytes int64
	Files     int
	// Now is the clock of entries; nil is time.Now.
	Now func() time.Time
	// Log receives the log's own log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Log is an audit log that is open. It is safe for concurrent use.
type Log struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	// turn is held by who writes; those who wait are served by him.
	turn chan struct{}

	// Of the holder of turn.
	out      *durable.File
	size     int64 // of out, what is acknowledged
	dirty    bool  // out may be longer than size
	sequence uint64
	head     string
	unopened error // why the newest file could not be opened, or repaired

	mu     sync.Mutex
	queue  []*pending
	files  []file // as readers see them
	failed error  // why the last write failed
	notice string // what Open found
	closed bool
}

type pending struct {
	entry Entry
	done  bool
	err   error
}

// Open opens the log in Options.Dir, or makes it. What a crash cut off is taken
// away, and what is damaged is left and told; see the package comment.
func Open(opts Options) (*Log, error) {
	if opts.FileBytes == 0 {
		opts.FileBytes = DefaultFileBytes
	}
	if opts.Files == 0 {
		opts.Files = DefaultFiles
	}
	opts.Files = max(opts.Files, 2) // the one before is what the newest hangs on
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Log{opts: opts, log: opts.Log, metrics: newMetrics(opts.Registerer), turn: make(chan struct{}, 1), head: noHash()}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	note, err := l.load()
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if l.unopened != nil {
		// What is there can be read. Entries are refused, each after another try.
		l.failed = l.unopened
		l.log.Error("audit log takes no entries", "path", opts.Dir, "err", l.unopened)
		return l, nil
	}
	if note == nil {
		return l, nil
	}
	if _, err := l.Append(*note); err != nil {
		l.log.Error("audit log takes no entries", "path", opts.Dir, "err", err)
	}
	return l, nil
}

// load finds the end of the log and repairs what a crash left there; note is to be
// kept of it. The error is of reading; what cannot be written is unopened.
func (l *Log) load() (note *Entry, err error) {
	files, err := list(l.opts.Dir)
	if err != nil {
		return nil, err
	}
	defer l.show(files) // as they are then
	if len(files) == 0 {
		return nil, nil
	}
	// The newest file only: a look at all of them is Verify's.
	newest := &files[len(files)-1]
	c := newChecker()
	if err := c.file(context.Background(), *newest); err != nil {
		return nil, err
	}
	l.sequence, l.head = max(c.report.Last, newest.first-1), c.report.Head
	problems := c.report.Problems
	switch {
	case len(problems) == 0:
	case len(problems) == 1 && c.torn >= 0:
		cutOff := newest.size - c.torn
		newest.size = c.torn // for readers, too
		note = &Entry{Phase: Repaired, Detail: fmt.Sprintf("%s: the last line, cut off after %d bytes by a crash and never acknowledged, was taken away", filepath.Base(newest.path), cutOff)}
		if l.unopened = point.Truncate(newest.path, c.torn); l.unopened != nil {
			return nil, nil
		}
	default:
		// The file stays as it is, and the next one must not have its name.
		l.sequence = max(l.sequence, newest.first)
		note = &Entry{Phase: Damaged, Detail: fmt.Sprintf("%s line %d: %s", filepath.Base(newest.path), problems[0].Line, problems[0].What)}
	}
	if note == nil || note.Phase == Repaired {
		l.size = newest.size
		if l.sequence < newest.first { // nothing is left in it: its first entry is still to come
			l.head = l.headBefore(files)
		}
		if l.out, l.unopened = point.Open(newest.path, os.O_WRONLY, 0o600); l.unopened != nil {
			l.out = nil
			return nil, nil
		}
	}
	l.unopened = nil
	if note == nil {
		return nil, nil
	}
	if note.Phase == Damaged { // a line that a crash has cut was acknowledged to nobody
		l.mu.Lock()
		l.notice = note.Detail
		l.mu.Unlock()
	}
	l.log.Error("audit log repaired", "path", newest.path, "reason", note.Detail)
	l.metrics.problems.Inc()
	return note, nil
}

// show lets readers see files.
func (l *Log) show(files []file) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = files
}

// headBefore is the head of the file before the newest, for one that is empty.
func (l *Log) headBefore(files []file) string {
	if len(files) < 2 {
		return noHash()
	}
	c := newChecker()
	if err := c.file(context.Background(), files[len(files)-2]); err != nil {
		return noHash()
	}
	return c.report.Head
}

// Append keeps e, whose Sequence, At, Previous and Hash it sets, and returns it.
// When it returns nil the entry outlives a power failure. The error wraps
// ErrNotWritable.
func (l *Log) Append(e Entry) (Entry, error) {
	p := &pending{entry: e}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return e, fmt.Errorf("%w: %w", ErrNotWritable, ErrClosed)
	}
	l.queue = append(l.queue, p)
	l.mu.Unlock()
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	if !p.done {
		l.commit()
	}
	return p.entry, p.err
}

// commit writes what waits, all of it or nothing. The caller holds turn.
func (l *Log) commit() {
	l.mu.Lock()
	batch := l.queue
	l.queue = nil
	l.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	began := time.Now()
	sequence, head, size, err := l.write(batch)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range batch {
		if p.done = true; err != nil {
			p.err = fmt.Errorf("%w: %w", ErrNotWritable, err)
		}
	}
	if err != nil {
		if l.failed == nil {
			l.log.Error("audit log takes no entries", "path", l.opts.Dir, "err", err)
		}
		l.failed = err
		l.metrics.failures.Inc()
		return
	}
	if l.failed != nil {
		l.log.Info("audit log takes entries again", "path", l.opts.Dir)
	}
	l.failed = nil
	l.sequence, l.head, l.size = sequence, head, size
	l.files[len(l.files)-1].size = size
	l.metrics.entries.Add(float64(len(batch)))
	l.metrics.sequence.Set(float64(sequence))
	l.metrics.seconds.Observe(time.Since(began).Seconds())
}

// write encodes, writes and flushes; it changes nothing that a failure would have
// to take back but what dirty names.
func (l *Log) write(batch []*pending) (sequence uint64, head string, size int64, err error) {
	if l.unopened != nil { // the disk may be writable again
		note, err := l.load()
		if err = errors.Join(err, l.unopened); err != nil {
			return 0, "", 0, err
		}
		if note != nil {
			batch = append([]*pending{{entry: *note}}, batch...)
		}
	}
	sequence, head = l.sequence, l.head
	var buf []byte
	now := l.opts.Now().UTC()
	for _, p := range batch {
		sequence++
		p.entry.Sequence, p.entry.At, p.entry.Previous = sequence, now, head
		line, e, err := encode(p.entry)
		if err != nil {
			return 0, "", 0, err
		}
		p.entry, head = e, e.Hash
		buf = append(buf, line...)
	}
	if l.out == nil || l.size > 0 && l.size+int64(len(buf)) > l.opts.FileBytes {
		if err := l.rotate(l.sequence + 1); err != nil {
			return 0, "", 0, err
		}
	}
	if l.dirty {
		if err := l.out.Truncate(l.size); err != nil {
			return 0, "", 0, err
		}
	}
	l.dirty = true
	if _, err := l.out.WriteAt(buf, l.size); err != nil {
		return 0, "", 0, errors.Join(err, l.undo())
	}
	if err := l.out.Sync(); err != nil {
		return 0, "", 0, errors.Join(err, l.undo())
	}
	l.dirty = false
	return sequence, head, l.size + int64(len(buf)), nil
}

// undo takes back what a failed write may have left; where it cannot, the next
// write does.
func (l *Log) undo() error {
	if err := l.out.Truncate(l.size); err != nil {
		return err
	}
	l.dirty = false
	return nil
}

// rotate begins the file whose first entry has that sequence, and drops the
// oldest beyond Options.Files.
func (l *Log) rotate(first uint64) error {
	path := filepath.Join(l.opts.Dir, fileName(first))
	// A file of that name is of an attempt that failed: nothing in it is
	// acknowledged. One of damaged entries has another name.
	out, err := point.Open(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := point.SyncDir(path); err != nil {
		return errors.Join(err, out.Close())
	}
	if l.out != nil {
		_ = l.out.Close() // flushed with each entry
	}
	l.out, l.size, l.dirty = out, 0, false
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.files); n == 0 || l.files[n-1].path != path {
		l.files = append(l.files, file{path: path, first: first})
	}
	for len(l.files) > l.opts.Files {
		if err := point.Remove(l.files[0].path); err != nil {
			l.log.Warn("old audit file stays on disk", "path", l.files[0].path, "err", err)
			break
		}
		l.files = l.files[1:]
	}
	return nil
}

// Writable returns nil, or why the last entry could not be kept.
func (l *Log) Writable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Notice is what was found damaged when the log was opened, "" for nothing.
func (l *Log) Notice() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.notice
}

// Verify checks the whole log as it is now.
func (l *Log) Verify(ctx context.Context) (*Report, error) {
	c := newChecker()
	for _, f := range l.snapshot() {
		if err := c.file(ctx, f); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	l.metrics.problems.Set(float64(len(c.report.Problems)))
	return c.done(), nil
}

// snapshot are the files, each with the bytes that are acknowledged.
func (l *Log) snapshot() []file {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]file(nil), l.files...)
}

// Close ends the log; what is acknowledged is on the disk already.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.commit() // of those who came before
	if l.out == nil {
		return nil
	}
	err := l.out.Close()
	l.out = nil
	return err
}
