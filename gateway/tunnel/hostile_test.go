package tunnel_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// An authenticated peer may be taken over: what it sends is hostile until parsed.

func goodHello(link byte) wire.Hello {
	return wire.Hello{MinVersion: 1, MaxVersion: 1, Cluster: "west", Gateway: "gw1", Instance: wire.ID{9}, Link: wire.ID{link}}
}

// linked is a stranger with a link.
func linked(t *testing.T, s *stranger, link byte) (*quic.Conn, *quic.Stream) {
	t.Helper()
	qc, err := s.dial("isthmus/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	control, answer := hello(t, qc, goodHello(link))
	if answer == nil {
		t.Fatal("the hello was not answered")
	}
	if answer.Cluster != "east" || answer.Gateway != "gw1" || answer.Link != (wire.ID{link}) || answer.Instance.IsZero() {
		t.Fatalf("answer %+v", answer)
	}
	return qc, control
}

func TestHostileFirstStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		header, err := wire.AppendHeader(nil, echoHeader())
		if err != nil {
			t.Fatal(err)
		}
		drain := wire.AppendDrain(wire.AppendKind(nil, wire.KindControl), wire.Drain{})
		for name, c := range map[string]struct {
			send []byte
			fin  bool
			want wire.Status
			in   time.Duration
		}{
			"a stream before the hello":  {header, false, wire.Protocol, time.Second},
			"another frame first":        {drain, false, wire.Protocol, time.Second},
			"an unknown kind":            {[]byte{0x3f}, false, wire.Protocol, time.Second},
			"noise":                      {bytes.Repeat([]byte{0xff}, 2000), false, wire.Protocol, time.Second},
			"a hello larger than life":   {[]byte{2, 1, 0x7f, 0xff}, false, wire.Protocol, time.Second},
			"a hello that never ends":    {[]byte{2, 1, 0x40}, false, wire.Internal, 6 * time.Second},
			"a stream that ends at once": {[]byte{2}, true, wire.Internal, time.Second},
			"silence":                    {nil, false, wire.Internal, 6 * time.Second},
		} {
			qc, err := s.dial("isthmus/1", nil)
			if err != nil {
				t.Fatal(err)
			}
			qs, err := qc.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := qs.Write(c.send); err != nil {
				t.Fatal(err)
			}
			if c.fin {
				_ = qs.Close()
			}
			<-qc.Context().Done()
			expectClose(t, name, qc, c.want)
			if d := time.Since(start); d > c.in {
				t.Errorf("%s: closed after %v", name, d)
			}
		}
		if l := a.Links(); len(l) != 0 {
			t.Errorf("links %+v", l)
		}
	})
}

// A malformed stream costs itself, not the link.
func TestHostileStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		qc, _ := linked(t, s, 1)
		keepHeard(t, qc)
		header, err := wire.AppendHeader(nil, echoHeader())
		if err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			send []byte
			in   time.Duration
		}{
			"an unknown kind":              {[]byte{0x3f}, time.Second},
			"a second control stream":      {[]byte{2}, time.Second},
			"a header longer than allowed": {[]byte{1, 0x7f, 0xff}, time.Second},
			"a header without service":     {[]byte{1, 0}, time.Second},
			"noise":                        {bytes.Repeat([]byte{0xff}, 9000), time.Second},
			"half a header":                {header[:len(header)-1], 3 * time.Second},
			"a kind and nothing else":      {[]byte{1}, 3 * time.Second},
		} {
			qs, err := qc.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := qs.Write(c.send); err != nil {
				t.Fatal(err)
			}
			_, err = qs.Read(make([]byte, 1))
			if e, ok := errors.AsType[*quic.StreamError](err); !ok || !e.Remote || uint64(e.ErrorCode) != wire.Protocol.Code() {
				t.Errorf("%s: %v", name, err)
			}
			if d := time.Since(start); d > c.in {
				t.Errorf("%s: reset after %v", name, d)
			}
			qs.CancelWrite(0)
		}
		// The link serves on.
		qs, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := qs.Write(append(header, 'x')); err != nil {
			t.Fatal(err)
		}
		reply, err := wire.ReadReply(qs)
		if err != nil || reply.Status != wire.OK {
			t.Errorf("reply %+v, %v", reply, err)
		}
		if _, err := io.ReadFull(qs, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
}

