package endpoint

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Spare is a connection that was made to find out whether an endpoint answers,
// for the first request to it.
type Spare struct {
	target target
	conn   atomic.Pointer[net.Conn]
}

type spareKey struct{}

// NewSpare keeps c, a connection to e that Connect made. Whoever makes a Spare calls
// Close.
func NewSpare(e *catalog.Endpoint, c net.Conn) *Spare {
	s := &Spare{target: targetOf(e)}
	s.conn.Store(&c)
	return s
}

// WithSpare returns a context whose requests may use s instead of dialing.
func WithSpare(ctx context.Context, s *Spare) context.Context {
	return context.WithValue(ctx, spareKey{}, s)
}

// take gives the connection away, once, to who asks for its target.
func (s *Spare) take(t target) net.Conn {
	if t != s.target {
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
