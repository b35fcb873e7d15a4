//go:build !unix

package accept

// Descriptors is how many file descriptors the process may open; not known here.
func Descriptors() (n int, ok bool) { return 0, false }
