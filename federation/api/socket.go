package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ListenSocket listens on a Unix socket that only its owner may open. A socket
// that a dead process left behind is replaced; one that answers is an error.
func ListenSocket(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("api socket %s: %w", path, err)
	}
	if err := clearSocket(path); err != nil {
		return nil, fmt.Errorf("api socket %s: %w", path, err)
	}
	// Bound in a directory of our own and moved: between bind and chmod a socket
	// has the mode that the umask leaves, and a umask belongs to the whole process.
	private, err := os.MkdirTemp(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("api socket %s: %w", path, err)
	}
	defer func() { _ = os.RemoveAll(private) }()
	made := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("api socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("api socket %s: %w", path, err), l.Close())
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("api socket %s: %w", path, err), l.Close())
	}
	return &socketListener{UnixListener: l, path: path, made: info}, nil
}

// clearSocket removes what a dead process left at path, and nothing else.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("exists and is no socket")
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return errors.New("another process answers on it")
	}
	return os.Remove(path)
}

// socketListener removes its socket when it closes, unless a successor has put
// its own in the place.
type socketListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// Close stops listening.
func (l *socketListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// Addr is the path that clients use.
func (l *socketListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }
