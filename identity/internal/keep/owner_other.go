//go:build !unix

package keep

import (
	"io/fs"
	"os"
)

// openNoFollow opens for reading; there are no Unix symbolic links to refuse.
func openNoFollow(path string) (*os.File, error) { return os.Open(path) }

// ownedByUs has no Unix owner to look at.
func ownedByUs(fs.FileInfo) error { return nil }

// openNoWait opens for reading.
func openNoWait(path string) (*os.File, error) { return os.Open(path) }
