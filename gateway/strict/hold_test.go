package strict_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/strict"
)

// halfClosed serves with HalfClose a handler that answers after a while, sends data
// and closes the caller's side at once.
func halfClosed(t *testing.T, data string) (answer string, canceled int) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	server := &http.Server{ConnState: strict.ConnState, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, bodyErr := io.Copy(io.Discard, r.Body)
		timer := time.NewTimer(50 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			mu.Lock()
			canceled++
			mu.Unlock()
		}
		if bodyErr != nil {
			_, _ = io.WriteString(w, "broken body;")
			return
		}
		_, _ = io.WriteString(w, "answered "+r.URL.Path+";")
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(&strict.Listener{Listener: inner, MaxHead: 4096, HalfClose: true}) })
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, data); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	got, err := io.ReadAll(c) // the server closes after the last answer
	if err != nil {
		t.Fatalf("%v after %q", err, got)
	}
	_ = server.Close()
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	return string(got), canceled
}

func TestACallerMayCloseItsSideBeforeTheAnswer(t *testing.T) {
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	if got, canceled := halfClosed(t, get("/1")); canceled != 0 || !strings.Contains(got, "answered /1;") {
		t.Errorf("%d canceled: %q", canceled, got)
	}
	if got, canceled := halfClosed(t, get("/1")+get("/2")); canceled != 0 || strings.Count(got, "answered") != 2 {
		t.Errorf("pipelined: %d canceled: %q", canceled, got)
	}
	post := "POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
	if got, canceled := halfClosed(t, post+"abc"); canceled != 0 || !strings.Contains(got, "answered /3;") {
		t.Errorf("post: %d canceled: %q", canceled, got)
	}
	if got, _ := halfClosed(t, post+"ab"); !strings.Contains(got, "broken body;") {
		t.Errorf("a body that is cut short must not wait: %q", got)
	}
}
