package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func TestThousandConcurrentStreams(t *testing.T) {
	m, a, b := pair(t, tunneltest.Config{Loopback: true}, tunneltest.Echo(), tunneltest.Echo())
	defer m.Close()
	const streams, size = 1000, 20 << 10
	var wg sync.WaitGroup
	var good, again atomic.Int64
	start := time.Now()
	echoed := func(payload []byte) ([]byte, error) {
		s, err := a.OpenStream(t.Context(), "west", echoHeader(), payload[:100])
		if err != nil {
			return nil, err
		}
		defer s.Close()
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			_, _ = s.Write(payload[100:])
			_ = s.CloseWrite()
		})
		return io.ReadAll(s)
	}
	for i := range streams {
		wg.Go(func() {
			payload := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, size/2)
			got, err := echoed(payload)
			// A machine that has no time for the probes of a link loses it.
			for linkDied(err) && time.Since(start) < time.Minute {
				again.Add(1)
				time.Sleep(50 * time.Millisecond)
				got, err = echoed(payload)
			}
			if err != nil || !bytes.Equal(got, payload) {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
				return
			}
			good.Add(1)
		})
	}
	wg.Wait()
	if good.Load() != streams {
		t.Errorf("%d of %d streams came through", good.Load(), streams)
	}
	t.Logf("figure: %d streams at once in %v, %d opened again on another link", streams, time.Since(start).Round(time.Millisecond), again.Load())
	for _, g := range []*tunneltest.Gateway{a, b} {
		g.Wait("streams to end", func() bool { l := g.Links(); return len(l) > 0 && l[0].Streams == 0 })
	}
}

func linkDied(err error) bool {
	if _, ok := errors.AsType[*tunnel.LinkError](err); ok {
		return true
	}
	e, ok := errors.AsType[*tunnel.ResetError](err)
	return ok && e.Status == wire.LinkDead
}

// A reader that stalls holds back its own stream only.
func TestSlowReadersDoNotBlockOthers(t *testing.T) {
	release := make(chan struct{})
	far := tunneltest.Handler{Stream: func(ctx context.Context, in *tunnel.Inbound) {
		if in.Header.Service != "slow.default" {
			tunneltest.Echo().Stream(ctx, in)
			return
		}
		_ = in.Accept()
		<-release
		_, _ = io.Copy(io.Discard, in)
	}}
	m, a, _ := pair(t, tunneltest.Config{Loopback: true}, tunneltest.Echo(), far)
	defer m.Close()
	defer close(release)
	for range 20 { // ten on each connection
		s, err := a.OpenStream(t.Context(), "west", &wire.Header{Service: "slow.default"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_ = s.SetWriteDeadline(time.Now().Add(time.Minute))
		go func() { _, _ = s.Write(make([]byte, 16<<20)) }()
	}
	time.Sleep(50 * time.Millisecond) // their windows are full now
	for range 20 {
		s, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		_ = s.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatalf("a stream waits behind slow ones: %v", err)
		}
		_ = s.Close()
	}
}

// A start that is larger than the windows waits for credit, at most for as long
// as its context.
func TestLargeFirstBytes(t *testing.T) {
	release := make(chan struct{})
	far := tunneltest.Handler{Stream: func(ctx context.Context, in *tunnel.Inbound) {
		_ = in.Accept()
		if in.Header.Service == "slow.default" {
			<-release
		}
		n, err := io.Copy(io.Discard, in)
		if in.Header.Service != "slow.default" && (n != 4<<20 || err != nil) {
			t.Errorf("%d bytes, %v", n, err)
		}
	}}
	m, a, b := pair(t, tunneltest.Config{Loopback: true}, tunneltest.Echo(), far)
	defer m.Close()
	first := make([]byte, 4<<20)
	s, err := a.OpenStream(t.Context(), "west", echoHeader(), first)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.CloseWrite()
	if _, err := io.ReadAll(s); err != nil {
		t.Error(err)
	}
	_ = s.Close()
	ctx, cancel := contextWithTimeout(t, 50*time.Millisecond)
	defer cancel()
	if _, err := a.OpenStream(ctx, "west", &wire.Header{Service: "slow.default"}, first); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without credit: %v", err)
	}
	close(release)
	for _, g := range []*tunneltest.Gateway{a, b} {
		g.Wait("streams to end", func() bool { return g.Links()[0].Streams == 0 && g.Links()[1].Streams == 0 })
	}
}

// What peers can make us keep is bounded by one budget for all connections.
func TestWindowBudgetBoundsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget, initial = 16 << 20, 1 << 20
		const streams, read = 64, 512 << 10
		registry := prometheus.NewRegistry()
		release := make(chan struct{})
		far := tunneltest.Handler{Stream: func(_ context.Context, in *tunnel.Inbound) {
			_ = in.Accept()
			// Read fast at first, so that windows want to grow.
			_, _ = io.CopyN(io.Discard, in, read)
			<-release
		}}
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		// Four connections that may grow to four times their start: with what the
		// others have, more than the budget.
		all := func(o *tunnel.Options) { o.Connections = 4 }
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(), Options: all})
		m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: far, Options: func(o *tunnel.Options) {
			o.WindowBudget, o.Registerer = budget, registry
		}})
		m.Connect()
		time.Sleep(time.Second)
		before := metric(t, registry, "isthmus_tunnel_window_bytes")
		var sent atomic.Int64
		for range streams {
			s, err := a.OpenStream(t.Context(), "west", echoHeader(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Reset(wire.Canceled)
			go func() {
				chunk := make([]byte, 64<<10)
				for {
					n, err := s.Write(chunk)
					sent.Add(int64(n))
					if err != nil {
						return
					}
				}
			}()
		}
		defer close(release)
		time.Sleep(time.Minute) // until nothing moves
		kept := sent.Load() - streams*read
		used := metric(t, registry, "isthmus_tunnel_window_bytes")
		t.Logf("%d KiB of windows before, %d KiB after; %d KiB are kept", int64(before)>>10, int64(used)>>10, kept>>10)
		if used > budget {
			t.Errorf("%v bytes of windows in a budget of %d", used, budget)
		}
		if used < before+initial {
			t.Errorf("windows did not grow: %v, then %v", before, used)
		}
		if kept <= 0 {
			t.Errorf("the far end did not stall: %d", kept)
		}
		// Writers may be one packet ahead of the window.
		if kept > budget+streams*2<<10 {
			t.Errorf("%d bytes are kept", kept)
		}
	})
}

