package sniway

import (
	"net"
	"time"
)

// ReadHello is what is read of a ClientHello.
func ReadHello(c net.Conn, deadline time.Time) (name string, ech bool, bytes []byte, err error) {
	h, err := readHello(c, deadline)
	return h.name, h.ech, h.bytes, err
}
