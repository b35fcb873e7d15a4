package gateway_test

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// tcpServer runs serve for every connection on a real socket.
func tcpServer(t *testing.T, serve func(c *net.TCPConn)) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr()
}

// echo sends back what it gets, until the other side closes.
func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.CloseWrite()
}

// dial opens a connection to a TCP way in.
func (n *node) dial(way int) *net.TCPConn {
	t := n.cluster.world.t
	t.Helper()
	c, err := net.Dial("tcp", n.Addrs().TCP[way].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	return c.(*net.TCPConn)
}

// refusal is how a way in that takes nothing ends a connection: a reset, which
// may come before connect has returned.
func (n *node) refusal(way int) error {
	c, err := net.Dial("tcp", n.Addrs().TCP[way].String())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

func TestServerSpeaksFirst(t *testing.T) {
	near, _ := twoClusters(t, "ssh", catalog.TCP, tcpServer(t, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "SSH-2.0-test\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "hello "+line)
	}))
	c := near.dial(0)
	r := bufio.NewReader(c)
	if banner, err := r.ReadString('\n'); err != nil || banner != "SSH-2.0-test\r\n" { // nothing was sent yet
		t.Fatalf("%q, %v", banner, err)
	}
	_, _ = io.WriteString(c, "client\n")
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "hello client\n" {
		t.Fatalf("%q, %v", rest, err)
	}
}

func TestThousandConnectionsAtOnce(t *testing.T) {
	connections := int64(1000)
	if raceEnabled { // what is slow then is the machine, and a link that is starved dies
		connections = 250
	}
	var open, most, again atomic.Int64
	everyone := make(chan struct{})
	var reached sync.Once
	near, _ := twoClusters(t, "echo", catalog.TCP, tcpServer(t, func(c *net.TCPConn) {
		first := make([]byte, 1)
		if _, err := c.Read(first); err != nil {
			return // a health check
		}
		n := open.Add(1)
		_, _ = c.Write(first) // counted before its caller knows
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		defer open.Add(-1)
		if n == connections {
			reached.Do(func() { close(everyone) })
		}
		echo(c)
	}))
	var wg sync.WaitGroup
	var failed atomic.Int64
	start := time.Now()
	for i := range connections {
		wg.Go(func() {
			text := strings.Repeat(fmt.Sprint(i, " "), 100)
			for { // a link that the machine starved to death takes its connections along
				c, err := net.Dial("tcp", near.Addrs().TCP[0].String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				_, _ = io.WriteString(c, text)
				got := make([]byte, len(text))
				if _, err = io.ReadFull(c, got); err == nil && string(got) != text {
					failed.Add(1)
				}
				end := make(chan error, 1)
				if err == nil {
					go func() { // nothing more comes before its end
						_, err := c.Read(make([]byte, 1))
						end <- err
					}()
					select {
					case <-everyone: // all are open before the first one ends
						_ = c.(*net.TCPConn).CloseWrite()
						err = <-end
						_ = c.Close()
						if !errors.Is(err, io.EOF) && failed.Add(1) == 1 {
							t.Errorf("connection %d ends with %v", i, err)
						}
						return
					case err = <-end:
					}
				}
				_ = c.Close()
				if time.Since(start) > 60*time.Second {
					t.Error(err)
					return
				}
				again.Add(1)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		dumpMetrics(t, near)
		t.Fatalf("%d connections are open", open.Load())
	}
	t.Logf("%d connections at once in %v", most.Load(), time.Since(start))
	dead := near.metric("isthmus_tunnel_links_closed_total", "reason=link_dead")
	if failed.Load() != 0 || most.Load() != connections || again.Load() != 0 && dead == 0 {
		dumpMetrics(t, near)
		t.Errorf("%d failed, %d at once, %d came again while %v links died", failed.Load(), most.Load(), again.Load(), dead)
	}
	eventually(t, "every connection is accounted", func() error {
		if n := near.metric("isthmus_gateway_requests_total", "way=tcp", "reason=ok", "service=echo.default", "cluster=beta"); n != float64(connections) {
			return fmt.Errorf("%v accounted", n)
		}
		if n := near.metric("isthmus_gateway_connections"); n != 0 {
			return fmt.Errorf("%v slots are taken", n)
		}
		return nil
	})
}

func TestTransferOf256MiB(t *testing.T) {
	size := int64(256 << 20)
	if raceEnabled {
		size = 64 << 20 // several windows still
	}
	near, _ := twoClusters(t, "bulk", catalog.TCP, tcpServer(t, func(c *net.TCPConn) {
		_, _ = io.Copy(c, io.LimitReader(rand.NewChaCha8([32]byte{9}), size))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}))
	want := sha256.New()
	if _, err := io.CopyN(want, rand.NewChaCha8([32]byte{9}), size); err != nil {
		t.Fatal(err)
	}
	c := near.dial(0)
	_ = c.SetDeadline(time.Time{}) // as for the upload
	got := sha256.New()
	start := time.Now()
	n, err := io.Copy(got, c)
	t.Logf("%.0f MB/s", float64(n)/1e6/time.Since(start).Seconds())
	if err != nil || n != size || string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Fatalf("%d of %d bytes, %v", n, size, err)
	}
}

func TestHalfCloseThroughBothGateways(t *testing.T) {
	near, _ := twoClusters(t, "sort", catalog.TCP, tcpServer(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c) // answers only what is complete
		_, _ = fmt.Fprintf(c, "%d bytes", len(all))
	}))
	c := near.dial(0)
	_, _ = c.Write(make([]byte, 200_000))
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "200000 bytes" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestNowhereToGoIsAReset(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("dead", catalog.TCP, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	near := w.cluster("alpha").gateway("gw1", "dead", "nobody")
	w.cluster("beta").gateway("gw1")
	w.start()
	for way, reason := range []string{"refused", "unknown_service"} {
		if err := near.refusal(way); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("way %d: %v, want a reset", way, err)
		}
		eventually(t, "the reason is counted", func() error {
			if n := near.metric("isthmus_gateway_refusals_total", "way=tcp", "reason="+reason); n < 1 {
				return fmt.Errorf("%v refusals for %s", n, reason)
			}
			return nil
		})
	}
}

// TestRefusedStartIsReplayed: the nearest choice refuses after the caller has sent
// its first bytes; the next one gets all of them, once.
func TestRefusedStartIsReplayed(t *testing.T) {
	w := newWorld(t, "alpha", "beta", "gamma")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	w.cluster("beta").host("echo", catalog.TCP, gone.Addr())
	w.cluster("beta").locality = w.cluster("alpha").locality // asked first
	w.cluster("gamma").host("echo", catalog.TCP, tcpServer(t, echo))
	near := w.cluster("alpha").gateway("gw1", "echo")
	w.cluster("beta").gateway("gw1")
	w.cluster("gamma").gateway("gw1")
	w.start()
	_ = gone.Close() // not before, or a check finds it out before a caller does
	// Three retries are all that so few calls have, and each may need one.
	for i := range 3 {
		c := near.dial(0)
		text := strings.Repeat(fmt.Sprint("attempt ", i, " "), 1000*(i%3)+1)
		_, _ = io.WriteString(c, text[:len(text)/2])
		_, _ = io.WriteString(c, text[len(text)/2:])
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != text {
			t.Fatalf("connection %d: %d of %d bytes, %v", i, len(got), len(text), err)
		}
	}
	if n := near.metric("isthmus_gateway_retries_total", "service=echo.default", "reason=refused"); n < 1 {
		t.Errorf("%v retries: the refusing cluster was never asked", n)
	}
}

// TestAReplayIsBounded: a caller that sends more than is kept waits for the answer
// rather than fill memory, and nothing is lost.
func TestAReplayIsBounded(t *testing.T) {
	near, _ := twoClusters(t, "slow", catalog.TCP, tcpServer(t, func(c *net.TCPConn) {
		time.Sleep(300 * time.Millisecond)
		n, _ := io.Copy(io.Discard, c)
		_, _ = fmt.Fprint(c, n)
	}))
	c := near.dial(0)
	if _, err := c.Write(make([]byte, 5<<20)); err != nil {
		t.Fatal(err)
	}
	_ = c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != fmt.Sprint(5<<20) {
		t.Fatalf("%q, %v", got, err)
	}
}
