package accept_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/accept"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T, o accept.Options) (*accept.Listener, string) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Listener = inner
	l, err := accept.NewListener(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, inner.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// isReset reports whether a new connection is ended by RST, which may come
// before connect has returned.
func isReset(t *testing.T, address string) bool {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err == nil {
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	return errors.Is(err, syscall.ECONNRESET)
}

func TestBeyondTheSlotsConnectionsAreReset(t *testing.T) {
	var refused atomic.Int64
	slots := accept.NewSlots(2)
	l, address := listen(t, accept.Options{Slots: slots, Refused: func(reason string, _ net.Addr) {
		if reason == accept.ReasonOverloaded {
			refused.Add(1)
		}
	}})
	accepted := make(chan net.Conn, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	})
	dial(t, address)
	dial(t, address)
	first, second := <-accepted, <-accepted
	if !isReset(t, address) || refused.Load() != 1 || slots.Used() != 2 {
		t.Fatalf("the third was not refused: %d refusals, %d slots used", refused.Load(), slots.Used())
	}
	_ = first.Close()
	_ = first.Close() // a second close gives no second slot
	dial(t, address)
	third := <-accepted
	if slots.Used() != 2 {
		t.Fatalf("%d slots used, want 2", slots.Used())
	}
	_ = second.Close()
	_ = third.Close()
	_ = l.Close()
	wg.Wait()
	if slots.Used() != 0 {
		t.Fatalf("%d slots used after everything closed", slots.Used())
	}
}

func TestAChildIsBoundByItsParent(t *testing.T) {
	parent := accept.NewSlots(3)
	a, b := parent.Child(2), parent.Child(2)
	got := []bool{a.TryAcquire(), a.TryAcquire(), a.TryAcquire(), b.TryAcquire(), b.TryAcquire()}
	want := []bool{true, true, false, true, false}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if parent.Used() != 3 || a.Used() != 2 || b.Used() != 1 {
		t.Fatalf("used: %d, %d, %d", parent.Used(), a.Used(), b.Used())
	}
	a.Release()
	if !b.TryAcquire() {
		t.Fatal("a slot that was given back is not free")
	}
}

func TestWhoIsNotOfTheSourcesIsReset(t *testing.T) {
	reasons := make(chan string, 1)
	l, address := listen(t, accept.Options{
		Slots:   accept.NewSlots(1),
		Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Refused: func(reason string, _ net.Addr) { reasons <- reason },
	})
	done := make(chan error, 1)
	go func() { _, err := l.Accept(); done <- err }()
	if !isReset(t, address) {
		t.Fatal("not reset")
	}
	if r := <-reasons; r != accept.ReasonSource {
		t.Fatalf("reason %q", r)
	}
	_ = l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("Accept after Close: %v", err)
	}
}

// failing fails n times and then blocks until it is closed.
type failing struct {
	net.Listener
	n      atomic.Int64
	closed chan struct{}
}

func (f *failing) Accept() (net.Conn, error) {
	if f.n.Add(-1) >= 0 {
		return nil, syscall.EMFILE
	}
	<-f.closed
	return nil, net.ErrClosed
}
func (f *failing) Close() error   { close(f.closed); return nil }
func (f *failing) Addr() net.Addr { return &net.TCPAddr{} }

func TestOutOfDescriptorsItBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &failing{closed: make(chan struct{})}
		inner.n.Store(4)
		l, err := accept.NewListener(accept.Options{Listener: inner, Slots: accept.NewSlots(1)})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		done := make(chan error, 1)
		go func() { _, err := l.Accept(); done <- err }()
		for inner.n.Load() >= 0 {
			time.Sleep(time.Millisecond)
		}
		if waited := time.Since(start); waited < 75*time.Millisecond || waited > 80*time.Millisecond {
			t.Errorf("four failures took %v, want 5+10+20+40 ms", waited)
		}
		_ = l.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestAConnKeepsWhatTCPCanDo(t *testing.T) {
	l, address := listen(t, accept.Options{Slots: accept.NewSlots(1)})
	client := dial(t, address)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn := c.(*accept.Conn)
	if _, err := conn.SyscallConn(); err != nil {
		t.Error(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after CloseWrite the client reads %v", err)
	}
	if _, err := client.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Errorf("after CloseWrite nothing comes in: %v", err)
	}
}

func TestDescriptorsAreKnownHere(t *testing.T) {
	n, ok := accept.Descriptors()
	if ok && n < 16 {
		t.Fatalf("%d descriptors", n)
	}
}
