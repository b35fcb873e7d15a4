//go:build !unix

package keep

import "errors"

// ErrLocked: another process holds the lock.
var ErrLocked = errors.New("another process uses it")

// Lock is not implemented here.
func Lock(string) (release func() error, err error) {
	return nil, errors.New("file locks need a unix system")
}
