package lane_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quic-go/quic-go"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/lane"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ends are two ends of a connection, and the socket of the one that dialed.
func ends(t *testing.T) (near, far *lane.Conn, socket *net.TCPConn) {
	t.Helper()
	ca := identitytest.NewCA("mesh.test")
	source := ca.Source(ca.ID("/gateway"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		raw, err := listener.Accept()
		if err == nil {
			far, err = lane.Server(t.Context(), raw, source.ServerTLS([]string{"x"}, identity.AuthorizeAny()))
		}
		served <- err
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err = lane.Client(t.Context(), raw, source.ClientTLS([]string{"x"}, identity.AuthorizeAny()))
	if err := errors.Join(err, <-served); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []*lane.Conn{near, far} {
			_ = c.CloseWithError(0, "")
			c.Wait()
		}
	})
	return near, far, raw.(*net.TCPConn)
}

// begin opens a stream with one byte.
func begin(t *testing.T, near, far *lane.Conn) (s, in *lane.Stream) {
	t.Helper()
	s = near.Open()
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	in, err := far.Accept()
	if err == nil {
		_, err = io.ReadFull(in, make([]byte, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, in
}

func freed(t *testing.T, c *lane.Conn) {
	t.Helper()
	select {
	case <-c.Freed():
	case <-time.After(20 * time.Second):
		t.Fatal("the connection is not free")
	}
}

// Anybody on the way can end a TCP connection; that must not pass for the end of what
// was to be read.
func TestAnEndOfTCPIsNoneOfAStream(t *testing.T) {
	near, far, socket := ends(t)
	_, in := begin(t, near, far)
	_ = socket.CloseWrite()
	if n, err := in.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v", n, err)
	}
	<-far.Context().Done()
}

func TestOneStreamAfterTheOther(t *testing.T) {
	near, far, _ := ends(t)
	for i := range 20 {
		s, in := begin(t, near, far)
		switch i % 4 {
		case 0: // both finish
			_ = s.Close()
			if _, err := in.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			_ = in.Close()
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		case 1: // one gives up, with bytes of the other under way
			if _, err := in.Write(make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
			s.CancelWrite(7)
			s.CancelRead(8)
			_, err := in.Read(make([]byte, 1))
			expect(t, err, 7)
			// A stop may arrive when the direction has ended.
			in.CancelWrite(9)
		case 2: // a stop is answered by a reset
			s.CancelRead(8)
			_ = s.Close()
			if _, err := in.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			_, err := in.Write([]byte("x"))
			expect(t, err, 8)
		case 3: // what was written before a reset arrives
			if _, err := s.Write(make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
			s.CancelWrite(7)
			n, err := io.Copy(io.Discard, in)
			if n != 100<<10 {
				t.Fatalf("%d bytes", n)
			}
			expect(t, err, 7)
			_ = in.Close()
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		freed(t, near)
		freed(t, far)
		near.Park()
		if !near.Unpark() {
			t.Fatal("the connection has ended")
		}
	}
}

func expect(t *testing.T, err error, code quic.StreamErrorCode) {
	t.Helper()
	if e, ok := errors.AsType[*quic.StreamError](err); !ok || e.ErrorCode != code || !e.Remote {
		t.Fatalf("%v, want a reset by the other end with %d", err, code)
	}
}

// A writer whose reader has gone to sleep is cut off by a reset, with the connection.
func TestAResetCutsAWriteThatWaits(t *testing.T) {
	near, far, _ := ends(t)
	s, _ := begin(t, near, far)
	wrote := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 64<<20))
		wrote <- err
	}()
	time.Sleep(50 * time.Millisecond)
	s.CancelWrite(7)
	if e, ok := errors.AsType[*quic.StreamError](<-wrote); !ok || e.ErrorCode != 7 || e.Remote {
		t.Errorf("write: %v", e)
	}
}

// Who only writes learns that the other end does not want it any more, and can read
// what that one still says.
func TestWhoOnlyWritesSeesAStop(t *testing.T) {
	near, far, _ := ends(t)
	s, in := begin(t, near, far)
	if _, err := in.Write([]byte("last ")); err != nil {
		t.Fatal(err)
	}
	in.CancelRead(7)
	if _, err := in.Write([]byte("words")); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	var err error
	for err == nil {
		_, err = s.Write(make([]byte, 1<<10))
	}
	expect(t, err, 7)
	if got, err := io.ReadAll(s); err != nil || string(got) != "last words" {
		t.Errorf("read %q, %v", got, err)
	}
	freed(t, near)
	freed(t, far)
}

// An end that does not stop when it is told to is not listened to for ever.
func TestWhoDoesNotStopIsCutOff(t *testing.T) {
	near, far, _ := ends(t)
	s, in := begin(t, near, far)
	s.CancelWrite(7)
	s.CancelRead(8)
	for {
		// It reads nothing, and so sees neither.
		if _, err := in.Write(make([]byte, 64<<10)); err != nil {
			break
		}
	}
	<-near.Context().Done()
	<-far.Context().Done()
}

func TestTheReasonOfAnEndArrives(t *testing.T) {
	near, far, _ := ends(t)
	near.Park()
	_ = far.CloseWithError(quic.ApplicationErrorCode(wire.Revoked), "revoked")
	<-near.Context().Done()
	if near.Unpark() {
		t.Error("can be used")
	}
	e, ok := errors.AsType[*quic.ApplicationError](contextCause(near))
	if !ok || !e.Remote || wire.Status(e.ErrorCode) != wire.Revoked {
		t.Errorf("%v", e)
	}
}

func contextCause(c *lane.Conn) error { return context.Cause(c.Context()) }
