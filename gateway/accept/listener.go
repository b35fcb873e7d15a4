package accept

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Why a Listener resets a connection: a closed vocabulary for logs and metrics.
const (
	ReasonOverloaded = "overloaded"
	ReasonSource     = "source_not_allowed"
)

// The back-off after a failed accept is net/http's.
const (
	minBackoff = 5 * time.Millisecond
	maxBackoff = time.Second
)

// Options configure a Listener.
type Options struct {
	// Listener is what connections come from; required.
	Listener net.Listener
	// Slots bound the open connections; required.
	Slots *Slots
	// Sources are the ranges that may connect; none means everyone.
	Sources []netip.Prefix
	// Refused is told of each connection that was reset; nil is told nothing.
	Refused func(reason string, from net.Addr)
	// Log receives failures to accept; nil discards them.
	Log *slog.Logger
}

// Listener is a net.Listener whose Accept returns only what may be served.
type Listener struct {
	o      Options
	once   sync.Once
	closed chan struct{}
}

// NewListener wraps o.Listener.
func NewListener(o Options) (*Listener, error) {
	if o.Listener == nil || o.Slots == nil {
		return nil, errors.New("accept: listener and slots are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Refused == nil {
		o.Refused = func(string, net.Addr) {}
	}
	return &Listener{o: o, closed: make(chan struct{})}, nil
}

// Addr is where the listener listens.
func (l *Listener) Addr() net.Addr { return l.o.Listener.Addr() }

// Close stops accepting. Connections go on. It is safe to call twice.
func (l *Listener) Close() (err error) {
	l.once.Do(func() {
		close(l.closed)
		err = l.o.Listener.Close()
	})
	return err
}

// Accept returns the next connection that may be served, a *Conn. It fails only
// after Close.
func (l *Listener) Accept() (net.Conn, error) {
	backoff := minBackoff
	for {
		// Reserved before accepting: two accepts in a row cannot both take the
		// last slot.
		reserved := l.o.Slots.TryAcquire()
		if reserved {
			l.o.Slots.reserve(1)
		}
		c, err := l.o.Listener.Accept()
		if reserved {
			l.o.Slots.reserve(-1)
		}
		if err != nil {
			if reserved {
				l.o.Slots.Release()
			}
			if errors.Is(err, net.ErrClosed) || l.isClosed() {
				return nil, net.ErrClosed
			}
			l.o.Log.Warn("accept failed", "listener", l.Addr().String(), "err", err, "duration", backoff)
			if !l.wait(backoff) {
				return nil, net.ErrClosed
			}
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		backoff = minBackoff
		reason := ""
		switch {
		case !l.allowed(c.RemoteAddr()):
			reason = ReasonSource
		case !reserved && !l.o.Slots.TryAcquire(): // one may have come free meanwhile
			reason = ReasonOverloaded
		default:
			return &Conn{Conn: c, slots: l.o.Slots}, nil
		}
		if reserved {
			l.o.Slots.Release()
		}
		l.o.Refused(reason, c.RemoteAddr())
		reset(c)
	}
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

func (l *Listener) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closed:
		return false
	}
}

// allowed reports whether who connects is in the source ranges.
func (l *Listener) allowed(from net.Addr) bool {
	if len(l.o.Sources) == 0 {
		return true
	}
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range l.o.Sources {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
