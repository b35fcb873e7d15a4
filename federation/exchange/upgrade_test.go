package exchange_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/prometheus/client_golang/prometheus"
)

// countedConn counts what is written to a listener.
type countedConn struct {
	net.Conn
	writes, bytes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	c.bytes.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// countedWire is a network whose exporter's writes are counted.
type countedWire struct {
	*wire
	writes, bytes atomic.Int64
}

func (w *countedWire) Accept() (net.Conn, error) {
	c, err := w.wire.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{Conn: c, writes: &w.writes, bytes: &w.bytes}, nil
}

// upgradeRequest asks for a stream as a peer.
func upgradeRequest(peer string) string {
	return "GET " + exchange.CatalogPath + "?watch=true&epoch=0&since=0 HTTP/1.1\r\nHost: " + peer + "\r\nConnection: Upgrade\r\nUpgrade: " + exchange.Upgrade + "\r\n\r\n"
}

// On an upgraded stream a telling is one write to the connection, and nothing else
// is written but a heartbeat where there is nothing to tell.
func TestATellingIsOneWriteToTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const listeners, tellings, changed = 50, 20, 40 // the listeners are silent, and let go after 35 s
		x := newTold(t, 400, listeners)
		x.tell(t, 0, 1)
		w := &countedWire{wire: newWire()}
		server := &http.Server{Handler: x.exporter, ReadHeaderTimeout: time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = server.Serve(w)
		}()
		for _, p := range x.listeners {
			c, err := w.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, upgradeRequest(string(p))); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != exchange.Upgrade {
				t.Fatalf("%+v, %v", resp, err)
			}
			_ = resp.Body.Close() // there is none: what follows is the stream
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
		time.Sleep(time.Second)
		before := w.writes.Load()
		for n := range tellings {
			x.tell(t, changed, n%2)
			time.Sleep(400 * time.Millisecond)
			x.tell(t, 0, 0) // nothing new
			time.Sleep(100 * time.Millisecond)
		}
		if got := w.writes.Load() - before; got != tellings*listeners {
			t.Errorf("%d writes for %d tellings to %d listeners", got, tellings, listeners)
		}
		before = w.writes.Load()
		time.Sleep(20 * time.Second)
		if got := w.writes.Load() - before; got != 4*listeners {
			t.Errorf("%d writes in 20 s of rest to %d listeners", got, listeners)
		}
		x.exporter.Close()
		_ = server.Close()
		<-done
	})
}

// The listener of an upgraded stream is let go when it no longer says that it
// lives, when it says more, and when it does not read; one that goes by itself is
// noticed at once.
func TestListenersOfUpgradedStreams(t *testing.T) {
	for name, c := range map[string]struct {
		says   string // every ten seconds
		reads  bool
		leaves bool
		stays  time.Duration // less than a minute more than that
	}{
		"lives":   {says: "\n", reads: true, stays: time.Hour},
		"is deaf": {reads: true, stays: 30 * time.Second},
		"talks":   {says: strings.Repeat("x", 2000), reads: true, stays: 9 * time.Second},
		"stalls":  {says: "\n", stays: 30 * time.Second},
		"leaves":  {says: "\n", reads: true, leaves: true, stays: 0},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			simulate(t, func(t *testing.T, w *wire, e *exchange.Exporter, _ *http.Client) {
				set(t, e, state(summary("web.shop", 1)))
				conn, err := w.dial(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, upgradeRequest("x")); err != nil {
					t.Fatal(err)
				}
				var ended atomic.Pointer[time.Time]
				began := time.Now()
				if c.reads {
					go func() {
						_, _ = io.Copy(io.Discard, conn)
						ended.Store(new(time.Now()))
					}()
				}
				time.Sleep(10 * time.Millisecond) // longer than the answer takes
				streams := func() float64 { return counted(t, reg, "isthmus_exchange_served_streams") }
				if n := streams(); n != 1 {
					t.Fatalf("%v streams", n)
				}
				if c.leaves {
					_ = conn.Close()
					synctest.Wait()
					if n := streams(); n != 0 {
						t.Errorf("%v streams after the listener has left", n)
					}
					return
				}
				if c.says != "" {
					go func() {
						for time.Since(began) < c.stays+time.Minute {
							time.Sleep(exchange.AliveEvery)
							for _, b := range []byte(c.says) {
								if _, err := conn.Write([]byte{b}); err != nil {
									return
								}
							}
						}
					}()
				}
				time.Sleep(c.stays - time.Second)
				if n := streams(); n != 1 {
					t.Errorf("%v streams after %v", n, time.Since(began))
				}
				time.Sleep(time.Minute)
				if n := streams(); n != 0 && name != "lives" {
					t.Errorf("%v streams after %v", n, time.Since(began))
				}
				_ = conn.Close()
				time.Sleep(time.Minute)
			}, func(o *exchange.ExporterOptions) { o.Registerer = reg })
		})
	}
}

