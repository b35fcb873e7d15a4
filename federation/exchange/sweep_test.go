package exchange_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/exchange"
)

// ear is the listener of an upgraded stream, which may stop reading.
type ear struct {
	conn  io.ReadWriteCloser
	pause chan struct{} // closed: it reads no more

	mu    sync.Mutex
	heard []time.Time // when batches were complete
	ended bool
}

// newEar opens a stream and listens until it ends.
func newEar(t *testing.T, w *countedWire, peer string) *ear {
	t.Helper()
	conn, err := w.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, upgradeRequest(peer)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", resp, err)
	}
	_ = resp.Body.Close() // there is none: what follows is the stream
	e := &ear{conn: conn, pause: make(chan struct{})}
	go func() {
		for {
			select {
			case <-e.pause:
				return
			default:
			}
			line, err := r.ReadString('\n')
			e.mu.Lock()
			if e.ended = err != nil; strings.HasPrefix(line, `{"type":"sync"`) {
				e.heard = append(e.heard, time.Now())
			}
			e.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() {
		for time.Sleep(exchange.AliveEvery); ; time.Sleep(exchange.AliveEvery) {
			if _, err := conn.Write([]byte{'\n'}); err != nil {
				return
			}
		}
	}()
	return e
}

func (e *ear) last() (n int, at time.Time, ended bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n = len(e.heard); n > 0 {
		at = e.heard[n-1]
	}
	return n, at, e.ended
}

// Streams are swept once their writes have been quick for a while. One that stops
// reading then holds the others up for a moment, once; it is written to by its own
// goroutine from then on, until it is let go, and nobody else notices.
func TestAStreamThatStallsHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const listeners = 40
		x := newTold(t, 100, listeners)
		x.tell(t, 0, 1)
		w := &countedWire{wire: newWire()}
		server := &http.Server{Handler: x.exporter, ReadHeaderTimeout: time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(w)
		}()
		var ears []*ear
		for _, p := range x.listeners {
			ears = append(ears, newEar(t, w, string(p)))
		}
		ready := 1
		tell := func() time.Time {
			time.Sleep(time.Second)
			ready++
			at := time.Now()
			x.tell(t, 10, ready%9)
			time.Sleep(500 * time.Millisecond)
			return at
		}
		if n := x.exporter.Quick(); n != 0 {
			t.Errorf("%d streams are swept at once", n)
		}
		for range exchange.QuickEnough {
			tell()
		}
		if n := x.exporter.Quick(); n != listeners {
			t.Fatalf("%d of %d streams are swept", n, listeners)
		}
		// The first and one in the middle stop reading.
		stalled := map[int]bool{0: true, listeners / 2: true}
		for i := range stalled {
			close(ears[i].pause)
		}
		tell() // is read to its first line, or not at all
		worst := func(at time.Time) (worst time.Duration) {
			for i, e := range ears {
				if _, heard, ended := e.last(); !stalled[i] {
					worst = max(worst, heard.Sub(at))
					if heard.Before(at) || ended {
						t.Errorf("listener %d: heard %v, ended %v", i, heard.Sub(at), ended)
					}
				}
			}
			return worst
		}
		if got, most := worst(tell()), 2*exchange.SweepStall; got > most {
			t.Errorf("a telling takes %v where two listeners stall, want at most %v", got, most)
		}
		for range 5 {
			if got := worst(tell()); got != 0 {
				t.Errorf("a telling takes %v after that", got)
			}
		}
		time.Sleep(time.Minute)
		tell()
		if n := x.exporter.Quick(); n != listeners-len(stalled) {
			t.Errorf("%d streams are swept", n)
		}
		if n := x.exporter.Listeners(); n != listeners-len(stalled) {
			t.Errorf("%d streams are open", n)
		}
		x.exporter.Close()
		_ = server.Close()
		for _, e := range ears {
			_ = e.conn.Close()
		}
		<-done
		time.Sleep(time.Minute)
	})
}