func metric(t *testing.T, r prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestStreamsAreBounded(t *testing.T) {
	const limit = 10
	for name, c := range map[string]struct {
		connections int
		set         func(*tunnel.Options)
	}{
		// With one connection it is QUIC's credit that ends first.
		"per connection": {1, func(o *tunnel.Options) { o.MaxStreamsPerLink = limit }},
		"per link":       {2, func(o *tunnel.Options) { o.MaxStreamsPerLink = limit }},
		"per process":    {2, func(o *tunnel.Options) { o.MaxStreams = limit }},
	} {
		t.Run(name, func(t *testing.T) { testStreamBound(t, limit, c.connections, c.set) })
	}
}

func testStreamBound(t *testing.T, limit, connections int, set func(*tunnel.Options)) {
	m := tunneltest.New(t, tunneltest.Config{Loopback: true})
	defer m.Close()
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(), Options: func(o *tunnel.Options) { o.Connections = connections }})
	b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo(), Options: set})
	m.Connect()
	var open []*tunnel.Stream
	refused := 0
	for range 3 * limit {
		s, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("x"))
		if err == nil {
			if _, err = io.ReadFull(s, make([]byte, 1)); err == nil {
				open = append(open, s)
				continue
			}
			_ = s.Close()
		}
		e, ok := errors.AsType[*tunnel.RefusedError](err)
		if !ok || e.Status != wire.Overloaded || !e.Status.Undelivered() {
			t.Fatalf("over the limit: %v", err)
		}
		refused++
	}
	if len(open) != limit || refused != 2*limit {
		t.Errorf("%d open, %d refused", len(open), refused)
	}
	for _, s := range open {
		_ = s.Close()
	}
	b.Wait("streams to end", func() bool {
		s, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("x"))
		if err != nil {
			return false
		}
		defer s.Close()
		_, err = io.ReadFull(s, make([]byte, 1))
		return err == nil
	})
}

// Streams that come and go must leave nothing behind.
func TestStreamsDoNotLeak(t *testing.T) {
	m, a, b := pair(t, tunneltest.Config{Loopback: true}, tunneltest.Echo(), tunneltest.Echo())
	defer m.Close()
	use := func(n int) {
		for i := range n {
			s, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("x"))
			if err != nil {
				t.Fatal(err)
			}
			switch i % 4 {
			case 0:
				_ = s.Close()
			case 1:
				s.Reset(wire.Reset)
			case 2:
				_, _ = io.ReadFull(s, make([]byte, 1))
				_ = s.Close()
			case 3:
				_ = s.CloseWrite()
				_, _ = io.ReadAll(s)
				_ = s.Close()
			}
		}
		for _, g := range []*tunneltest.Gateway{a, b} {
			g.Wait("streams to end", func() bool {
				for _, l := range g.Links() {
					if l.Streams != 0 {
						return false
					}
				}
				return true
			})
		}
	}
	heap := func() (uint64, int) {
		time.Sleep(100 * time.Millisecond) // acknowledgements
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc, runtime.NumGoroutine()
	}
	use(2000)
	before, goroutines := heap()
	use(10000)
	after, goroutinesAfter := heap()
	t.Logf("heap %d KiB, then %d KiB; %d and %d goroutines", before>>10, after>>10, goroutines, goroutinesAfter)
	// A stream that is kept costs at least 2 KiB in quic-go alone.
	if after > before+10000*1024/4 {
		t.Errorf("heap grew from %d to %d", before, after)
	}
	if goroutinesAfter > goroutines+10 {
		t.Errorf("goroutines grew from %d to %d", goroutines, goroutinesAfter)
	}
}

func TestMetricsOfARemovedPeerGo(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := tunneltest.New(t, tunneltest.Config{Loopback: true})
	defer m.Close()
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(), Options: func(o *tunnel.Options) { o.Registerer = registry }})
	b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
	empty, err := testutil.GatherAndCount(registry)
	if err != nil {
		t.Fatal(err)
	}
	m.Connect()
	s := openIdle(t, a)
	defer s.Close()
	a.Wait("statistics", func() bool { return a.WaitLink(b, tunnel.StateUp).BytesSent > 0 })
	full, err := testutil.GatherAndCount(registry)
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	if err := a.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Read(make([]byte, 1))
	_ = s.Close()
	time.Sleep(1200 * time.Millisecond) // one more round of housekeeping
	after, err := testutil.GatherAndCount(registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d series without peers, %d with one, %d after its removal", empty, full, after)
	// Three probe counters and the accepted connections have no cluster.
	if full < empty+15 || after > empty+4 {
		t.Errorf("series: %d, %d, %d", empty, full, after)
	}
}
