package tunnel_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// A process that starts again tells its peers with its first packets: they need
// not wait for their probes.
func TestRestartIsNoticedByStatelessReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		time.Sleep(3 * time.Second)
		s := openIdle(t, a)
		defer s.Close()
		b.Kill()
		b.Start()
		start := time.Now()
		_, err := s.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.LinkDead {
			t.Errorf("read: %v", err)
		}
		// The next packet is a probe, at most 100 ms away, and a round trip.
		if d := time.Since(start); d > 250*time.Millisecond {
			t.Errorf("noticed after %v", d)
		}
		if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
			t.Fatal(err)
		}
		a.WaitLink(b, tunnel.StateUp)
		b.WaitLink(a, tunnel.StateUp)
		t.Logf("linked again %v after the restart", time.Since(start))
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("linked again after %v", d)
		}
		_ = openIdle(t, a).Close()
	})
}

func TestKilledProcessIsNoticedByProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		time.Sleep(3 * time.Second)
		s := openIdle(t, a)
		defer s.Close()
		b.Kill()
		start := time.Now()
		_, err := s.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.LinkDead {
			t.Errorf("read: %v", err)
		}
		if d := time.Since(start); d > deadline {
			t.Errorf("noticed after %v", d)
		}
		// It is away for long enough that dialing is at its slowest. When it is
		// back it dials us, which lets us dial at once.
		time.Sleep(10 * time.Minute)
		b.Start()
		start = time.Now()
		if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
			t.Fatal(err)
		}
		a.Wait("a stream", func() bool {
			s, err := a.OpenStream(t.Context(), "west", echoHeader(), nil)
			if err == nil {
				_ = s.Close()
			}
			return err == nil
		})
		if d := time.Since(start); d > 500*time.Millisecond {
			t.Errorf("streams again after %v", d)
		}
		a.WaitLink(b, tunnel.StateUp)
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("dialed again after %v", d)
		}
	})
}

// Two gateways in the far cluster: losing one costs what was on it, no more.
func TestStreamsMoveToTheOtherGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
		b1 := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
		b2 := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw2", Handler: tunneltest.Echo()})
		m.Connect()
		on := make(map[string]int)
		var open []*tunnel.Stream
		for range 20 {
			s := openIdle(t, a)
			on[s.Remote().Gateway]++
			open = append(open, s)
		}
		if on["gw1"] != 10 || on["gw2"] != 10 {
			t.Errorf("streams are spread %v", on)
		}
		b1.Kill()
		for _, s := range open {
			if s.Remote().Gateway == "gw1" {
				if _, err := s.Read(make([]byte, 1)); err == nil {
					t.Error("a stream of the dead gateway goes on")
				}
			}
		}
		for _, s := range open {
			if s.Remote().Gateway == "gw2" {
				if _, err := s.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
			_ = s.Close()
		}
		for range 10 {
			s := openIdle(t, a)
			if s.Remote().Gateway != "gw2" {
				t.Error("a stream was opened to the dead gateway")
			}
			_ = s.Close()
		}
		_ = b2
	})
}

