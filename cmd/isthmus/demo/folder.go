package demo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// workFolder makes the demo's folder. A temporary one is removed at the end;
// one that the user named is kept, and must not hold a demo that still runs.
func workFolder(dir string) (path string, cleanup func() error, err error) {
	if dir == "" {
		tmp, err := os.MkdirTemp("", "isthmus-demo-")
		if err != nil {
			return "", nil, err
		}
		return tmp, func() error { return os.RemoveAll(tmp) }, nil
	}
	path, err = filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", nil, err
	}
	lock, err := lockFolder(path)
	if err != nil {
		return "", nil, err
	}
	// what an earlier demo left would be taken for this one's
	for _, old := range []string{"demo.json", controlFile, "logs", "ca"} {
		if err := os.RemoveAll(filepath.Join(path, old)); err != nil {
			return "", nil, errors.Join(err, lock.Close())
		}
	}
	for cluster := range serviceNames {
		if err := os.RemoveAll(filepath.Join(path, cluster)); err != nil {
			return "", nil, errors.Join(err, lock.Close())
		}
	}
	return path, lock.Close, nil
}

// copyBinary keeps the program that runs, so that a hint stays true after the
// build that `go run` made is gone.
func copyBinary(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	defer func() { _ = src.Close() }()
	dst, err := os.OpenFile(to+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700)
	if err != nil {
		return fmt.Errorf("copy the program: %w", err)
	}
	if _, err := io.Copy(dst, src); err != nil {
		return errors.Join(err, dst.Close())
	}
	if err := dst.Close(); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

// removeFile removes a file that may be gone.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
