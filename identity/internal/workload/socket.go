package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// MaxSocketPath is the room in sockaddr_un on macOS; Linux has 4 bytes more.
const MaxSocketPath = 103

// Modes of the socket. The kernel's word on the caller is the authentication; the
// mode only keeps out those who could get nothing anyway, so it is opened to all
// exactly when an entry names another user.
const (
	OwnOnly fs.FileMode = 0o600
	ForAll  fs.FileMode = 0o666
)

// Listen makes the socket. A stale one of a dead process is replaced, a live one is
// not, and nothing but a socket is ever removed. The directory must be one in which
// no other user can put a socket of his own in this one's place.
func Listen(path string, mode fs.FileMode) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := checkSocketDir(dir); err != nil {
		return nil, err
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("socket: %s: exists and is no socket (%s)", path, info.Mode())
	default:
		const patience = time.Second // a local connect is immediate, unless the owner hangs
		if conn, err := net.DialTimeout("unix", path, patience); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("socket: %s: another process serves it", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	// Between bind and chmod the umask decides who may connect; whoever does is
	// attested all the same.
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	return l, nil
}

func checkSocketDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("socket: %s: mode is %#o, others must not write there (or it must be sticky)", dir, info.Mode().Perm())
	}
	return nil
}
