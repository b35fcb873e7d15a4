//go:build unix

package tcpway

import (
	"net"
	"syscall"
)

// available reads what has arrived on c already into p, without waiting: 0 if
// nothing has. Errors and the end of the stream are left to the next Read, which
// meets them again.
func available(c net.Conn, p []byte) int {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	var failed error
	// The socket is in non-blocking mode, as all of Go's are; returning true says
	// not to wait for readiness.
	err = raw.Read(func(fd uintptr) bool {
		n, failed = syscall.Read(int(fd), p)
		return true
	})
	if err != nil || failed != nil || n < 0 {
		return 0
	}
	return n
}
