package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// patience bounds one exchange: one that takes longer hangs.
const patience = 20 * time.Second

// target is what a caller calls.
type target struct {
	address, authority string
}

func (t target) request() []byte {
	return fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", t.authority, kib, bytes.Repeat([]byte("q"), kib))
}

// caller is one connection.
type caller struct {
	net.Conn
	r *bufio.Reader
}

func dial(ctx context.Context, t target) (*caller, error) {
	d := net.Dialer{Timeout: patience}
	c, err := d.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	return &caller{Conn: c, r: bufio.NewReaderSize(c, 2*kib)}, nil
}

// call is one exchange.
func (c *caller) call(request []byte) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	first, err := readMessage(c.r)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(first, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answered %q", first)
	}
	return nil
}

// load is callers at work in a closed loop, and what they have done.
type load struct {
	// done is how many exchanges, or bytes, failed how many attempts.
	done, failed atomic.Int64
	// recording is whether times are kept now.
	recording atomic.Bool

	mu    sync.Mutex
	took  []time.Duration
	first error // of those that failed
	conns map[*caller]bool
	ended bool

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// begin starts n callers, each of which does its work again and again until end.
func begin(ctx context.Context, n int, work func(context.Context, *load) error) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{stop: stop, conns: map[*caller]bool{}}
	for range n {
		l.wg.Go(func() {
			for ctx.Err() == nil {
				if err := work(ctx, l); err != nil && ctx.Err() == nil {
					l.fail(err)
					// What refuses at once is not to be asked without a pause.
					wait(ctx, 5*time.Millisecond)
				}
			}
		})
	}
	return l
}

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

// dial connects, and has end break the connection off.
func (l *load) dial(ctx context.Context, t target) (*caller, error) {
	c, err := dial(ctx, t)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		_ = c.Close()
		return nil, context.Canceled
	}
	l.conns[c] = true
	return c, nil
}

func (l *load) close(c *caller) {
	_ = c.Close()
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
}

// record counts an exchange that began then.
func (l *load) record(begun time.Time) {
	l.done.Add(1)
	if !l.recording.Load() {
		return
	}
	took := time.Since(begun)
	l.mu.Lock()
	l.took = append(l.took, took)
	l.mu.Unlock()
}

// end breaks everything off and waits for the callers.
func (l *load) end() {
	l.stop()
	l.mu.Lock()
	l.ended = true
	for c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// fresh makes a connection for one exchange.
func fresh(t target) func(context.Context, *load) error {
	request := t.request()
	return func(ctx context.Context, l *load) error {
		begun := time.Now()
		c, err := l.dial(ctx, t)
		if err != nil {
			return err
		}
		defer l.close(c)
		if err := c.call(request); err != nil {
			return err
		}
		l.record(begun)
		return nil
	}
}

// kept makes one exchange after the other on a connection.
func kept(t target) func(context.Context, *load) error {
	request := t.request()
	return func(ctx context.Context, l *load) error {
		c, err := l.dial(ctx, t)
		if err != nil {
			return err
		}
		defer l.close(c)
		for ctx.Err() == nil {
			begun := time.Now()
			if err := c.call(request); err != nil {
				return err
			}
			l.record(begun)
		}
		return nil
	}
}

// bulk reads without end.
func bulk(t target) func(context.Context, *load) error {
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", bulkPath, t.authority)
	return func(ctx context.Context, l *load) error {
		c, err := l.dial(ctx, t)
		if err != nil {
			return err
		}
		defer l.close(c)
		if _, err := c.Write(request); err != nil {
			return err
		}
		for b := make([]byte, block); ; {
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
			n, err := c.Read(b)
			l.done.Add(int64(n))
			if err != nil {
				return err
			}
		}
	}
}

// await calls until an answer comes: a pair has started. It gives up where alive fails.
func await(ctx context.Context, t target, within time.Duration, alive func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	request := t.request()
	last := errors.New("not tried")
	for ctx.Err() == nil {
		c, err := dial(ctx, t)
		if err == nil {
			err = c.call(request)
			_ = c.Close()
		}
		if err == nil {
			return nil
		}
		if err := alive(); err != nil {
			return err
		}
		last = err
		wait(ctx, 20*time.Millisecond)
	}
	return fmt.Errorf("no answer from %s within %s: %w", t.address, within, last)
}

// wait waits, and tells whether ctx still lives.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