// A peer of before the upgrade answers as if it had not been asked for; one that
// upgrades to something else, or by half, is not followed.
func TestUpgradesOfPeers(t *testing.T) {
	p := newPKI()
	e := newExporter(t)
	set(t, e, state(summary("web.shop", 1)))
	var asked atomic.Int64
	s := newSite(t, p, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			asked.Add(1)
		}
		r.Header.Del("Upgrade")
		e.ServeHTTP(w, r)
	}))
	l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID)))
	l.shows(t, "web.shop=1 "+roster)
	set(t, e, state(summary("web.shop", 2)))
	l.shows(t, "web.shop=2 "+roster)
	if asked.Load() == 0 {
		t.Error("no upgrade was asked for")
	}
	l.close()
	for _, answer := range []string{
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + exchange.Upgrade + "\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\n\r\n",
	} {
		s.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, answer+`{"type":"begin","format":1,"cluster":"gcp","epoch":9,"version":1}`+"\n"+
				`{"type":"sync","epoch":9,"version":1,"services":0,"digest":"`+strings.Repeat("0", 64)+`"}`+"\n")
		}))
		l := listen(t, newImporter(t, s.url(), newClient(t, p, awsID)))
		eventually(t, func() (string, bool) {
			st := l.Status()
			return fmt.Sprint(st), st.Attempt > 1 && st.Err != nil
		})
		if l.Snapshot() != nil {
			t.Errorf("%q is followed", answer)
		}
		l.close()
	}
}

// Removing a peer, and closing the exporter, end upgraded streams at once, and the
// owner's context does, whatever the listener does.
func TestUpgradedStreamsEnd(t *testing.T) {
	for name, end := range map[string]func(e *exchange.Exporter, cancel func()){
		"removed":   func(e *exchange.Exporter, _ func()) { e.Remove("aws") },
		"closed":    func(e *exchange.Exporter, _ func()) { e.Close() },
		"cancelled": func(_ *exchange.Exporter, cancel func()) { cancel() },
	} {
		for _, reads := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, reads %v", name, reads), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := newExporter(t, func(o *exchange.ExporterOptions) {
						o.Peer = func(*http.Request) (catalog.ClusterName, error) { return "aws", nil }
					})
					set(t, e, state(summary("web.shop", 1)))
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					w := newWire()
					server := &http.Server{Handler: e, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
					go func() { _ = server.Serve(w) }()
					defer server.Close()
					conn, err := w.dial(ctx, "", "")
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					if _, err := io.WriteString(conn, upgradeRequest("x")); err != nil {
						t.Fatal(err)
					}
					gone := make(chan struct{})
					if reads {
						go func() {
							defer close(gone)
							_, _ = io.Copy(io.Discard, conn)
						}()
					}
					time.Sleep(time.Second) // more than the least time between two batches
					began := time.Now()
					end(e, cancel)
					if !reads {
						time.Sleep(10 * time.Second)
						go func() {
							defer close(gone)
							_, _ = io.Copy(io.Discard, conn)
						}()
					}
					<-gone
					if took := time.Since(began); reads && took > 0 || took > 11*time.Second {
						t.Errorf("ended after %v", took)
					}
				})
			})
		}
	}
}
