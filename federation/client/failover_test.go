package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/mesh"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// host is one replica's host on a network in memory.
type host struct {
	ca      *identitytest.CA
	id      spiffeid.ID
	version uint64 // of the table that it tells

	mu    sync.Mutex
	gone  chan struct{} // closed when the host has vanished, with its answers and its resets
	conns []net.Conn
	ctx   context.Context
	end   context.CancelFunc
	wg    sync.WaitGroup
}

func newHost(t *testing.T, ca *identitytest.CA, id spiffeid.ID, version uint64) *host {
	t.Helper()
	h := &host{ca: ca, id: id, version: version, gone: make(chan struct{})}
	h.ctx, h.end = context.WithCancel(t.Context())
	return h
}

// dial is a connection to the host, with a server at its far end.
func (h *host) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-h.gone: // nobody refuses, either
		<-ctx.Done()
		return nil, ctx.Err()
	default:
	}
	near, far := net.Pipe()
	h.mu.Lock()
	h.conns = append(h.conns, far)
	h.mu.Unlock()
	conn := &hole{Conn: far, gone: h.gone}
	srv := &http.Server{
		ReadHeaderTimeout: patience,
		TLSConfig:         h.ca.Source(h.id, h.ca.Bundle()).ServerTLS([]string{"h2"}, identity.AuthorizeAny()),
		BaseContext:       func(net.Listener) context.Context { return h.ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(line(route.TableFormat, 1, h.version, h.id.String())))
			for r.Context().Err() == nil {
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(mesh.HeartbeatEvery):
				case <-r.Context().Done():
				}
				_, _ = w.Write([]byte("{}\n"))
			}
		}),
	}
	h.wg.Go(func() { _ = srv.ServeTLS(&one{conn: conn, done: h.ctx.Done()}, "", "") })
	return near, nil
}

// kill ends the process: its kernel resets what is open.
func (h *host) kill() {
	h.end()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		_ = c.Close()
	}
}

// vanish takes the host off the network.
func (h *host) vanish() { close(h.gone) }

// hole swallows what is written once the host is gone, and hears nothing.
type hole struct {
	net.Conn
	gone chan struct{}
}

func (c *hole) Write(p []byte) (int, error) {
	select {
	case <-c.gone:
		return len(p), nil
	default:
		return c.Conn.Write(p)
	}
}

// one is a listener of one connection.
type one struct {
	conn net.Conn
	once sync.Once
	done <-chan struct{}
}

func (l *one) Accept() (conn net.Conn, err error) {
	l.once.Do(func() { conn = l.conn })
	if conn != nil {
		return conn, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *one) Close() error   { return l.conn.Close() }
func (l *one) Addr() net.Addr { return l.conn.LocalAddr() }

// How long a gateway is without a table stream when its federation's replica goes:
// nothing to speak of where the process dies, two limits of 0.8 s where the host
// vanishes, and one more for each further replica that has vanished with it.
func TestFailoverIsBounded(t *testing.T) {
	const limit = client.ReplicaPatience
	for name, c := range map[string]struct {
		lose  func(hosts []*host)
		next  int
		bound time.Duration
	}{
		"the process is killed":       {func(h []*host) { h[0].kill() }, 1, 0},
		"the host vanishes":           {func(h []*host) { h[0].vanish() }, 1, 2 * limit},
		"two hosts vanish":            {func(h []*host) { h[0].vanish(); h[1].vanish() }, 2, 3 * limit},
		"one vanishes, one is killed": {func(h []*host) { h[0].vanish(); h[1].kill() }, 2, 2 * limit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := identitytest.NewCA("east.test")
				id := ca.ID("/isthmus/cluster/east")
				hosts := map[string]*host{}
				var all []*host
				addresses := []string{"r0.test:1", "r1.test:1", "r2.test:1"}
				for i, a := range addresses {
					h := newHost(t, ca, id, uint64(i+1))
					hosts[a], all = h, append(all, h)
					defer func() { h.kill(); h.wg.Wait() }()
				}
				g, err := client.NewGateway(client.GatewayOptions{
					Addresses: addresses, FederationID: id,
					Identity: ca.Source(spiffeid.RequireFromString(id.String()+"/gateway/gw-1"), ca.Bundle()),
				})
				if err != nil {
					t.Fatal(err)
				}
				g.WithDial(func(ctx context.Context, address string) (net.Conn, error) {
					h := hosts[address]
					if h.ctx.Err() != nil {
						return nil, errors.New("connection refused")
					}
					return h.dial(ctx)
				})
				ctx, cancel := context.WithCancel(t.Context())
				tables, done := make(chan *route.Table, 8), make(chan error, 1)
				go func() { done <- g.Run(ctx, func(t *route.Table) { tables <- t }) }()
				defer func() { cancel(); <-done }()
				if first := <-tables; first.Version != 1 {
					t.Fatalf("the first table is of replica %d", first.Version-1)
				}
				time.Sleep(3*mesh.HeartbeatEvery + 17*time.Millisecond) // well into the stream
				began := time.Now()
				c.lose(all)
				next := <-tables
				took := time.Since(began)
				if next.Version != uint64(c.next+1) || took > c.bound+10*time.Millisecond {
					t.Errorf("replica %d serves after %v, want %d within %v", next.Version-1, took, c.next, c.bound)
				}
				t.Logf("figure: gateways' fail-over, %s: %v (bound %v, simulated clock)", name, took, c.bound)
			})
		})
	}
}
