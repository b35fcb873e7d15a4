//go:build unix

package accept

import "syscall"

// Descriptors is how many file descriptors the process may open. ok is false
// where that is not known or not limited.
func Descriptors() (n int, ok bool) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	const unlimited = 1 << 30 // RLIM_INFINITY differs between systems; all are above
	if limit.Cur >= unlimited {
		return 0, false
	}
	return int(limit.Cur), true
}
