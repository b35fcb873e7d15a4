package api

// Way is how a client reached the server; it decides how it is authenticated.
type Way int

// The ways.
const (
	// Socket is the Unix socket: the file's mode says who may come, and the kernel
	// who it is.
	Socket Way = iota
	// Loopback is TCP on a loopback address: every user and every browser of the
	// host can reach it, so a bearer token is asked for and the Host checked.
	Loopback
	// MTLS is TLS with SPIFFE IDs at both ends, for other hosts.
	MTLS
	// Health is plain TCP for what watches and scrapes: it answers nothing else, and
	// so asks nobody who he is.
	Health
)

// String names the way as metrics and the audit log do.
func (w Way) String() string {
	switch w {
	case Socket:
		return "socket"
	case Loopback:
		return "loopback"
	case MTLS:
		return "mtls"
	case Health:
		return "health"
	default:
		return "unknown"
	}
}
