package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
)

// The service and its callers speak HTTP/1.1 by hand: as little of the machine as can be
// goes to what is not measured, and what they cost is the same for every peer.

const (
	// kib is the size of a request's and of an answer's body.
	kib = 1 << 10
	// block is what bulk is written and read by.
	block = 256 << 10
)

// bulkRequest asks for bytes without end.
const bulkPath = "/bulk"

var (
	answer     = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", kib, bytes.Repeat([]byte("a"), kib))
	bulkAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n")
)

// service is what everything is in front of.
type service struct {
	address string
	// open is how many connections there are now.
	open atomic.Int64

	listeners []net.Listener
	mu        sync.Mutex
	conns     map[net.Conn]bool
	wg        sync.WaitGroup
}

// newService listens on loopback, where the proxies call it, and at the same port where
// callers without a proxy do.
func newService(ctx context.Context, at place) (*service, error) {
	s := &service{conns: map[net.Conn]bool{}}
	if err := s.listen(ctx, "127.0.0.1:0"); err != nil {
		return nil, err
	}
	s.address = s.listeners[0].Addr().String()
	if at.link == nil {
		return s, nil
	}
	_, port, err := net.SplitHostPort(s.address)
	if err == nil {
		err = s.listen(ctx, net.JoinHostPort(at.here, port))
	}
	if err != nil {
		s.close()
	}
	return s, err
}

func (s *service) listen(ctx context.Context, address string) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("service: %w", err)
	}
	s.listeners = append(s.listeners, ln)
	s.wg.Go(func() { s.accept(ln) })
	return nil
}

func (s *service) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one connection
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.open.Add(1)
		s.wg.Go(func() {
			serve(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			s.open.Add(-1)
		})
	}
}

func (s *service) close() {
	for _, ln := range s.listeners {
		_ = ln.Close()
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// serve answers what comes on one connection until it ends.
func serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		first, err := readMessage(r)
		if err != nil {
			return // the caller is gone
		}
		if !bytes.Contains(first, []byte(" "+bulkPath+" ")) {
			if _, err := c.Write(answer); err != nil {
				return
			}
			continue
		}
		if _, err := c.Write(bulkAnswer); err != nil {
			return
		}
		for b := make([]byte, block); err == nil; {
			_, err = c.Write(b)
		}
		return
	}
}

// errMessage says that what came is no HTTP as this service and its callers write it.
var errMessage = errors.New("no HTTP message")

// readMessage reads one request or answer with its body, and returns the first line.
func readMessage(r *bufio.Reader) (first []byte, err error) {
	size := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first == nil {
			first = bytes.Clone(line)
			continue
		}
		if len(line) == 0 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("Content-Length")) {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || size < 0 {
				return nil, fmt.Errorf("%w: Content-Length %q", errMessage, value)
			}
		}
	}
	if n, err := r.Discard(size); err != nil {
		return nil, fmt.Errorf("body ends after %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	return first, nil
}
