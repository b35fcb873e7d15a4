package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// Point names something that is kept, such as "gateway-tables". Each is declared
// once, beside the code that keeps it.
type Point string

// Op is one kind of step.
type Op string

// The steps, in the order in which a file comes into being.
const (
	OpOpen   Op = "open" // of a file that may be written
	OpWrite  Op = "write"
	OpRest   Op = "write-rest" // the second half of a write, while somebody watches
	OpChmod  Op = "chmod"
	OpTrunc  Op = "truncate"
	OpSync   Op = "sync"
	OpLink   Op = "link"
	OpRename Op = "rename"
	OpDir    Op = "sync-dir"
	OpRemove Op = "remove"
	// OpOther is a step that another library makes out of sight, before and after it.
	OpOther Op = "other"
)

// Step is what is about to happen.
type Step struct {
	Point Point
	Op    Op
	Path  string
}

// watcher is of tests only; nil outside of them.
var watcher atomic.Pointer[func(Step) error]

// Watch calls w before every step of the process until stop is called; an error of
// w takes the step's place. It is for tests: nothing that runs calls it.
func Watch(w func(Step) error) (stop func()) {
	watcher.Store(&w)
	return func() { watcher.CompareAndSwap(&w, nil) }
}

// Step announces a step that is made elsewhere.
func (p Point) Step(op Op, path string) error {
	if w := watcher.Load(); w != nil {
		return (*w)(Step{Point: p, Op: op, Path: path})
	}
	return nil
}

// tempSuffix ends the name under which a file is written. One name for each file:
// what a crash leaves is overwritten and does not pile up.
const tempSuffix = ".tmp"

// Temp is where Replace writes before the file is in place: for those who tidy up
// what a crash has left.
func Temp(path string) string { return path + tempSuffix }

// Replace puts a file in place whole or not at all, also across a crash of the
// machine: written beside its place, synced, renamed, and the directory synced.
// The file has exactly the given mode, whatever the umask. One goroutine at a time
// replaces a path. After an error that is not of the last step the old content is
// there; what a full disk has cut is removed.
func (p Point) Replace(path string, mode fs.FileMode, write func(*File) error) (err error) {
	temp := Temp(path)
	// Made anew, never followed or taken over: in a folder that others may write to,
	// the name could be a link of theirs.
	if err := ignoreMissing(os.Remove(temp)); err != nil {
		return err
	}
	f, err := p.Open(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// Best effort: the next Replace removes what stays.
			_ = f.Close()
			_ = os.Remove(temp)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if mode != 0o600 {
		if err := f.Chmod(mode); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := p.Rename(temp, path); err != nil {
		return err
	}
	return p.SyncDir(path)
}

// Rename moves a file. SyncDir makes it last.
func (p Point) Rename(from, to string) error {
	if err := p.Step(OpRename, to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// Link gives a file one more name.
func (p Point) Link(path, name string) error {
	if err := p.Step(OpLink, name); err != nil {
		return err
	}
	return os.Link(path, name)
}

// Remove removes a file; one that is not there is no error.
func (p Point) Remove(path string) error {
	if err := p.Step(OpRemove, path); err != nil {
		return err
	}
	return ignoreMissing(os.Remove(path))
}

// Truncate cuts a file.
func (p Point) Truncate(path string, size int64) error {
	if err := p.Step(OpTrunc, path); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

// SyncDir makes the names in the directory of path last.
func (p Point) SyncDir(path string) error {
	if err := p.Step(OpDir, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
