package carry

import (
	"context"
	"errors"
	"net"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/outbound"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/gateway/workload"
)

// Carrier carries connections. All fields are required.
type Carrier struct {
	Dialer  *outbound.Dialer
	Splicer *splice.Splicer
}

// Valid reports whether nothing is missing.
func (c *Carrier) Valid() bool { return c != nil && c.Dialer != nil && c.Splicer != nil }

// Passage is one connection.
type Passage struct {
	// Near is the caller's; Carry closes it.
	Near net.Conn
	Call attempt.Call
	// First are bytes that the caller has sent already. They are copied, and Taken,
	// where it is set, is called when they may be used otherwise: a connection lasts
	// longer than its beginning is worth keeping.
	First []byte
	Taken func()
	// Entry is told where it went, what moved and why it ended; ending it is left to
	// the caller of Carry.
	Entry *account.Entry
	// Accepted, where it is set, tells the caller that the service has taken the
	// connection, before any byte of the service; its error ends the connection.
	Accepted func() error
	// Refused tells the caller why, before any byte of the service has reached it: there
	// is no way there. Where it is set, the connection is closed then, so that the caller
	// can read it; else it is reset.
	Refused func(err error)
}

// Carry moves bytes both ways until both ends have finished, one is reset, the call is
// no longer allowed, or ctx ends, whose cause is told to both. It returns once Near is
// closed.
func (c *Carrier) Carry(ctx context.Context, p Passage) {
	e := p.Entry
	if p.Call.Source == "" {
		if from, _, err := net.SplitHostPort(p.Near.RemoteAddr().String()); err == nil {
			p.Call.Source = from
		}
	}
	near := &nearEnd{Conn: splice.TCP(p.Near), refused: p.Refused}
	sent, received := e.Counters()
	far, err := c.Dialer.Dial(ctx, outbound.Request{
		Call: p.Call, First: p.First, TraceParent: e.Trace.String(), Started: func(s *attempt.Sequence) { e.Sequence = s },
	})
	first := len(p.First)
	if p.First = nil; p.Taken != nil {
		p.Taken()
	}
	if err != nil {
		e.Reason, e.Err = reasonOf(err), err
		near.refuse(err)
		near.Reset(wire.Refused)
		return
	}
	if first > 0 {
		sent.Add(float64(first))
	}
	ctx, release := far.Guard(ctx)
	defer release()
	result := c.Splicer.Run(ctx, near, &answering{Conn: far, near: near, entry: e, accepted: p.Accepted}, splice.Counters{AB: sent, BA: received}, ending(ctx))
	served := far.Served()
	e.Cluster, e.Gateway, e.Endpoint, e.Attempts = served.Cluster, served.Gateway, served.Endpoint, far.Attempts()
	if result.Status == wire.OK {
		return
	}
	e.Reason, e.Err = result.Status.String(), result.Err
	if result.FromA {
		e.Reason = wire.Canceled.String() // the caller reset it
	}
	if failed, ok := errors.AsType[*attempt.Error](result.Err); ok {
		e.Reason = failed.Reason
	}
}

// ending is why a connection's context ended.
func ending(ctx context.Context) func() wire.Status {
	return func() wire.Status {
		if attempt.Withdrawn(ctx) != nil {
			return wire.Denied
		}
		if workload.Revoked(ctx) != nil {
			return wire.Revoked
		}
		return wire.Draining
	}
}

func reasonOf(err error) string {
	if failed, ok := errors.AsType[*attempt.Error](err); ok {
		return failed.Reason
	}
	return wire.Internal.String()
}

// answering tells the account when the service has accepted.
type answering struct {
	*outbound.Conn
	near  *nearEnd
	entry *account.Entry
	// accepted may be nil.
	accepted func() error
	done     bool
}

// Read implements io.Reader.
func (a *answering) Read(p []byte) (int, error) {
	if !a.done {
		if err := a.Confirm(); err != nil {
			a.near.refuse(err)
			return 0, err
		}
		a.done = true
		a.entry.Answered()
		served := a.Served()
		a.entry.Serve(served.Cluster, served.Price)
		if a.accepted != nil {
			if err := a.accepted(); err != nil {
				return 0, err
			}
		}
	}
	return a.Conn.Read(p)
}

// nearEnd is the caller's end.
type nearEnd struct {
	splice.Conn
	refused func(err error)
	told    atomic.Bool
}

// refuse tells the caller. It belongs to who writes to it.
func (n *nearEnd) refuse(err error) {
	if n.refused != nil {
		n.refused(err)
		n.told.Store(true)
	}
}

// Reset implements splice.Conn. What the caller was told would be lost with a reset.
func (n *nearEnd) Reset(status wire.Status) {
	if n.told.Load() {
		_ = n.Close() // nobody is there any more, if it fails
		return
	}
	n.Conn.Reset(status)
}
