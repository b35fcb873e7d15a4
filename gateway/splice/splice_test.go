package splice_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// line is a TCP connection that is carried: client and server are its two ends,
// real sockets, with a splice, a tunnel stream and a second splice between them.
type line struct {
	client, server *net.TCPConn
	near, far      chan splice.Result
	cancel         context.CancelFunc // ends the near splice
	farGateway     *tunneltest.Gateway
}

func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func draining() wire.Status { return wire.Draining }

// newLine builds a line over a real QUIC link on loopback.
func newLine(t *testing.T, o splice.Options) *line {
	t.Helper()
	l := &line{near: make(chan splice.Result, 1), far: make(chan splice.Result, 1)}
	splicer := splice.New(o)
	client, nearEnd := tcpPair(t)
	farEnd, server := tcpPair(t)
	l.client, l.server = client, server

	t.Cleanup(func() { // after the mesh has stopped
		if n := splicer.Open(); n != 0 {
			t.Errorf("%d pairs are still spliced", n)
		}
	})
	mesh := tunneltest.New(t, tunneltest.Config{Loopback: true})
	near := mesh.Add(tunneltest.Spec{Cluster: "alpha", Gateway: "gw", Handler: tunneltest.Handler{}})
	l.farGateway = mesh.Add(tunneltest.Spec{Cluster: "beta", Gateway: "gw", Handler: tunneltest.Handler{
		Stream: func(ctx context.Context, in *tunnel.Inbound) {
			if err := in.Accept(); err != nil {
				t.Error(err)
			}
			l.far <- splicer.Run(ctx, in, splice.TCP(farEnd), splice.Counters{}, draining)
		},
	}})
	mesh.Connect()
	stream, err := near.OpenStream(t.Context(), "beta", &wire.Header{Service: "db.default"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	var wg sync.WaitGroup
	wg.Go(func() { l.near <- splicer.Run(ctx, splice.TCP(nearEnd), stream, splice.Counters{}, draining) })
	t.Cleanup(func() {
		_ = l.client.Close()
		_ = l.server.Close()
		cancel()
		wg.Wait()
	})
	return l
}

// sides runs test in both directions: acting is the end that does something,
// other is the one that must notice.
func sides(t *testing.T, o splice.Options, test func(t *testing.T, l *line, acting, other *net.TCPConn)) {
	t.Run("client to server", func(t *testing.T) {
		l := newLine(t, o)
		test(t, l, l.client, l.server)
	})
	t.Run("server to client", func(t *testing.T) {
		l := newLine(t, o)
		test(t, l, l.server, l.client)
	})
}

func send(t *testing.T, c *net.TCPConn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c *net.TCPConn, text string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q", got, err, text)
	}
}

func expectEOF(t *testing.T, c *net.TCPConn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes, %v; want EOF", n, err)
	}
}

func expectReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read: %v; want a reset", err)
	}
}

func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// The rows of the table in libraries section 2.2, over real sockets.

func TestFINIsHalfClose(t *testing.T) {
	sides(t, splice.Options{}, func(t *testing.T, l *line, acting, other *net.TCPConn) {
		send(t, acting, "question")
		if err := acting.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expect(t, other, "question")
		expectEOF(t, other)
		send(t, other, "a late ")
		expect(t, acting, "a late ")
		send(t, other, "answer")
		_ = other.CloseWrite()
		expect(t, acting, "answer")
		expectEOF(t, acting)
		for _, r := range []splice.Result{<-l.near, <-l.far} {
			if r.Status != wire.OK || r.Err != nil || r.AB+r.BA != int64(len("question"+"a late answer")) {
				t.Errorf("ended with %+v", r)
			}
		}
	})
}

func TestBothHalvesCloseAtOnce(t *testing.T) {
	l := newLine(t, splice.Options{})
	send(t, l.client, "a")
	send(t, l.server, "b")
	_, _ = l.client.CloseWrite(), l.server.CloseWrite()
	expect(t, l.server, "a")
	expect(t, l.client, "b")
	expectEOF(t, l.server)
	expectEOF(t, l.client)
	if r := <-l.near; r.Status != wire.OK {
		t.Errorf("%+v", r)
	}
}

func TestRSTStaysRSTAndWhatWasReadIsDelivered(t *testing.T) {
	sides(t, splice.Options{}, func(t *testing.T, l *line, acting, other *net.TCPConn) {
		send(t, acting, "last words")
		expect(t, other, "last words")
		send(t, acting, "more")
		time.Sleep(50 * time.Millisecond) // RST overtakes what is still in the sender's kernel
		abort(acting)
		expect(t, other, "more")
		expectReset(t, other)
		for _, r := range []splice.Result{<-l.near, <-l.far} {
			if r.Status != wire.Reset || r.Err == nil {
				t.Errorf("ended with %+v", r)
			}
		}
	})
}

