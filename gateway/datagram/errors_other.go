//go:build !unix

package datagram

import (
	"errors"
	"syscall"
)

// unreachable reports whether an endpoint's host said that nobody is there.
func unreachable(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
