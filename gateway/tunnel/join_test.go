package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// joining is a gateway that takes strangers while open, and sends back what they
// say.
type joining struct {
	open   atomic.Bool
	served atomic.Int64
}

func (j *joining) JoinOpen() bool { return j.open.Load() }

func (j *joining) ServeJoin(_ context.Context, s *tunnel.JoinStream) {
	j.served.Add(1)
	if _, err := io.Copy(s, s); err != nil {
		s.Reset(wire.Reset)
		return
	}
	_ = s.CloseWrite()
}

// lone runs a node without peers and returns its address.
func lone(t *testing.T, ca *identitytest.CA, cluster string, join tunnel.JoinHandler) (*tunnel.Node, *identity.Source, string) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	own := ca.Source(ca.ID("/isthmus/cluster/"+cluster+"/gateway/gw1"), ca.Bundle())
	n, err := tunnel.New(tunnel.Options{PacketConn: conn, Identity: own, Cluster: cluster, Gateway: "gw1", Handler: tunneltest.Echo(), Join: join})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = conn.Close()
	})
	return n, own, conn.LocalAddr().String()
}

func TestJoin(t *testing.T) {
	east, west := identitytest.NewCA("east.test"), identitytest.NewCA("west.test")
	j := &joining{}
	j.open.Store(true)
	_, inviter, address := lone(t, east, "east", j)
	acceptor, stranger, _ := lone(t, west, "west", nil)
	anchors, err := inviter.Anchors()
	if err != nil {
		t.Fatal(err)
	}
	cluster := east.ID("/isthmus/cluster/east")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	t.Run("one stream, both ways", func(t *testing.T) {
		s, err := acceptor.DialJoin(ctx, []string{"127.0.0.1:1", address}, cluster, anchors)
		if err != nil {
			t.Fatal(err)
		}
		said := bytes.Repeat([]byte("join "), 10_000)
		go func() {
			_, _ = s.Write(said)
			_ = s.CloseWrite()
		}()
		heard, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(heard, said) {
			t.Errorf("%d of %d bytes came back: %v", len(heard), len(said), err)
		}
		_ = s.Close()
	})
	t.Run("pinned", func(t *testing.T) {
		before := j.served.Load()
		wrong, err := stranger.Anchors()
		if err != nil {
			t.Fatal(err)
		}
		for what, c := range map[string]struct {
			cluster spiffeid.ID
			anchors []identity.Anchor
		}{
			"another authority": {cluster, wrong},
			"another cluster":   {east.ID("/isthmus/cluster/north"), anchors},
			"another domain":    {west.ID("/isthmus/cluster/east"), anchors},
			"no authority":      {cluster, nil},
		} {
			if _, err := acceptor.DialJoin(ctx, []string{address}, c.cluster, c.anchors); err == nil {
				t.Errorf("%s was taken", what)
			} else if _, ok := errors.AsType[*identity.PeerError](err); !ok {
				t.Errorf("%s: %v, no refusal of ours", what, err)
			}
		}
		if _, err := acceptor.DialJoin(ctx, nil, cluster, anchors); err == nil {
			t.Error("no address was dialed")
		}
		if j.served.Load() != before {
			t.Error("a connection that was refused got to the handler")
		}
	})
	dial := func(t *testing.T) (*quic.Conn, error) {
		t.Helper()
		return quic.DialAddr(ctx, address, stranger.JoinClientTLS(anchors, identity.AuthorizeAny(), true), nil)
	}
	t.Run("a second stream ends the connection", func(t *testing.T) {
		qc, err := dial(t)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s, err := qc.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write([]byte("x"))
		}
		<-qc.Context().Done()
		if e, ok := errors.AsType[*quic.ApplicationError](context.Cause(qc.Context())); !ok || wire.Status(e.ErrorCode) != wire.Protocol {
			t.Errorf("it ended by %v", context.Cause(qc.Context()))
		}
	})
	t.Run("more bytes than joining takes", func(t *testing.T) {
		qc, err := dial(t)
		if err != nil {
			t.Fatal(err)
		}
		s, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(s, bytes.NewReader(make([]byte, 4<<20))) }()
		n, err := io.Copy(io.Discard, s)
		if err == nil || n > 512<<10 {
			t.Errorf("%d bytes came back, %v", n, err)
		}
		_ = qc.CloseWithError(0, "")
	})
	t.Run("few at a time", func(t *testing.T) {
		refused := 0
		for range 12 {
			qc, err := dial(t)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = qc.CloseWithError(0, "") }()
			s, err := qc.OpenStream()
			if err != nil {
				refused++
				continue
			}
			_, _ = s.Write([]byte("x"))
			if _, err := s.Read(make([]byte, 1)); err != nil {
				refused++
			}
		}
		if refused < 12-5 {
			t.Errorf("%d of 12 at once were refused, at most 4 are served", refused)
		}
	})
	t.Run("closed", func(t *testing.T) {
		j.open.Store(false)
		if _, err := acceptor.DialJoin(ctx, []string{address}, cluster, anchors); err == nil {
			t.Error("a stranger was let in while nobody is invited")
		}
		if _, err := dial(t); err == nil {
			t.Error("a stranger was let in while nobody is invited")
		}
	})
}
