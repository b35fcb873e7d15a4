//go:build unix

package keep

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openNoFollow opens for reading and refuses a symbolic link in the last element:
// a link could point at a file that somebody else may choose. O_NONBLOCK keeps a
// fifo at that path from hanging us.
func openNoFollow(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		if info, lerr := os.Lstat(path); lerr == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, fmt.Errorf("%s: %w: it is a symbolic link", path, ErrMode)
		}
		return nil, err
	}
	return f, nil
}

// openNoWait opens for reading; a fifo at that path must not hang us.
func openNoWait(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

func ownedByUs(info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("owner of the file is unknown")
	}
	if uid := os.Geteuid(); int(stat.Uid) != uid {
		return fmt.Errorf("owner is uid %d, it must be uid %d", stat.Uid, uid)
	}
	return nil
}
