//go:build unix

package datagram

import (
	"errors"
	"syscall"
)

// unreachable reports whether the host of an endpoint, or a router before it, said by ICMP
// that nobody is there.
func unreachable(err error) bool {
	for _, no := range []syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
