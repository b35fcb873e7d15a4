//go:build !unix

package keep

import "errors"

// ErrLocked is the error for a lock that another process holds.
var ErrLocked = errors.New("another process uses it")

// Lock is not implemented here.
func Lock(string) (release func() error, err error) {
	return nil, errors.New("file locks need a unix system")
}
