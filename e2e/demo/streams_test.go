package demo_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// stream is one long-lived byte stream through a TCP way in; ended is closed
// when the gateway ends it.
type stream struct {
	conn  net.Conn
	ended chan struct{}
	at    time.Time
	err   error
}

// openStreams opens streams that have carried one request each and stay open.
func openStreams(t *testing.T, way string, count int) []*stream {
	t.Helper()
	var streams []*stream
	var wg sync.WaitGroup
	for range count {
		conn, err := net.Dial("tcp", way)
		if err != nil {
			t.Fatal(err)
		}
		s := &stream{conn: conn, ended: make(chan struct{})}
		streams = append(streams, s)
		r := bufio.NewReader(conn)
		if err := s.request(r); err != nil {
			t.Fatalf("first request of a stream: %v", err)
		}
		wg.Go(func() {
			defer close(s.ended)
			_, s.err = r.ReadByte() // nothing comes until the end
			s.at = time.Now()
		})
	}
	t.Cleanup(func() {
		for _, s := range streams {
			_ = s.conn.Close()
		}
		wg.Wait()
	})
	return streams
}

func (s *stream) request(r *bufio.Reader) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(callTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(s.conn, "GET / HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	return errors.Join(resp.Body.Close(), s.conn.SetReadDeadline(time.Time{}))
}

// checkStreams asserts that the streams through the dead gateway were ended, by
// a reset, and that the others still carry; none may hang.
func checkStreams(t *testing.T, streams []*stream, killed time.Time) {
	t.Helper()
	reset, alive := 0, 0
	var slowest time.Duration
	for _, s := range streams {
		select {
		case <-s.ended:
			reset++
			slowest = max(slowest, s.at.Sub(killed))
			if s.err == nil || errors.Is(s.err, io.EOF) || errors.Is(s.err, os.ErrDeadlineExceeded) {
				t.Errorf("a stream whose gateway died ended with %v, want a reset", s.err)
			}
			continue
		default:
		}
		// its reader waits: an answer to a second request ends it
		if _, err := io.WriteString(s.conn, "GET / HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
			t.Errorf("a stream that was not reset does not carry: %v", err)
			continue
		}
		select {
		case <-s.ended:
			if s.err != nil {
				t.Errorf("a stream that was not reset answers %v", s.err)
			}
			alive++
		case <-time.After(callTimeout):
			t.Error("a stream hangs after its gateway died")
		}
	}
	stand.Figure(t, "streams through two gateways, one killed: %d reset within %d ms, %d carry on", reset, slowest.Milliseconds(), alive)
	if reset == 0 || alive == 0 {
		t.Errorf("%d reset and %d alive: both gateways should have carried some", reset, alive)
	}
}
