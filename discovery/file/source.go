package file

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// racy is how long after its modification time a file may change again without
// a new time: file systems count in steps of up to two seconds.
const racy = 2 * time.Second

// errUnsettled says that the file changed while it was read.
var errUnsettled = errors.New("the file is being written")

// Options of New.
type Options struct {
	// Name of the source, a DNS label.
	Name   string
	Config Config
	// Locality is the cluster's (cloud and region); the file adds zones.
	Locality catalog.Locality
	// Log receives the log; nil discards it.
	Log *slog.Logger
}

// Source is one catalog file.
type Source struct {
	opts Options
	log  *slog.Logger
	kick chan struct{}

	mu       sync.Mutex
	lastRead time.Time
	lastErr  error
}

var (
	_ discovery.Source   = (*Source)(nil)
	_ discovery.Reporter = (*Source)(nil)
	_ discovery.Rereader = (*Source)(nil)
)

// New checks the configuration; it opens nothing.
func New(o Options) (*Source, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, strictyaml.Within("file", err)
	}
	if _, err := catalog.NewSnapshot(o.Name, nil); err != nil {
		return nil, err
	}
	o.Config.Interval = cmp.Or(o.Config.Interval, DefaultInterval)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Source{opts: o, log: o.Log.With("source", o.Name, "path", o.Config.Path), kick: make(chan struct{}, 1)}, nil
}

// Run implements discovery.Source; it returns nil after ctx has ended.
func (s *Source) Run(ctx context.Context, publish discovery.Publish) error {
	look := time.NewTimer(0)
	defer look.Stop()
	var f follower
	for {
		again := false
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		case <-s.kick:
			again = true
		}
		data, err := f.look(s.opts.Config.Path, again, s.opts.Config.Interval)
		switch {
		case errors.Is(err, errUnsettled):
			// Neither good nor bad yet.
		case err != nil:
			s.report(err)
		case data != nil:
			s.take(ctx, &f, data, again, publish)
		default:
			s.report(f.problem) // unchanged: as good or bad as it was
		}
		look.Reset(s.opts.Config.Interval)
	}
}

// take parses new content and publishes it, unless it says the same as before.
func (s *Source) take(ctx context.Context, f *follower, data []byte, again bool, publish discovery.Publish) {
	next, err := Parse(s.opts.Config.Path, data, s.opts.Name, s.opts.Locality)
	f.problem = err
	s.report(err)
	if err != nil || ctx.Err() != nil {
		return
	}
	if f.last != nil {
		d := catalog.Diff(f.last, next)
		if d.IsEmpty() && !again {
			return
		}
		if shared, err := f.last.With(d.Upserts, d.Removes); err == nil {
			next = shared // equal to next, sharing what did not change
		}
	}
	f.last = next
	s.log.Debug("read the catalog file", "count", next.EndpointCount())
	publish(next)
}

func (s *Source) report(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lastErr = err; err == nil {
		s.lastRead = time.Now()
	}
}

// LastRead implements discovery.Reporter.
func (s *Source) LastRead() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastRead, s.lastErr
}

// Reread implements discovery.Rereader.
func (s *Source) Reread() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// follower remembers what was seen of the file.
type follower struct {
	seen    os.FileInfo // at the last look
	read    os.FileInfo // of the content
	readAt  time.Time
	hash    [sha256.Size]byte
	problem error // of the content
	last    *catalog.Snapshot
}

// look returns the file's content if it is new, or again is set; nil if it is
// as it was. A file that was modified just now is read only when it has stood
// still from one look to the next, since whoever writes it in place may be in
// the middle.
func (f *follower) look(path string, again bool, settle time.Duration) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		*f = follower{last: f.last}
		return nil, fmt.Errorf("file: %w", err)
	}
	still := same(f.seen, info) || time.Since(info.ModTime()) > settle
	f.seen = info
	if same(f.read, info) && !again && f.readAt.Sub(info.ModTime()) > racy {
		return nil, nil
	}
	if !still && !same(f.read, info) {
		return nil, errUnsettled
	}
	data, after, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	if !same(info, after) {
		return nil, errUnsettled
	}
	hash := sha256.Sum256(data)
	unchanged := f.read != nil && hash == f.hash
	f.read, f.readAt, f.hash = after, time.Now(), hash
	if unchanged && !again {
		return nil, nil
	}
	return data, nil
}

func same(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// read returns a file's content and what it was after the last byte.
func read(path string) ([]byte, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	data, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxSize+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > strictyaml.MaxSize {
		return nil, nil, fmt.Errorf("%s has more than %d bytes", path, strictyaml.MaxSize)
	}
	after, err := f.Stat()
	return data, after, err
}
