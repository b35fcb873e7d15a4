//go:build !unix

package tcpway

import "net"

// available reads what has arrived on c already; it cannot here.
func available(net.Conn, []byte) int { return 0 }