// One reset is word of the whole process: the request that is repeated after it
// must not meet the same link's next connection, which is as dead.
func TestOneResetEndsTheWholeLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The path is short: the requests find out long before the next probe.
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: time.Millisecond}})
		defer m.Close()
		web := tunneltest.Handler{HTTP: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }}
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: web})
		b1 := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: web})
		m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw2", Handler: web})
		m.Connect()
		time.Sleep(3 * time.Second)
		b1.Kill()
		b1.Start()
		failed := 0
		for range 20 {
			resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodGet, "http://x/", nil))
			if err != nil {
				failed++
				continue
			}
			_ = resp.Body.Close()
		}
		if failed > 1 {
			t.Errorf("%d requests failed on the connections of one dead process, want 1 at most", failed)
		}
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		s := openIdle(t, a)
		pr, pw := io.Pipe()
		slow := request(t, http.MethodPost, "http://x/", pr)
		type result struct {
			body string
			err  error
		}
		finished := make(chan result, 1)
		go func() {
			resp, err := a.RoundTrip("west", echoHeader(), slow)
			if err != nil {
				finished <- result{err: err}
				return
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			finished <- result{string(body), err}
		}()
		time.Sleep(time.Second)

		drained := make(chan error, 1)
		start := time.Now()
		go func() { drained <- b.Drain(t.Context()) }()

		// What crosses the news on its way is refused in words that allow a replay.
		crossing, err := a.OpenStream(t.Context(), "west", echoHeader(), []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = crossing.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.RefusedError](err); !ok || e.Status != wire.Draining || !e.Status.Undelivered() {
			t.Errorf("crossing stream: %v", err)
		}
		_ = crossing.Close()

		// Then nothing is sent there any more.
		if d := time.Since(start); d != 2*delay {
			t.Errorf("the refusal took %v", d)
		}
		if _, err := a.OpenStream(t.Context(), "west", echoHeader(), nil); err == nil {
			t.Error("a stream was opened after the news")
		}
		if err := failure(t, a, echoHeader(), request(t, http.MethodGet, "http://x/", nil)); err == nil {
			t.Error("a request was sent after the news")
		} else if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Delivered {
			t.Errorf("request after the news: %v", err)
		}

		// What is in progress goes on for as long as it takes.
		time.Sleep(time.Minute)
		if _, err := s.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_ = s.CloseWrite()
		if rest, err := io.ReadAll(s); err != nil || len(rest) != 0 {
			t.Errorf("end of the stream: %q, %v", rest, err)
		}
		_ = s.Close()
		select {
		case err := <-drained:
			t.Fatalf("drained with a request in progress: %v", err)
		default:
		}
		go func() {
			_, _ = io.Copy(pw, strings.NewReader("late but whole"))
			_ = pw.Close()
		}()
		if r := <-finished; r.err != nil || r.body != "late but whole" {
			t.Errorf("request in progress: %q, %v", r.body, r.err)
		}
		last := time.Now()
		if err := <-drained; err != nil {
			t.Errorf("drain: %v", err)
		}
		if d := time.Since(last); d > time.Second {
			t.Errorf("drained %v after the last request", d)
		}
		time.Sleep(time.Second)
		if l := b.Links(); len(l) != 0 {
			for _, l := range l {
				if l.State == tunnel.StateUp || l.State == tunnel.StateDraining {
					t.Errorf("link after the drain: %+v", l)
				}
			}
		}
		for _, l := range a.Links() {
			if l.State == tunnel.StateUp || l.State == tunnel.StateDraining {
				t.Errorf("link after the drain: %+v", l)
			}
		}
	})
}

// Requests that cross the news are refused as well, by whichever of the two says
// it first: our own answer or HTTP/3's GOAWAY.
func TestDrainRefusesCrossingRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		hold := openIdle(t, a) // or the drain is over before the requests arrive
		defer hold.Close()
		results := make(chan error)
		const requests = 50
		for i := range requests {
			go func() {
				time.Sleep(time.Duration(i) * 2 * time.Millisecond)
				resp, err := a.RoundTrip("west", echoHeader(), request(t, http.MethodPost, "http://x/", strings.NewReader("x")))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
				results <- err
			}()
		}
		go func() {
			time.Sleep(30 * time.Millisecond)
			_ = b.Drain(t.Context())
		}()
		served, refused, unsent := 0, 0, 0
		for range requests {
			err := <-results
			if err == nil {
				served++
			} else if e, ok := errors.AsType[*tunnel.RefusedError](err); ok && e.Status == wire.Draining {
				refused++
			} else if e, ok := errors.AsType[*tunnel.LinkError](err); ok && !e.Delivered {
				unsent++
			} else {
				t.Errorf("request: %v", err)
			}
		}
		t.Logf("%d served, %d refused, %d not sent", served, refused, unsent)
		if served == 0 || refused == 0 || unsent == 0 {
			t.Error("the drain did not cross the requests")
		}
		_ = hold.Close()
	})
}

func TestDrainCutsWhatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		s := openIdle(t, a)
		defer s.Close()
		ctx, cancel := contextWithTimeout(t, 30*time.Second)
		defer cancel()
		start := time.Now()
		if err := b.Drain(ctx); err == nil {
			t.Error("a cut stream was not mentioned")
		}
		if d := time.Since(start); d != 30*time.Second {
			t.Errorf("drain took %v", d)
		}
		_, err := s.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.Draining {
			t.Errorf("read: %v", err)
		}
	})
}

func TestOrderlyEndIsToldToPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		s := openIdle(t, a)
		defer s.Close()
		start := time.Now()
		b.Stop()
		_, err := s.Read(make([]byte, 1))
		if e, ok := errors.AsType[*tunnel.LinkError](err); !ok || e.Status != wire.Draining {
			t.Errorf("read: %v", err)
		}
		if d := time.Since(start); d > 2*delay {
			t.Errorf("the peer knew after %v", d)
		}
	})
}
