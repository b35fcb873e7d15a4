package splice

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// DefaultIdleTimeout ends a connection on which nothing moved either way: long,
// since databases keep pools; finite, since the other end may be gone without a
// word (design section 11).
const DefaultIdleTimeout = time.Hour

// ErrIdle is the error of a pair on which nothing moved for the idle timeout.
var ErrIdle = errors.New("nothing moved for the idle timeout")

// Counter takes byte counts as they move; a prometheus.Counter is one.
type Counter interface{ Add(float64) }

// Options configure a Splicer.
type Options struct {
	// IdleTimeout is the longest silence; 0 means DefaultIdleTimeout.
	IdleTimeout time.Duration
}

// Splicer joins connections in pairs. It holds the buffers that they share.
type Splicer struct {
	idle  time.Duration
	pool  *pool
	pairs atomic.Int64
}

// New returns a Splicer.
func New(o Options) *Splicer {
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = DefaultIdleTimeout
	}
	return &Splicer{idle: o.IdleTimeout, pool: newPool()}
}

// Open is how many pairs are being spliced now.
func (s *Splicer) Open() int64 { return s.pairs.Load() }

// Counters count bytes live; nil fields count nothing.
type Counters struct {
	// AB counts bytes from the first to the second connection, BA the others.
	AB, BA Counter
}

// Result says how a pair ended.
type Result struct {
	// AB and BA are the bytes moved from the first to the second and back.
	AB, BA int64
	// Status is wire.OK when both directions ended by EOF, else why both were
	// reset.
	Status wire.Status
	// Err is the first failure; nil when Status is OK.
	Err error
	// FromA says that the first connection failed first.
	FromA bool
}

// Run moves bytes between a and b until both directions are done, and leaves
// both closed. cause gives the code sent when ctx ends first.
//
// It uses the calling goroutine and one more, and has waited for that.
func (s *Splicer) Run(ctx context.Context, a, b Conn, counters Counters, cause func() wire.Status) Result {
	s.pairs.Add(1)
	defer s.pairs.Add(-1)
	p := &pair{a: a, b: b, idle: s.idle}
	p.moved.Store(time.Now().UnixNano())
	p.watch()
	defer p.unwatch()
	stop := context.AfterFunc(ctx, func() { p.fail(context.Cause(ctx), cause(), false) })

	done := make(chan int64, 1)
	go func() { done <- p.half(b, a, s.pool, counters.AB, true) }()
	ba := p.half(a, b, s.pool, counters.BA, false)
	ab := <-done
	stop()

	// Both directions are over: what is left is to free the ends. After an
	// orderly end this is a clean close, after a reset it does nothing.
	_ = a.Close()
	_ = b.Close()
	r := Result{AB: ab, BA: ba}
	if f := p.failed.Load(); f != nil {
		r.Status, r.Err, r.FromA = f.status, f.err, f.fromA
	}
	return r
}

// pair is one running splice.
type pair struct {
	a, b   Conn
	idle   time.Duration
	moved  atomic.Int64 // Unix nanoseconds of the last byte
	failed atomic.Pointer[failure]

	mu    sync.Mutex // guards timer between watch and a timeout that fires at once
	timer *time.Timer
}

type failure struct {
	status wire.Status
	err    error
	fromA  bool
}

// half moves bytes from src to dst until EOF or a failure. fromA says that src
// is the first connection of the pair.
func (p *pair) half(dst, src Conn, pool *pool, count Counter, fromA bool) (moved int64) {
	buffer := lazyBuffer{pool: pool}
	defer buffer.release()
	for {
		n, rerr := src.Read(buffer.next())
		if n > 0 {
			p.moved.Store(time.Now().UnixNano())
			w, werr := dst.Write(buffer.next()[:n])
			moved += int64(w)
			if count != nil {
				count.Add(float64(w))
			}
			if werr != nil {
				p.fail(werr, statusOf(werr), !fromA)
				return moved
			}
			// A write that waited for credit moved bytes too.
			p.moved.Store(time.Now().UnixNano())
			buffer.saw(n)
		}
		switch {
		case rerr == nil:
		case errors.Is(rerr, io.EOF):
			if err := dst.CloseWrite(); err != nil && !Routine(err) {
				p.fail(err, statusOf(err), !fromA)
			}
			return moved
		default:
			p.fail(rerr, statusOf(rerr), fromA)
			return moved
		}
	}
}

// fail resets both ends, once: the first failure is the cause, what follows from
// it is noise.
func (p *pair) fail(err error, status wire.Status, fromA bool) {
	if !p.failed.CompareAndSwap(nil, &failure{status: status, err: err, fromA: fromA}) {
		return
	}
	p.a.Reset(status)
	p.b.Reset(status)
}

func (p *pair) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(p.idle, p.checkIdle)
}

func (p *pair) unwatch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	p.timer = nil
}

// checkIdle runs when the idle timeout may have passed, and sets itself again if
// something moved meanwhile: one timer, no wake-ups of an active pair.
func (p *pair) checkIdle() {
	silent := time.Since(time.Unix(0, p.moved.Load()))
	if left := p.idle - silent; left > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.timer != nil {
			p.timer.Reset(left)
		}
		return
	}
	p.fail(ErrIdle, wire.Idle, false)
}
