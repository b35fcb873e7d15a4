package wan

import (
	"context"
	"sync"
	"time"
)

// line is one direction of one flow: first in, first out, each datagram after
// the same delay.
type line struct {
	delay   time.Duration
	deliver func([]byte)
	queue   chan packet
	pool    sync.Pool
}

type packet struct {
	due time.Time
	buf *[maxDatagram]byte
	n   int
}

func newLine(delay time.Duration, deliver func([]byte)) *line {
	return &line{
		delay: delay, deliver: deliver, queue: make(chan packet, queueLen),
		pool: sync.Pool{New: func() any { return new([maxDatagram]byte) }},
	}
}

// push takes a copy of b; false means that the queue is full.
func (l *line) push(b []byte) bool {
	p := packet{due: time.Now().Add(l.delay), buf: l.pool.Get().(*[maxDatagram]byte)}
	p.n = copy(p.buf[:], b)
	select {
	case l.queue <- p:
		return true
	default:
		l.pool.Put(p.buf)
		return false
	}
}

func (l *line) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-l.queue:
			if wait := time.Until(p.due); wait > 0 && !pause(ctx, wait) {
				return
			}
			l.deliver(p.buf[:p.n])
			l.pool.Put(p.buf)
		}
	}
}

// pause waits for d; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