func TestAReaderThatIsGoneResetsItsWriter(t *testing.T) {
	sides(t, splice.Options{}, func(t *testing.T, l *line, acting, other *net.TCPConn) {
		// acting has sent its FIN, so its end is known; its reset is then only
		// seen by writing to it.
		_ = acting.CloseWrite()
		expectEOF(t, other)
		abort(acting)
		_ = other.SetWriteDeadline(time.Now().Add(20 * time.Second))
		var err error
		for err == nil {
			_, err = other.Write(make([]byte, 1<<16))
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("the writer got %v", err)
		}
	})
}

func TestIdleIsResetAtBothEnds(t *testing.T) {
	sides(t, splice.Options{IdleTimeout: 400 * time.Millisecond}, func(t *testing.T, l *line, acting, other *net.TCPConn) {
		for range 5 { // activity in one direction keeps both alive
			send(t, acting, "x")
			expect(t, other, "x")
			time.Sleep(100 * time.Millisecond)
		}
		expectReset(t, acting)
		expectReset(t, other)
		if r := <-l.near; r.Status != wire.Idle {
			t.Errorf("ended with %+v", r)
		}
	})
}

func TestADrainThatRunsOutResetsBothEnds(t *testing.T) {
	l := newLine(t, splice.Options{})
	send(t, l.client, "x")
	expect(t, l.server, "x")
	l.cancel()
	expectReset(t, l.client)
	expectReset(t, l.server)
	if near, far := <-l.near, <-l.far; near.Status != wire.Draining || far.Status != wire.Draining {
		t.Errorf("near %+v, far %+v", near, far)
	}
}

func TestADeadLinkResetsTheCaller(t *testing.T) {
	l := newLine(t, splice.Options{})
	send(t, l.client, "x")
	expect(t, l.server, "x")
	l.farGateway.Kill()
	expectReset(t, l.client)
	if r := <-l.near; r.Status == wire.OK || r.FromA {
		t.Errorf("ended with %+v", r)
	}
}

func TestBulkBothWaysAtOnce(t *testing.T) {
	l := newLine(t, splice.Options{})
	const size = 12 << 20
	transfer := func(from, to *net.TCPConn, seed uint64) {
		sum := sha256.New()
		done := make(chan struct{})
		go func() {
			defer close(done)
			source := io.LimitReader(rand.NewChaCha8([32]byte{byte(seed)}), size)
			if _, err := io.Copy(from, io.TeeReader(source, sum)); err != nil {
				t.Error(err)
			}
			_ = from.CloseWrite()
		}()
		got := sha256.New()
		n, err := io.Copy(got, to)
		<-done
		if err != nil || n != size || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
			t.Errorf("%d of %d bytes, %v, equal: %v", n, size, err, bytes.Equal(got.Sum(nil), sum.Sum(nil)))
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { transfer(l.client, l.server, 1) })
	wg.Go(func() { transfer(l.server, l.client, 2) })
	wg.Wait()
	if r := <-l.near; r.AB != size || r.BA != size || r.Status != wire.OK {
		t.Errorf("%+v", r)
	}
}

// TestTCPToTCP is the local case: an endpoint of the own cluster.
func TestTCPToTCP(t *testing.T) {
	client, near := tcpPair(t)
	far, server := tcpPair(t)
	done := make(chan splice.Result, 1)
	go func() {
		done <- splice.New(splice.Options{}).Run(context.Background(), splice.TCP(near), splice.TCP(far), splice.Counters{}, draining)
	}()
	send(t, client, "question")
	_ = client.CloseWrite()
	expect(t, server, "question")
	expectEOF(t, server)
	send(t, server, "answer")
	expect(t, client, "answer")
	abort(server)
	expectReset(t, client)
	if r := <-done; r.Status != wire.Reset || r.FromA || r.AB != 8 || r.BA != 6 {
		t.Errorf("%+v", r)
	}
}

type countBytes struct{ n float64 }

func (c *countBytes) Add(n float64) { c.n += n }

func TestIdleByTheClockAndCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, near := net.Pipe()
		far, server := net.Pipe()
		var ab, ba countBytes
		done := make(chan splice.Result, 1)
		go func() {
			done <- splice.New(splice.Options{}).Run(t.Context(), splice.TCP(near), splice.TCP(far), splice.Counters{AB: &ab, BA: &ba}, draining)
		}()
		go func() { _, _ = io.Copy(io.Discard, server) }()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		start := time.Now()
		for range 3 {
			time.Sleep(50 * time.Minute)
			if _, err := client.Write(make([]byte, 10_000)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Minute)
			if _, err := server.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		r := <-done
		if r.Status != wire.Idle || !errors.Is(r.Err, splice.ErrIdle) || time.Since(start) != 6*time.Hour {
			t.Errorf("%+v after %v", r, time.Since(start))
		}
		if ab.n != 30_000 || ba.n != 3 || r.AB != 30_000 || r.BA != 3 {
			t.Errorf("counted %v and %v: %+v", ab.n, ba.n, r)
		}
		_, _ = client.Close(), server.Close()
	})
}
