//go:build unix

package keep

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked is the error for a lock that another process holds.
var ErrLocked = errors.New("another process uses it")

// Lock takes an exclusive lock on a file, which is made if needed, or fails at once
// with ErrLocked. The kernel frees it with the process; release frees it earlier.
func Lock(path string) (release func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, Private)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return f.Close, nil
}
