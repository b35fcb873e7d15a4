package main

import (
	"bytes"
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// wire is a network device that is given packets and keeps what comes back, with when.
type wire struct {
	in chan []byte

	mu   sync.Mutex
	back [][]byte
	when []time.Time
}

func (w *wire) Read(b []byte) (int, error) {
	p, ok := <-w.in
	if !ok {
		return 0, io.EOF
	}
	return copy(b, p), nil
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.back, w.when = append(w.back, bytes.Clone(b)), append(w.when, time.Now())
	return len(b), nil
}

func ipv4(id byte) []byte {
	b := make([]byte, 21)
	b[0], b[20] = 0x45, id
	copy(b[12:], []byte{198, 18, 0, 1, 198, 18, 0, 2})
	return b
}

func TestLinkDelaysExchangesAndLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wire{in: make(chan []byte)}
		l := &link{device: w}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.run(ctx) }()

		begun := time.Now()
		w.in <- []byte{0x60, 0} // IPv6: not carried
		w.in <- ipv4(1)
		time.Sleep(5 * time.Millisecond)
		w.in <- ipv4(2)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(w.back) != 2 {
			t.Fatalf("%d packets came back, want 2", len(w.back))
		}
		for i, after := range []time.Duration{oneWay, oneWay + 5*time.Millisecond} {
			if got := w.when[i].Sub(begun); got != after {
				t.Errorf("packet %d came after %s, want %s", i, got, after)
			}
			if got := w.back[i]; !bytes.Equal(got[12:20], []byte{198, 18, 0, 2, 198, 18, 0, 1}) || got[20] != byte(i+1) {
				t.Errorf("packet %d came as %v", i, got)
			}
		}

		l.loss.Store(1e6)
		w.in <- ipv4(3)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(w.back) != 2 || l.lost.Load() != 1 || l.sent.Load() != 4 {
			t.Errorf("with everything lost: %d came back, %d of %d lost", len(w.back), l.lost.Load(), l.sent.Load())
		}
		cancel()
		close(w.in)
		<-done
	})
}
