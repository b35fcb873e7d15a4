package protocols_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// awaitTCP waits until a byte stream to a service is carried.
func awaitTCP(t *testing.T, address string, probe func(*net.TCPConn) error) {
	t.Helper()
	stand.Eventually(t, time.Minute, "stream to "+address, func() error {
		c, err := dial(address)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		return probe(c)
	})
}

func dial(address string) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func TestByteStreams(t *testing.T) {
	p := newPair(t, "echo", "greeter", "sink", "source", "resetter")
	ln, a := listen(t)
	p.serve(t, "echo", "tcp", a)
	serveConns(ln, func(c *net.TCPConn) { // answers until the caller's end, then ends
		_, _ = io.Copy(c, c)
		_ = c.Close()
	})
	ln, a = listen(t)
	p.serve(t, "greeter", "tcp", a)
	serveConns(ln, func(c *net.TCPConn) { // speaks first, as SSH, SMTP and MySQL do
		_, _ = io.WriteString(c, "hello\n")
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	})
	ln, a = listen(t)
	p.serve(t, "sink", "tcp", a)
	serveConns(ln, func(c *net.TCPConn) { // reads to the end, then answers: needs half-close
		h := sha256.New()
		n, err := io.Copy(h, c)
		_, _ = fmt.Fprintf(c, "%d %x %v", n, h.Sum(nil), err)
		_ = c.Close()
	})
	ln, a = listen(t)
	p.serve(t, "source", "tcp", a)
	serveConns(ln, func(c *net.TCPConn) { // ends its side first and then listens
		_, _ = io.WriteString(c, "all")
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	})
	ln, a = listen(t)
	p.serve(t, "resetter", "tcp", a)
	serveConns(ln, func(c *net.TCPConn) { // answers, and resets on the second line
		buf := make([]byte, 16)
		_, _ = c.Read(buf)
		_, _ = io.WriteString(c, "partial")
		_, _ = c.Read(buf)
		_ = c.SetLinger(0)
		_ = c.Close()
	})
	p.Start()
	awaitTCP(t, p.way("echo"), func(c *net.TCPConn) error {
		if _, err := io.WriteString(c, "x"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	})

	t.Run("server speaks first", func(t *testing.T) {
		c := mustDial(t, p.way("greeter"))
		got := make([]byte, 6)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello\n" {
			t.Fatalf("%q, %v", got, err)
		}
	})
	t.Run("caller half-closes", func(t *testing.T) {
		c := mustDial(t, p.way("sink"))
		_, _ = io.WriteString(c, "payload")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		want := fmt.Sprintf("7 %x <nil>", sha256.Sum256([]byte("payload")))
		if err != nil || string(got) != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	})
	t.Run("server half-closes", func(t *testing.T) {
		c := mustDial(t, p.way("source"))
		got, err := io.ReadAll(c)
		if err != nil || string(got) != "all" {
			t.Fatalf("%q, %v", got, err)
		}
		// its side still takes what we send
		for range 10 {
			if _, err := c.Write(make([]byte, 32<<10)); err != nil {
				t.Fatalf("write after the server's end: %v", err)
			}
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("server resets", func(t *testing.T) {
		c := mustDial(t, p.way("resetter"))
		_, _ = io.WriteString(c, "one")
		got := make([]byte, 7)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "partial" {
			t.Fatalf("%q, %v", got, err)
		}
		_, _ = io.WriteString(c, "two")
		if _, err := c.Read(got); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("read after the server's reset: %v, want a reset", err)
		}
	})
	t.Run("1 GiB arrives whole", func(t *testing.T) { bulk(t, p.way("sink"), 1<<30) })
	t.Run("1,000 connections at once", func(t *testing.T) { crowd(t, p.way("echo"), 1000) })
}

func mustDial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := dial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

func bulk(t *testing.T, address string, size int64) {
	c := mustDial(t, address)
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	h := sha256.New()
	begin := time.Now()
	for sent := int64(0); sent < size; sent += int64(len(block)) {
		h.Write(block)
		if _, err := c.Write(block); err != nil {
			t.Fatalf("after %d bytes: %v", sent, err)
		}
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)
	want := fmt.Sprintf("%d %s <nil>", size, hex.EncodeToString(h.Sum(nil)))
	if string(got) != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	stand.Figure(t, "%d MiB with matching SHA-256 in %.1f s, %.0f Mbit/s", size>>20, took.Seconds(), float64(size)*8/1e6/took.Seconds())
}

// crowd holds count streams open at once, each with an answer of its own.
func crowd(t *testing.T, address string, count int) {
	var ready, wg sync.WaitGroup
	ready.Add(count)
	all := make(chan struct{})
	errs := make(chan error, count)
	begin := time.Now()
	for i := range count {
		wg.Go(func() {
			errs <- func() error {
				msg := fmt.Appendf(nil, "stream %d ", i)
				c, err := dial(address)
				if err == nil {
					defer func() { _ = c.Close() }()
					err = talk(c, msg)
				}
				ready.Done()
				if err != nil {
					return err
				}
				<-all // every stream is open now
				if err := talk(c, bytes.Repeat(msg, 1000)); err != nil {
					return err
				}
				return c.CloseWrite()
			}()
		})
	}
	ready.Wait()
	close(all)
	wg.Wait()
	close(errs)
	failed := 0
	for err := range errs {
		if err != nil {
			failed++
			t.Error(err)
		}
	}
	stand.Figure(t, "%d streams at once, %d failed, %.1f s", count, failed, time.Since(begin).Seconds())
}

// talk sends msg and expects it back.
func talk(c *net.TCPConn, msg []byte) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(msg)
		sent <- err
	}()
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(got, msg) {
		return fmt.Errorf("got another stream's bytes: %.40q", strings.ToValidUTF8(string(got), "?"))
	}
	return <-sent
}
