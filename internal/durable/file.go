package durable

import (
	"io/fs"
	"os"
)

// File is a file that is written step by step.
type File struct {
	f     *os.File
	point Point
}

// Open opens a file for writing, as os.OpenFile does.
func (p Point) Open(path string, flag int, mode fs.FileMode) (*File, error) {
	if err := p.Step(OpOpen, path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	return &File{f: f, point: p}, nil
}

// Write writes at the file's place.
func (f *File) Write(data []byte) (int, error) {
	return f.halves(data, func(part []byte, _ int) (int, error) { return f.f.Write(part) })
}

// WriteAt writes at an offset.
func (f *File) WriteAt(data []byte, at int64) (int, error) {
	return f.halves(data, func(part []byte, done int) (int, error) { return f.f.WriteAt(part, at+int64(done)) })
}

// halves writes data, in two parts while somebody watches: a crash may come between
// any two bytes, and it should be seen by tests what half a write does.
func (f *File) halves(data []byte, write func(part []byte, done int) (int, error)) (int, error) {
	if err := f.point.Step(OpWrite, f.f.Name()); err != nil {
		return 0, err
	}
	if watcher.Load() == nil || len(data) < 2 {
		return write(data, 0)
	}
	n, err := write(data[:len(data)/2], 0)
	if err == nil {
		err = f.point.Step(OpRest, f.f.Name())
	}
	if err != nil {
		return n, err
	}
	m, err := write(data[n:], n)
	return n + m, err
}

// Seek sets the file's place.
func (f *File) Seek(offset int64, whence int) (int64, error) { return f.f.Seek(offset, whence) }

// Truncate cuts the file.
func (f *File) Truncate(size int64) error {
	if err := f.point.Step(OpTrunc, f.f.Name()); err != nil {
		return err
	}
	return f.f.Truncate(size)
}

// Chmod sets the file's mode.
func (f *File) Chmod(mode fs.FileMode) error {
	if err := f.point.Step(OpChmod, f.f.Name()); err != nil {
		return err
	}
	return f.f.Chmod(mode)
}

// Sync waits until what was written lasts.
func (f *File) Sync() error {
	if err := f.point.Step(OpSync, f.f.Name()); err != nil {
		return err
	}
	return f.f.Sync()
}

// Close closes the file; what is to last was synced before.
func (f *File) Close() error { return f.f.Close() }
