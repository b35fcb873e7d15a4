package main

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadMessage(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n"))
	for _, want := range []string{"POST / HTTP/1.1", "HTTP/1.1 200 OK"} {
		if first, err := readMessage(r); err != nil || string(first) != want {
			t.Errorf("%q, %v, want %q", first, err, want)
		}
	}
	if _, err := readMessage(r); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
	for text, want := range map[string]error{
		"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n":   errMessage,
		"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc": io.ErrUnexpectedEOF,
	} {
		if _, err := readMessage(bufio.NewReader(strings.NewReader(text))); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

// Callers and service do what they say, without a proxy: exchanges and bytes are
// counted, and what fails is told.
func TestCallersAndService(t *testing.T) {
	s, err := newService(t.Context(), loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	to := target{s.address, "service"}
	if err := await(t.Context(), to, time.Minute, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	for _, w := range workloads {
		if w.work == nil {
			continue
		}
		l := begin(t.Context(), 2, w.work(to))
		for l.done.Load() < 10 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		l.end()
		if l.failed.Load() > 0 {
			t.Errorf("%s: %v", w.name, l.first)
		}
	}
	nobody := target{"127.0.0.1:1", "service"}
	l := begin(t.Context(), 1, fresh(nobody))
	for l.failed.Load() == 0 && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	l.end()
	if l.first == nil || l.done.Load() > 0 {
		t.Errorf("calls to nobody: %d done, %v", l.done.Load(), l.first)
	}
}
