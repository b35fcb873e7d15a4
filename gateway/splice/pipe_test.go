package splice_test

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := splice.Pipe()
		go func() {
			_, _ = io.WriteString(a, "question")
			_ = a.CloseWrite()
		}()
		if got, err := io.ReadAll(b); err != nil || string(got) != "question" {
			t.Fatalf("%q, %v", got, err)
		}
		_, _ = io.WriteString(b, "answer") // after the other half has ended
		if _, err := io.ReadFull(a, make([]byte, len("answer"))); err != nil {
			t.Fatal(err)
		}
		b.Reset(wire.Idle)
		_, err := a.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.ResetError](err); !ok || e.Status != wire.Idle {
			t.Fatal(err)
		}
		if _, err := a.Write(make([]byte, 1)); err == nil {
			t.Error("an end that was reset can be written")
		}
		if _, err := b.Read(make([]byte, 1)); err == nil {
			t.Error("an end that was reset can be read")
		}

		a, b = splice.Pipe()
		start := time.Now()
		_ = a.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		_ = b.Close()
		_ = a.SetReadDeadline(time.Time{})
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after Close: %v", err)
		}
		_ = a.Close()
	})
}

func TestAPipeHoldsWhatASocketWould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := splice.Pipe()
		_, _ = a.Write(make([]byte, splice.PipeBuffer)) // neither waits for a reader
		_, _ = b.Write(make([]byte, splice.PipeBuffer))
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("beyond its buffer: %d, %v", n, err)
		}
		_ = a.SetWriteDeadline(time.Time{})
		done := make(chan int, 1)
		go func() {
			n, _ := a.Write(make([]byte, 2*splice.PipeBuffer))
			_ = a.Close()
			done <- n
		}()
		if got, err := io.ReadAll(b); err != nil || len(got) != 3*splice.PipeBuffer || <-done != 2*splice.PipeBuffer {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("to an end that is closed: %v", err)
		}
	})
}
