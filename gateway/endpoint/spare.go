package endpoint

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
)

// Spare is a connection that was made to find out whether an endpoint answers,
// for the first request to it.
type Spare struct {
	address netip.AddrPort
	conn    atomic.Pointer[net.Conn]
}

type spareKey struct{}

// NewSpare keeps c, a connection to address. Whoever makes a Spare calls Close.
func NewSpare(address netip.AddrPort, c net.Conn) *Spare {
	s := &Spare{address: address}
	s.conn.Store(&c)
	return s
}

// WithSpare returns a context whose requests may use s instead of dialing.
func WithSpare(ctx context.Context, s *Spare) context.Context {
	return context.WithValue(ctx, spareKey{}, s)
}

// take gives the connection away, once, to who asks for its address.
func (s *Spare) take(address netip.AddrPort) net.Conn {
	if address != s.address {
		return nil
	}
	if c := s.conn.Swap(nil); c != nil {
		return *c
	}
	return nil
}

// Close closes the connection if nobody took it.
func (s *Spare) Close() {
	if c := s.conn.Swap(nil); c != nil {
		_ = (*c).Close() // it was never used
	}
}
