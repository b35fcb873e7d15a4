package outbound

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/datagram"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Conn is a connection to a service. One goroutine reads while another writes;
// Reset and Close may come from any.
type Conn struct {
	dialer   *Dialer
	ctx      context.Context // of the attempts
	cancel   context.CancelFunc
	sequence *attempt.Sequence
	request  Request

	mu        sync.Mutex
	carrier   *carrier
	start     []byte // what was written before the answer
	eof       bool   // the caller has half-closed
	settled   bool
	failed    error         // why there will be no answer
	settledCh chan struct{} // closed when settled or failed

	// sent and received count payload.
	sent, received atomic.Int64
}

// Confirm waits until the service has accepted, going on to the next choice on
// refusals. It belongs to the reading side; Read calls it. The error is
// *attempt.Error.
func (c *Conn) Confirm() error {
	for {
		c.mu.Lock()
		current, settled, failed := c.carrier, c.settled, c.failed
		c.mu.Unlock()
		if settled {
			return nil
		}
		if failed != nil {
			return failed
		}
		err := c.status(current.stream)
		if err == nil {
			c.settle(current)
			return nil
		}
		current.Reset(wire.Canceled) // whatever it was, nobody listens any more
		if err = current.attempt.Fail(c.ctx, err, attempt.IfUndelivered); err == nil {
			err = c.advance()
		}
		if err != nil {
			c.fail(err)
			return err
		}
	}
}

// status waits for the far gateway's answer.
func (c *Conn) status(stream *tunnel.Stream) error {
	ctx, cancel := context.WithTimeout(c.ctx, StatusTimeout)
	defer cancel()
	reply, err := stream.Status(ctx)
	if err != nil {
		return err
	}
	if reply.Status != wire.OK {
		remote := stream.Remote()
		return &tunnel.RefusedError{
			Cluster: remote.Cluster, Gateway: remote.Gateway,
			Status: reply.Status, Message: reply.Message, RetryAfter: reply.RetryAfter,
		}
	}
	return nil
}

// advance makes attempts until one has a connection. The one to an own endpoint
// is settled by that; the one over a link awaits its answer.
func (c *Conn) advance() error {
	for {
		a, err := c.sequence.NextIn(c.ctx)
		if err != nil {
			return err
		}
		if a.Choice.Port.Protocol == catalog.UDP {
			a.End()
			return datagram.WrongProtocol(a)
		}
		c.mu.Lock()
		start := c.start
		c.mu.Unlock()
		next, err := c.dialer.open(c.ctx, a, &c.request, start)
		if err == nil {
			err = c.attach(next)
		}
		if err == nil {
			return nil
		}
		if err = a.Fail(c.ctx, err, attempt.IfUndelivered); err != nil {
			return err
		}
	}
}

// attach gives next what was written since it was opened, and makes it the
// current one. The writer keeps adding to the start meanwhile, but sees next only
// once it has all of it.
func (c *Conn) attach(next *carrier) error {
	for {
		c.mu.Lock()
		if c.failed != nil {
			c.mu.Unlock()
			next.Reset(wire.Canceled)
			return c.failed
		}
		rest := c.start[next.sent:]
		if len(rest) == 0 {
			c.carrier = next
			eof := c.eof
			c.mu.Unlock()
			if next.stream == nil {
				c.settle(next)
			}
			if eof {
				return next.CloseWrite()
			}
			return nil
		}
		c.mu.Unlock()
		n, err := next.Write(rest)
		next.sent += n
		if err != nil {
			next.Reset(wire.Canceled)
			return err
		}
	}
}

// settle ends the time of choices.
func (c *Conn) settle(current *carrier) {
	current.attempt.Answered(true)
	if current.served {
		current.attempt.End() // its requests are counted one by one
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled, c.start = true, nil
	if c.failed == nil {
		close(c.settledCh)
	}
}

// fail ends it without an answer.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
		if !c.settled {
			close(c.settledCh)
		}
	}
}

// Served says who serves the connection, or was asked last.
func (c *Conn) Served() Served {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.carrier == nil {
		return Served{}
	}
	return c.carrier.who()
}

// Guard returns a context that ends with ctx, or when the connection is no longer
// allowed (attempt.Withdrawn says why).
func (c *Conn) Guard(ctx context.Context) (guarded context.Context, release func()) {
	return c.sequence.Guard(ctx)
}

// Attempts is how many attempts were made.
func (c *Conn) Attempts() int { return c.sequence.Attempts() }

// Read reads what the service sends. Its first call is Confirm.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.Confirm(); err != nil {
		return 0, err
	}
	n, err := c.current().Read(p)
	c.received.Add(int64(n))
	return n, err
}

func (c *Conn) current() *carrier {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.carrier
}

// Write sends to the service. Before its answer, what is written is kept for the
// next choice, and errors of a carrier are left to Confirm, which knows better.
func (c *Conn) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		c.mu.Lock()
		current, room := c.carrier, MaxReplay-len(c.start)
		switch {
		case c.failed != nil:
			c.mu.Unlock()
			return n, c.failed
		case c.settled:
			c.mu.Unlock()
			m, err := current.Write(p)
			c.sent.Add(int64(m))
			return n + m, err
		case room <= 0:
			c.mu.Unlock()
			<-c.settledCh
			continue
		}
		chunk := p[:min(room, len(p))]
		c.start = append(c.start, chunk...)
		c.mu.Unlock()
		_, _ = current.Write(chunk) // see above
		c.sent.Add(int64(len(chunk)))
		n, p = n+len(chunk), p[len(chunk):]
	}
	return n, nil
}

// CloseWrite half-closes.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	c.eof = true
	current, settled := c.carrier, c.settled
	c.mu.Unlock()
	err := current.CloseWrite()
	if !settled {
		return nil // as in Write
	}
	return err
}

// Reset aborts the connection, and the attempts if they are under way.
func (c *Conn) Reset(status wire.Status) {
	c.cancel()
	c.fail(net.ErrClosed)
	c.current().Reset(status)
}

// Close ends the connection and its account.
func (c *Conn) Close() error {
	c.cancel()
	c.fail(net.ErrClosed)
	current := c.current()
	err := current.Close()
	current.attempt.Moved(c.sent.Load()+int64(len(c.request.First)), c.received.Load(), false)
	current.attempt.End()
	if errors.Is(err, net.ErrClosed) {
		return nil // after Reset
	}
	return err
}
