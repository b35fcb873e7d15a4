package generation_test

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/generation"
)

// reader counts what a socket gets: packets that are for its slot, and others.
type reader struct {
	conn              *net.UDPConn
	own, fresh, wrong atomic.Int64
}

const stranger = 0xff // the slot that a packet for nobody names

func read(t *testing.T, s generation.Slot, conn *net.UDPConn) *reader {
	t.Helper()
	r := &reader{conn: conn}
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		for b := make([]byte, 2048); ; {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			switch b[n-1] {
			case byte(s):
				r.own.Add(1)
			case stranger:
				r.fresh.Add(1)
			default:
				r.wrong.Add(1)
			}
		}
	}()
	return r
}

// packet is for a slot, with a short or a long header; its last byte says the slot.
func packet(t *testing.T, s generation.Slot, long bool) []byte {
	t.Helper()
	c, err := generation.IDs{Slot: s}.GenerateConnectionID()
	if err != nil {
		t.Fatal(err)
	}
	p := []byte{0x40}
	if long {
		p = append(binary.BigEndian.AppendUint32([]byte{0xe0}, 1), byte(c.Len()))
	}
	p = append(append(p, c.Bytes()...), make([]byte, 100)...)
	return append(p, byte(s))
}

// TestPacketsReachTheirProcess runs the program in the kernel: while packets come from
// many addresses, sockets are added one after the other up to the last slot, some die,
// and their slots are used again. Each packet is for one slot, and no other gets it.
func TestPacketsReachTheirProcess(t *testing.T) {
	first, err := generation.First("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := first.LocalAddr().(*net.UDPAddr)
	if _, err := net.ListenUDP("udp", at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("another program may have the port: %v", err)
	}
	if _, err := generation.First(at.String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("another gateway may have the port: %v", err)
	}
	readers := []*reader{read(t, 0, first)}
	live, newest := generation.Live(0).With(0), generation.Slot(0)
	steer := func(l generation.Live, n generation.Slot) {
		t.Helper()
		if err := generation.Steer(first, l, n); err != nil {
			t.Fatal(err)
		}
		live, newest = l, n
	}
	var sent [generation.Slots]atomic.Int64
	round := func() {
		t.Helper()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 48 { // what one socket buffers, should its reader wait
					c, err := net.DialUDP("udp", nil, at) // another address each time
					if err != nil {
						t.Error(err)
						return
					}
					s := generation.Slot(i % generation.Slots)
					if !live.Has(s) {
						s = newest
					}
					if _, err := c.Write(packet(t, s, i%3 == 0)); err == nil {
						sent[s].Add(1)
					}
					_ = c.Close()
				}
			})
		}
		wg.Wait()
		deadline := time.Now().Add(20 * time.Second)
		for s, r := range readers {
			for r.own.Load() < sent[s].Load() && time.Now().Before(deadline) {
				time.Sleep(time.Millisecond)
			}
			if r.own.Load() != sent[s].Load() || r.wrong.Load() != 0 {
				t.Fatalf("%d sockets, live %016b, newest %d: slot %d got %d of its %d, and %d of others",
					len(readers), live, newest, s, r.own.Load(), sent[s].Load(), r.wrong.Load())
			}
		}
	}
	round()
	for s := generation.Slot(1); s < generation.Slots; s++ {
		conn, err := generation.Successor(first)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, read(t, s, conn))
		steer(live.With(s), newest) // it dials, and takes nothing yet
		round()
		steer(live, s)
		round()
	}
	// What is of a process that has ended, and what is of nobody, is the newest's.
	steer(live.Without(3).Without(0), newest)
	before := readers[newest].wrong.Load() + readers[newest].fresh.Load()
	c, err := net.DialUDP("udp", nil, at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for range 50 {
		for _, p := range [][]byte{
			packet(t, 3, false), packet(t, 0, true),
			append(append(binary.BigEndian.AppendUint32([]byte{0xc0}, 1), 8), append(make([]byte, 1200), stranger)...),
		} {
			if _, err := c.Write(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for deadline := time.Now().Add(20 * time.Second); readers[newest].wrong.Load()+readers[newest].fresh.Load() < before+150; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the newest got %d of 150 packets of nobody", readers[newest].wrong.Load()+readers[newest].fresh.Load()-before)
		}
	}
	if n := readers[3].own.Load(); n != sent[3].Load() {
		t.Errorf("a slot whose process has ended got %d packets more", n-sent[3].Load())
	}
	readers[newest].wrong.Store(0)
	s, ok := live.Next(generation.Slots)
	if !ok || s != 0 {
		t.Fatalf("the next slot: %d %v", s, ok)
	}
	steer(live.With(0), 0)
	round()
}

// TestWildcard: the default address is all of the host's, of both families.
func TestWildcard(t *testing.T) {
	first, err := generation.First("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()
	next, err := generation.Successor(first)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	if err := generation.Steer(next, generation.Live(0).With(0).With(1), 1); err != nil {
		t.Fatal(err)
	}
	port := first.LocalAddr().(*net.UDPAddr).Port
	for s, conn := range []*net.UDPConn{first, next} {
		c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Write(packet(t, generation.Slot(s), false))
		_ = c.Close()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 200)
		if n, err := conn.Read(b); err != nil || b[n-1] != byte(s) {
			t.Errorf("slot %d: %d bytes, %v (%v)", s, n, err, errors.Is(err, os.ErrDeadlineExceeded))
		}
	}
}
