package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// place says how the halves of a pair reach each other: the far one listens at here, the
// near one calls it at there.
type place struct {
	here, there string
	link        *link // nil: loopback
}

var loopback = place{here: "127.0.0.1", there: "127.0.0.1"}

const (
	// oneWay is how long a packet is under way.
	oneWay = 20 * time.Millisecond
	// underWay bounds the packets on the link, far above what a connection sends in a
	// round trip.
	underWay = 50_000
)

// link is a long way between here and there, on one machine and for TCP and UDP alike:
// what is sent to there comes out of a network device, waits, and goes back into it with
// source and destination exchanged. The kernel then takes it for a packet from there to
// here. The exchange leaves all checksums right, since they are sums of both.
type link struct {
	device interface {
		Read([]byte) (int, error)
		Write([]byte) (int, error)
	}
	// loss is in packets of a million, each way.
	loss atomic.Int64

	sent, lost, full atomic.Int64
	// late is the most that a packet was delivered too late.
	late atomic.Int64
}

// traffic is what a link has carried.
type traffic struct {
	Packets int64 `json:"packets"`
	Lost    int64 `json:"lost"`
	// Full is how many it had no room for, Late the most that one came too late.
	Full int64         `json:"full"`
	Late time.Duration `json:"late"`
}

func (l *link) traffic() *traffic {
	return &traffic{Packets: l.sent.Load(), Lost: l.lost.Load(), Full: l.full.Load(), Late: time.Duration(l.late.Load())}
}

type packet struct {
	due    time.Time
	buffer *buffer
	size   int
}

// buffer holds a packet of the device, whose MTU is 1500.
type buffer [2 * kib]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// run carries packets until ctx ends and the device is closed.
func (l *link) run(ctx context.Context) {
	queue := make(chan packet, underWay)
	var wg sync.WaitGroup
	wg.Go(func() { l.deliver(ctx, queue) })
	for {
		b := buffers.Get().(*buffer)
		n, err := l.device.Read(b[:])
		if err != nil {
			break // closed
		}
		l.sent.Add(1)
		if rand.Int64N(1e6) < l.loss.Load() {
			l.lost.Add(1)
			continue
		}
		if !exchange(b[:n]) {
			continue // not IPv4: what the kernel says to a new device
		}
		select {
		case queue <- packet{time.Now().Add(oneWay), b, n}:
		default:
			l.full.Add(1)
		}
	}
	wg.Wait()
}

func (l *link) deliver(ctx context.Context, queue <-chan packet) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var p packet
		select {
		case <-ctx.Done():
			return
		case p = <-queue:
		}
		if early := time.Until(p.due); early > 0 {
			timer.Reset(early)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		if late := int64(time.Since(p.due)); late > l.late.Load() {
			l.late.Store(late)
		}
		_, _ = l.device.Write(p.buffer[:p.size]) // a full socket loses packets, too
		buffers.Put(p.buffer)
	}
}

// exchange swaps source and destination of an IPv4 packet.
func exchange(b []byte) bool {
	if len(b) < 20 || b[0]>>4 != 4 {
		return false
	}
	var source [4]byte
	copy(source[:], b[12:16])
	copy(b[12:16], b[16:20])
	copy(b[16:20], source[:])
	return true
}
