//go:build !linux

package generation

import (
	"errors"
	"net"
	"syscall"
)

// errNone: only Linux lets a program pick the socket.
var errNone = errors.New("processes share a UDP port on Linux only")

// First opens the socket of the only process at address.
func First(address string) (*net.UDPConn, error) {
	a, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP("udp", a)
}

// Successor fails.
func Successor(*net.UDPConn) (*net.UDPConn, error) { return nil, errNone }

// Steer fails.
func Steer(syscall.Conn, Live, Slot) error { return errNone }
