package carry

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Loop serves the connections of one listener, each in a goroutine of its own.
type Loop struct {
	// Listener is what connections come from; its Accept gives only those that may be
	// served (accept.Listener).
	Listener net.Listener
	// Serve serves a connection and closes it; ctx's end resets it.
	Serve func(ctx context.Context, c net.Conn)

	conns sync.WaitGroup
}

// StopAccepting closes the listener; connections go on. It is safe to call twice.
func (l *Loop) StopAccepting() {
	_ = l.Listener.Close() // it is gone either way
}

// Run serves until StopAccepting was called and the last connection has ended, or
// ctx has, which resets those that are left. It returns an error only if
// accepting failed for good.
func (l *Loop) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.StopAccepting)
	defer stop()
	defer l.conns.Wait()
	for {
		c, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		l.conns.Go(func() { l.Serve(ctx, c) })
	}
}
