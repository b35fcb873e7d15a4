//go:build !linux && !darwin

package api

import (
	"errors"
	"net"
)

// peerUID has no way here to learn who connected: the principal is "local".
func peerUID(*net.UnixConn) (uint32, error) {
	return 0, errors.New("peer credentials are not available on this system")
}