// keepHeard sends probes as a peer does, or the link would be declared dead.
func keepHeard(t *testing.T, qc *quic.Conn) {
	t.Helper()
	go func() {
		for seq := uint64(1); ; seq++ {
			if qc.SendDatagram(wire.AppendProbe(nil, &wire.Probe{Seq: seq})) != nil {
				return
			}
			select {
			case <-qc.Context().Done():
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
}

// What breaks the control stream ends the link.
func TestHostileControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		again := goodHello(1)
		repeated, err := wire.AppendHello(nil, &again)
		if err != nil {
			t.Fatal(err)
		}
		n := byte(0)
		for name, act := range map[string]func(*quic.Conn, *quic.Stream){
			"noise":              func(_ *quic.Conn, c *quic.Stream) { _, _ = c.Write(bytes.Repeat([]byte{0xff}, 100)) },
			"a second hello":     func(_ *quic.Conn, c *quic.Stream) { _, _ = c.Write(repeated) },
			"a malformed report": func(_ *quic.Conn, c *quic.Stream) { _, _ = c.Write([]byte{2, 2, 1, 1}) },
			"a malformed drain":  func(_ *quic.Conn, c *quic.Stream) { _, _ = c.Write([]byte{3, 3, 1, 1, 1}) },
			"the end":            func(_ *quic.Conn, c *quic.Stream) { _ = c.Close() },
			"half a frame":       func(_ *quic.Conn, c *quic.Stream) { _, _ = c.Write([]byte{2, 5, 1}); _ = c.Close() },
			"a reset":            func(_ *quic.Conn, c *quic.Stream) { c.CancelWrite(0) },
			"a malformed probe":  func(qc *quic.Conn, _ *quic.Stream) { _ = qc.SendDatagram([]byte{1, 0}) },
		} {
			n++
			qc, control := linked(t, s, n)
			keepHeard(t, qc)
			act(qc, control)
			select {
			case <-qc.Context().Done():
				expectClose(t, name, qc, wire.Protocol)
			case <-time.After(2 * time.Second):
				t.Errorf("%s: the link goes on", name)
			}
		}
		// And what is only unknown does not.
		qc, control := linked(t, s, 100)
		keepHeard(t, qc)
		if _, err := control.Write([]byte{0x3f, 3, 1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		if err := qc.SendDatagram([]byte{0x3f, 1, 2}); err != nil {
			t.Fatal(err)
		}
		_, _ = control.Write(wire.AppendCallback(nil)) // by the side that dialed: no sense, no harm
		time.Sleep(5 * time.Second)
		if qc.Context().Err() != nil {
			t.Errorf("unknown frames ended the link: %v", contextCause(qc))
		}
	})
}

func contextCause(qc *quic.Conn) error {
	_, err := qc.OpenStream()
	return err
}

func TestSilentLinkIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		qc, _ := linked(t, s, 1)
		// It acknowledges, so it is alive; it may be an older gateway that probes
		// rarely. It is not closed for that.
		time.Sleep(10 * time.Second)
		if qc.Context().Err() != nil {
			t.Errorf("closed: %v", contextCause(qc))
		}
		m.Network.SetPath(tunneltest.HostPort(200).Addr(), a.Addr.Addr(), tunneltest.Path{Cut: true})
		start := time.Now()
		a.Wait("link gone", func() bool { return len(a.Links()) == 0 })
		if d := time.Since(start); d > deadline {
			t.Errorf("noticed after %v", d)
		}
	})
}

func TestLinksOfOneGatewayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		const most = 20 // one of each process of a gateway that was upgraded in place, and some
		for i := range byte(most) {
			qc, _ := linked(t, s, i+1)
			keepHeard(t, qc)
		}
		for name, link := range map[string]byte{"one more link": most + 1, "a link that exists": 3} {
			qc, err := s.dial("isthmus/1", nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, answer := hello(t, qc, goodHello(link)); answer != nil {
				t.Errorf("%s was taken", name)
			}
			<-qc.Context().Done()
			expectClose(t, name, qc, wire.Overloaded)
		}
		if l := a.Links(); len(l) != most {
			t.Errorf("%d links", len(l))
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, func(o *tunnel.Options) { o.WindowBudget = 16 << 20 }) // sixteen connections
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		var open []*quic.Conn
		refused := 0
		for range 20 {
			qc, err := s.dial("isthmus/1", nil)
			if e, ok := errors.AsType[*quic.TransportError](err); ok && e.ErrorCode == quic.ConnectionRefused {
				refused++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * delay)
			if qc.Context().Err() != nil { // came out of the handshake one too late
				expectClose(t, "too many", qc, wire.Overloaded)
				refused++
				continue
			}
			open = append(open, qc)
		}
		if len(open) != 16 || refused != 4 {
			t.Errorf("%d open, %d refused", len(open), refused)
		}
		for _, qc := range open {
			_ = qc.CloseWithError(0, "")
		}
		time.Sleep(time.Second)
		qc, err := s.dial("isthmus/1", nil)
		if err != nil {
			t.Errorf("after they ended: %v", err)
		} else {
			_ = qc.CloseWithError(0, "")
		}
	})
}

func TestHostileRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, source := known(t, nil)
		defer m.Close()
		s := newStranger(t, m, a, source)
		defer s.close()
		control, _ := linked(t, s, 1)
		keepHeard(t, control)
		qc, err := s.dial("isthmus-h3/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		h := goodHello(1)
		h.Connection = 8
		if _, answer := hello(t, qc, h); answer == nil {
			t.Fatal("the hello was not answered")
		}
		client := (&http3.Transport{}).NewClientConn(qc)
		for name, fields := range map[string]http.Header{
			"no facts":           {},
			"two services":       {"Isthmus-Service": {"a.b", "c.d"}},
			"a deadline of ages": {"Isthmus-Service": {"a.b"}, "Isthmus-Deadline-Ms": {"99999999999"}},
		} {
			req := request(t, http.MethodGet, "https://x/", nil)
			req.Header = fields
			resp, err := client.RoundTrip(req)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			_ = resp.Body.Close()
			if resp.Header.Get("Isthmus-Status") != "protocol" {
				t.Errorf("%s: %v", name, resp.Header)
			}
		}
		req := request(t, http.MethodGet, "https://x/", nil)
		req.Header.Set("Isthmus-Service", "a.b")
		resp, err := client.RoundTrip(req)
		if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Isthmus-Status") != "" {
			t.Errorf("a good request: %+v, %v", resp, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
		// The link's other connection of that number is refused.
		twin, err := s.dial("isthmus-h3/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		hello(t, twin, h)
		<-twin.Context().Done()
		expectClose(t, "a number twice", twin, wire.Protocol)
	})
}
