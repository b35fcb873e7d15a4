package tunnel_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// echoFlows answers each datagram with itself, until it hears "end"; the first one is the
// header's companion.
func echoFlows() tunneltest.Handler {
	return tunneltest.Handler{Stream: func(_ context.Context, in *tunnel.Inbound) {
		if !in.Header.Flow {
			_ = in.Refuse(wire.UnknownPort, "no flow")
			return
		}
		if in.Header.Port == "refused" {
			_ = in.Refuse(wire.Refused, "")
			return
		}
		var f *tunnel.InboundFlow
		f = in.Flow(func(p []byte) {
			if string(p) == "end" {
				in.Reset(wire.Refused)
				return
			}
			_ = f.Send(p)
		})
		if in.Accept() != nil {
			return
		}
		_ = f.Receive()
	}}
}

// heard collects what a flow's other end sends.
type heard struct {
	mu    sync.Mutex
	count map[string]int
}

func (h *heard) take(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count == nil {
		h.count = map[string]int{}
	}
	h.count[string(p)]++
}

func (h *heard) of(p string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count[p]
}

func (h *heard) total() (different, twice int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.count {
		if n > 1 {
			twice++
		}
	}
	return len(h.count), twice
}

func accepted(t *testing.T, f *tunnel.Flow) {
	t.Helper()
	if r, err := f.Status(t.Context()); err != nil || r.Status != wire.OK {
		t.Fatalf("%v, %v", r.Status, err)
	}
}

// numbered is a datagram that is known by its number.
func numbered(i, size int) []byte {
	p := make([]byte, size)
	binary.BigEndian.PutUint32(p, uint32(i))
	return p
}

// The first datagrams cost one round trip, as a stream's first bytes do; the rest as long as the
// path takes.
func TestAFlowCostsOneRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, _ := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), echoFlows())
		defer m.Close()
		var h heard
		start := time.Now()
		f, err := a.OpenFlow(t.Context(), "west", echoHeader(), [][]byte{[]byte("one"), []byte("two")}, h.take)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		accepted(t, f)
		go func() { ended <- f.Receive() }()
		time.Sleep(delay / 2)
		if h.of("one") != 1 || h.of("two") != 1 {
			t.Errorf("%v after %v", h.count, time.Since(start))
		}
		start = time.Now()
		if err := f.Send([]byte("three")); err != nil {
			t.Fatal(err)
		}
		for h.of("three") == 0 && time.Since(start) < time.Second {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(start); d > 2*delay+10*time.Millisecond {
			t.Errorf("an answer took %v", d)
		}
		// The far end ends it, with its reason.
		if err := f.Send([]byte("end")); err != nil {
			t.Fatal(err)
		}
		expectReset(t, "the end of the flow", <-ended, wire.Refused)
		_ = f.Close()
		if err := f.Send([]byte("late")); err == nil {
			t.Error("a flow that was ended takes datagrams")
		}
	})
}

// Where packets are lost and overtake each other, datagrams are lost, and none comes twice;
// those on the stream all come.
func TestFlowsOnABadPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), echoFlows())
		defer m.Close()
		a.WaitLink(b, tunnel.StateUp)
		var h heard
		f, err := a.OpenFlow(t.Context(), "west", echoHeader(), nil, h.take)
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, f)
		ended := make(chan error, 1)
		go func() { ended <- f.Receive() }()
		bad := tunneltest.Path{Delay: delay, Jitter: 10 * time.Millisecond, Loss: 0.05}
		m.Network.SetPath(a.Addr.Addr(), b.Addr.Addr(), bad)
		m.Network.SetPath(b.Addr.Addr(), a.Addr.Addr(), bad)
		const small, large = 500, 40
		for i := range small {
			if err := f.Send(numbered(i, 200)); err != nil {
				t.Fatal(err)
			}
			if i%10 == 0 && i/10 < large {
				if err := f.Send(numbered(small+i/10, 3000)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		different, twice := h.total()
		for i := range large {
			if p := numbered(small+i, 3000); h.of(string(p)) != 1 {
				t.Errorf("large datagram %d came %d times", i, h.of(string(p)))
			}
		}
		lost := small + large - different
		t.Logf("%d of %d small datagrams were lost on the way there or back", lost, small)
		if twice != 0 || lost == 0 || lost > small/4 {
			t.Errorf("%d of %d lost at 5 %% each way, %d came twice", lost, small, twice)
		}
		_ = f.Close()
		<-ended
	})
}

// With nothing but the control connection, datagrams go on the stream: probes do not wait
// behind them.
func TestFlowsOnTheControlConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay, Loss: 0.05}})
		one := func(o *tunnel.Options) { o.Connections = 1 }
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(), Options: one})
		b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: echoFlows(), Options: one})
		defer m.Close()
		m.Connect()
		a.WaitLink(b, tunnel.StateUp)
		var h heard
		f, err := a.OpenFlow(t.Context(), "west", echoHeader(), nil, h.take)
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, f)
		ended := make(chan error, 1)
		go func() { ended <- f.Receive() }()
		for i := range 200 {
			if err := f.Send(numbered(i, 100)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if different, twice := h.total(); different != 200 || twice != 0 {
			t.Errorf("%d of 200 came, %d of them twice", different, twice)
		}
		_ = f.Close()
		if err := <-ended; err == nil || errors.Is(err, io.EOF) {
			t.Errorf("closed here: %v", err)
		}
	})
}

// The TLS lane has no datagrams: a flow goes by its stream, whole and in order.
func TestFlowsByTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}, TLS: true, NoUDP: true}, tunneltest.Echo(), echoFlows())
		defer m.Close()
		a.WaitLane(b, tunnel.LaneTLS, tunnel.StateUp)
		var h heard
		f, err := a.OpenFlow(t.Context(), "west", echoHeader(), [][]byte{numbered(0, 100)}, h.take)
		if err != nil {
			t.Fatal(err)
		}
		accepted(t, f)
		ended := make(chan error, 1)
		go func() { ended <- f.Receive() }()
		for i := 1; i < 100; i++ {
			if err := f.Send(numbered(i, 100*i)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		if different, twice := h.total(); different != 100 || twice != 0 {
			t.Errorf("%d of 100 came, %d of them twice", different, twice)
		}
		if err := f.Send([]byte("end")); err != nil {
			t.Fatal(err)
		}
		expectReset(t, "the end of the flow", <-ended, wire.Refused)
		_ = f.Close()
	})
}

// Refusals are typed, and a gateway that knows no flows gets none.
func TestFlowsThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, _ := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), echoFlows())
		defer m.Close()
		header := echoHeader()
		header.Port = "refused"
		f, err := a.OpenFlow(t.Context(), "west", header, [][]byte{[]byte("x")}, func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := f.Status(t.Context()); err != nil || r.Status != wire.Refused {
			t.Errorf("%v, %v", r.Status, err)
		}
		_ = f.Close()
		if _, err := a.OpenFlow(t.Context(), "west", header, [][]byte{make([]byte, wire.MaxDatagram+1)}, func([]byte) {}); err == nil {
			t.Error("a datagram beyond all bounds was sent")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		m, _, _, a, b := rotors(t, time.Hour, nil)
		defer m.Close()
		b.WithoutSubsets() // nor flows
		m.Connect()
		a.WaitLink(b, tunnel.StateUp)
		_, err := a.OpenFlow(t.Context(), "west", echoHeader(), nil, func([]byte) {})
		if e, ok := errors.AsType[*tunnel.RefusedError](err); !ok || e.Status != wire.Version {
			t.Errorf("a gateway of an older version: %v", err)
		}
	})
}
