package workload

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
)

// Listener is a net.Listener of those who have entered by a Door. Handshakes run
// beside each other, so that one that takes its time holds up nobody; how many there
// are is bounded by the slots of the listener below.
type Listener struct {
	inner   net.Listener
	door    *Door
	refused func(err error, from net.Addr)

	ctx     context.Context
	cancel  context.CancelFunc
	entered chan *GuestConn
	begin   sync.Once
	running sync.WaitGroup
	done    chan struct{} // closed when nothing more is accepted
	failed  error         // why; set before done is closed
}

// Listen lets in who connects to inner. refused is told of everybody else.
func (d *Door) Listen(inner net.Listener, refused func(err error, from net.Addr)) *Listener {
	l := &Listener{inner: inner, door: d, refused: refused, entered: make(chan *GuestConn), done: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Accept implements net.Listener: the connection is a *GuestConn.
func (l *Listener) Accept() (net.Conn, error) {
	l.begin.Do(func() { l.running.Go(l.accept) })
	select {
	case c := <-l.entered:
		return c, nil
	case <-l.done:
		return nil, l.failed
	}
}

// Close implements net.Listener. Handshakes under way are given up; who has entered
// stays.
func (l *Listener) Close() error {
	err := l.inner.Close()
	l.cancel()
	l.begin.Do(func() { l.failed = net.ErrClosed; close(l.done) })
	l.running.Wait()
	return err
}

func (l *Listener) accept() {
	defer close(l.done)
	for {
		c, err := l.inner.Accept()
		if err != nil {
			l.failed = err
			return
		}
		l.running.Go(func() { l.enter(c) })
	}
}

func (l *Listener) enter(c net.Conn) {
	// The guest outlives the listener: a way that drains lets its requests finish.
	ctx, guest, err := l.door.enter(l.ctx, context.Background(), c)
	if err != nil {
		_ = c.Close() // TLS has told the caller what it may know
		if l.ctx.Err() == nil {
			l.refused(err, c.RemoteAddr())
		}
		return
	}
	conn := &GuestConn{Conn: guest.Conn, Caller: guest.Caller, Context: ctx, guest: guest}
	conn.stop = context.AfterFunc(ctx, func() {
		if Revoked(ctx) != nil {
			_ = c.Close()
		}
	})
	select {
	case l.entered <- conn:
	case <-l.ctx.Done():
		_ = conn.Close()
	}
}

// GuestConn is the connection of a guest, in the clear.
type GuestConn struct {
	*tls.Conn
	// Caller is the SPIFFE ID that the guest has proven.
	Caller string
	// Context ends with the connection; Revoked says whether the guest's certificate is
	// why.
	Context context.Context //nolint:containedctx // the life of the connection
	guest   *Guest
	stop    func() bool
}

// Close closes the connection.
func (c *GuestConn) Close() error {
	c.stop()
	err := c.Conn.Close()
	c.guest.Leave()
	return err
}

// SetLinger is net.TCPConn's; on other connections it does nothing.
func (c *GuestConn) SetLinger(seconds int) error {
	if l, ok := c.NetConn().(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(seconds)
	}
	return errors.ErrUnsupported
}

// Inner is the connection below the guest's bytes, for who resets it.
func (c *GuestConn) Inner() *tls.Conn { return c.Conn }
