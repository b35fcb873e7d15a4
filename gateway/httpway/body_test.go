package httpway

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestABodyIsReplayedWhileItIsKept(t *testing.T) {
	data := make([]byte, MaxReplay)
	b := newBody(bytes.NewReader(data))
	for i, n := range []int{0, 10, bodyPiece + 1, MaxReplay} {
		r := b.attempt()
		if got, err := io.ReadFull(r, make([]byte, n)); err != nil {
			t.Fatalf("attempt %d: %d of %d bytes, %v", i, got, n, err)
		}
		if !b.replayable() {
			t.Fatalf("after %d bytes it is not kept", n)
		}
	}
	all, err := io.ReadAll(b.attempt())
	if err != nil || !bytes.Equal(all, data) || !b.replayable() {
		t.Fatalf("%d bytes, %v", len(all), err)
	}
}

func TestALargeBodyIsHandedOnAndNotKept(t *testing.T) {
	data := make([]byte, 5*MaxReplay)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	for _, src := range []io.Reader{bytes.NewReader(data), iotest.HalfReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data))} {
		b := newBody(src)
		got, err := io.ReadAll(b.attempt())
		if err != nil || !bytes.Equal(got, data) || b.replayable() {
			t.Fatalf("%d of %d bytes, %v, replayable %v", len(got), len(data), err, b.replayable())
		}
		if cap(b.kept) != 0 {
			t.Errorf("%d bytes are still held", cap(b.kept))
		}
	}
}

func TestAnAnsweredBodyIsNotKept(t *testing.T) {
	b := newBody(bytes.NewReader(make([]byte, 1000)))
	r := b.attempt()
	_, _ = io.ReadFull(r, make([]byte, 10))
	b.release()
	if b.replayable() {
		t.Error("it may still be replayed")
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 990 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	var none *body
	none.release()
	if !none.replayable() {
		t.Error("no body can always be replayed")
	}
}

// TestWhatAFailedAttemptWasReadingGoesToTheNext: the first attempt still waits for
// the caller when the second begins; the caller's bytes are for the second.
func TestWhatAFailedAttemptWasReadingGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, caller := io.Pipe()
		b := newBody(src)
		first := b.attempt()
		stale := make(chan error, 1)
		go func() {
			_, err := first.Read(make([]byte, 100))
			stale <- err
		}()
		time.Sleep(time.Second) // it waits
		second := b.attempt()
		got := make(chan string, 1)
		go func() {
			all, _ := io.ReadAll(second)
			got <- string(all)
		}()
		time.Sleep(time.Second)
		_, _ = io.WriteString(caller, "for the ")
		_, _ = io.WriteString(caller, "second")
		_ = caller.Close()
		if err := <-stale; !errors.Is(err, errSuperseded) {
			t.Errorf("the first attempt got %v", err)
		}
		if s := <-got; s != "for the second" {
			t.Errorf("the second attempt got %q", s)
		}
	})
}

func TestABrokenBodyIsBrokenForAll(t *testing.T) {
	broken := errors.New("caller broke off")
	b := newBody(io.MultiReader(bytes.NewReader([]byte("abc")), iotest.ErrReader(broken)))
	for range 2 {
		if got, err := io.ReadAll(b.attempt()); !errors.Is(err, broken) || string(got) != "abc" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// TestEveryAttemptSeesAPrefix: whatever is read by how many attempts, each sees the
// body from its start, and the last one all of it.
func TestEveryAttemptSeesAPrefix(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 3*MaxReplay/2).Draw(rt, "data")
		b := newBody(iotest.HalfReader(bytes.NewReader(data)))
		for {
			r := b.attempt()
			n := rapid.IntRange(0, len(data)+1).Draw(rt, "read")
			got, err := io.ReadAll(io.LimitReader(r, int64(n)))
			if err != nil || !bytes.HasPrefix(data, got) || len(got) != min(n, len(data)) {
				rt.Fatalf("read %d of %d, %v", len(got), n, err)
			}
			if !b.replayable() || n > len(data) {
				rest, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(append(got, rest...), data) {
					rt.Fatalf("the rest: %d bytes, %v", len(rest), err)
				}
				return
			}
		}
	})
}
