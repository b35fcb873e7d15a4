package tunneltest

import (
	"container/heap"
	"sync"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"
)

// inbox holds the packets on their way to one socket and delivers each at its
// time, in order: one goroutine, so that two packets of the same instant are not
// swapped by the scheduler.
type inbox struct {
	to     *simnet.SimConn
	wake   chan struct{}
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	queue deliveries
	count uint64
}

func newInbox(to *simnet.SimConn) *inbox {
	b := &inbox{to: to, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	go b.run()
	return b
}

func (b *inbox) put(p simnet.Packet, at time.Time) {
	b.mu.Lock()
	b.count++
	heap.Push(&b.queue, delivery{packet: p, at: at, order: b.count})
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) close() { b.once.Do(func() { close(b.closed) }) }

func (b *inbox) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p, wait, ok := b.take()
		if ok {
			b.to.RecvPacket(p)
			select {
			case <-b.closed:
				return
			default:
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-b.closed:
			return
		case <-b.wake:
		case <-timer.C:
		}
	}
}

// take returns the next packet that is due, or how long to wait.
func (b *inbox) take() (p simnet.Packet, wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return p, time.Hour, false
	}
	if wait = time.Until(b.queue[0].at); wait > 0 {
		return p, wait, false
	}
	return heap.Pop(&b.queue).(delivery).packet, 0, true
}

type delivery struct {
	packet simnet.Packet
	at     time.Time
	order  uint64
}

// deliveries is a heap by time, then by order of sending.
type deliveries []delivery

func (d deliveries) Len() int { return len(d) }

func (d deliveries) Less(i, j int) bool {
	if !d[i].at.Equal(d[j].at) {
		return d[i].at.Before(d[j].at)
	}
	return d[i].order < d[j].order
}

func (d deliveries) Swap(i, j int) { d[i], d[j] = d[j], d[i] }

func (d *deliveries) Push(x any) { *d = append(*d, x.(delivery)) }

func (d *deliveries) Pop() any {
	last := len(*d) - 1
	x := (*d)[last]
	(*d)[last] = delivery{}
	*d = (*d)[:last]
	return x
}
