package udpway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/datagram"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Socket is one that a Way serves.
type Socket struct {
	way     *Way
	conn    Conn
	address string
	target  Target
	// replies tells by which address a datagram came in and has the answer leave by it; nil
	// where there is only one.
	replies *replier

	mu     sync.Mutex
	flows  map[key]*flow
	closed bool
}

// key is what a flow is known by.
type key struct {
	from netip.AddrPort
	to   netip.Addr // the own address, where the socket has several
}

func newSocket(w *Way, conn Conn, target Target) *Socket {
	s := &Socket{way: w, conn: conn, address: conn.LocalAddr().String(), target: target, flows: make(map[key]*flow)}
	s.replies = newReplier(conn)
	return s
}

// Close ends the socket and its flows.
func (s *Socket) Close() error {
	s.way.mu.Lock()
	delete(s.way.sockets, s)
	s.way.mu.Unlock()
	s.mu.Lock()
	s.closed = true
	for _, f := range s.flows {
		f.end(errClosed)
	}
	s.mu.Unlock()
	return s.conn.Close()
}

// Retarget has flows that begin from now on go elsewhere.
func (s *Socket) Retarget(t Target) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = t
}

// read takes what comes in until the socket is closed.
func (s *Socket) read() {
	buf := make([]byte, wire.MaxDatagram)
	var oob []byte
	if s.replies != nil {
		oob = make([]byte, s.replies.space)
	}
	backoff := minBackoff
	for {
		n, m, _, from, err := s.conn.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.way.o.Log.Warn("receive failed", "listener", s.address, "err", err, "duration", backoff)
			timer := time.NewTimer(backoff)
			select {
			case <-timer.C:
			case <-s.way.ctx.Done():
				timer.Stop()
			}
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		backoff = minBackoff
		k := key{from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port())}
		if s.replies != nil {
			k.to = s.replies.local(oob[:m])
		}
		s.take(k, buf[:n])
	}
}

// take gives a datagram to its flow.
func (s *Socket) take(k key, p []byte) {
	if !s.way.allows(k.from.Addr()) {
		s.way.drop(datagram.DropSource, s, k.from)
		return
	}
	s.mu.Lock()
	f := s.flows[k]
	s.mu.Unlock()
	if f == nil {
		var reason string
		if f, reason = s.begin(k); reason != "" {
			s.way.drop(reason, s, k.from)
			return
		}
	}
	f.push(p)
}

// allows reports whether an address may send.
func (w *Way) allows(from netip.Addr) bool {
	return len(w.o.Sources) == 0 || slices.ContainsFunc(w.o.Sources, func(p netip.Prefix) bool { return p.Contains(from) })
}

// begin begins a flow. One goroutine, the reader, does.
func (s *Socket) begin(k key) (*flow, string) {
	w := s.way
	if reason := w.enter(k.from.Addr()); reason != "" {
		if reason == datagram.DropFlows {
			s.evict()
		}
		return nil, reason
	}
	f := newFlow(s, k)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		w.leave(k.from.Addr())
		return nil, datagram.DropDraining
	}
	f.target = s.target
	s.flows[k] = f
	s.mu.Unlock()
	ctx, end := context.WithCancelCause(w.ctx)
	f.cancel = end
	close(f.ready)
	go func() {
		defer w.leave(k.from.Addr())
		f.serve(ctx)
		end(nil)
	}()
	return f, ""
}

// evict ends the quietest of some flows, if it is quiet.
func (s *Socket) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best *flow
	n := 0
	for _, f := range s.flows {
		if best == nil || f.quiet() > best.quiet() {
			best = f
		}
		if n++; n == evictSample {
			break
		}
	}
	if best != nil && best.quiet() >= quietFor {
		best.end(errEvicted)
	}
}

// remove forgets a flow.
func (s *Socket) remove(f *flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flows, f.key)
}
