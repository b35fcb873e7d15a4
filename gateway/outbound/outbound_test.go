package outbound_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/endpoint"
	"github.com/isthmus-mesh/isthmus/gateway/outbound"
	"github.com/isthmus-mesh/isthmus/gateway/splice"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var db = catalog.MustServiceName("db")

const delay = 20 * time.Millisecond

// world is a near gateway's dialer over real links, on the fake clock, to clusters
// that are asked in their order; far says what each does with a stream.
type world struct {
	mesh   *tunneltest.Mesh
	dialer *outbound.Dialer
	far    map[catalog.ClusterName]*tunneltest.Gateway
}

type noHTTP struct{}

func (noHTTP) ServeLocal(*splice.PipeConn, attempt.Call, *catalog.Endpoint, net.Conn) error {
	return errors.New("no http here")
}

type fixedBoard struct{ plan *route.Plan }

func (b fixedBoard) Plan() *route.Plan                                             { return b.plan }
func (b fixedBoard) Observe(route.Target, *route.EndpointKey, route.Outcome, bool) {}
func dialNothing(context.Context, string, string) (net.Conn, error)                { return nil, net.ErrClosed }

func streamHandler(f func(context.Context, *tunnel.Inbound)) tunneltest.Handler {
	return tunneltest.Handler{Stream: f}
}

func refuseWith(s wire.Status) tunneltest.Handler {
	return streamHandler(func(_ context.Context, in *tunnel.Inbound) { _ = in.Refuse(s, "") })
}

// taker accepts, and keeps what it was sent.
type taker struct {
	mu   sync.Mutex
	got  []string
	wait time.Duration // before it accepts
}

func (k *taker) handler() tunneltest.Handler {
	return streamHandler(func(_ context.Context, in *tunnel.Inbound) {
		time.Sleep(k.wait)
		if err := in.Accept(); err != nil {
			return
		}
		b, _ := io.ReadAll(in)
		k.mu.Lock()
		k.got = append(k.got, string(b))
		k.mu.Unlock()
		_, _ = io.WriteString(in, "answer")
		_ = in.CloseWrite()
	})
}

func (k *taker) taken() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.got...)
}

type cluster struct {
	name    catalog.ClusterName
	handler tunnel.Handler
}

func newWorld(t *testing.T, clusters ...cluster) *world {
	t.Helper()
	w := &world{far: make(map[catalog.ClusterName]*tunneltest.Gateway)}
	w.mesh = tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
	near := w.mesh.Add(tunneltest.Spec{Cluster: "own", Gateway: "gw", Handler: tunneltest.Handler{}})
	ports := []catalog.Port{{Name: "main", Protocol: catalog.TCP}}
	s := route.Service{Name: db, Ports: ports, Traffic: &policy.Traffic{Name: "order", Services: []policy.ServicePattern{"db.default"}}}
	table := &route.Table{Format: route.TableFormat, Cluster: route.Cluster{Name: "own", ID: "spiffe://mesh.test/c/own"}}
	evidence := &route.Evidence{Now: time.Now(), Links: make(map[catalog.ClusterName]route.LinkEvidence)}
	for _, c := range clusters {
		w.far[c.name] = w.mesh.Add(tunneltest.Spec{Cluster: string(c.name), Gateway: "gw", Handler: c.handler})
		table.Peers = append(table.Peers, route.Peer{Name: c.name, ID: "spiffe://mesh.test/c/" + string(c.name), HeardAt: time.Now()})
		s.Remote = append(s.Remote, route.Remote{Cluster: c.name, Name: db, Ports: ports, Rows: []catalog.SummaryRow{{Port: "main", Ready: 1, Total: 1}}})
		s.Traffic.Clusters = append(s.Traffic.Clusters, c.name)
		evidence.Links[c.name] = route.LinkEvidence{Up: true, RTT: 2 * delay}
	}
	table.Services = []route.Service{s}
	w.mesh.Connect()
	router, err := attempt.New(attempt.Options{Board: fixedBoard{route.Compile(table, evidence, route.NewLive())}, Random: rand.New(rand.NewPCG(1, 2)).Uint64})
	if err != nil {
		t.Fatal(err)
	}
	w.dialer, err = outbound.New(outbound.Options{
		Router: router, Links: near, Endpoints: endpoint.New(endpoint.Options{Dial: dialNothing}), HTTP: noHTTP{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) dial(t *testing.T, first string) (*outbound.Conn, error) {
	t.Helper()
	return w.dialer.Dial(t.Context(), outbound.Request{Call: attempt.Call{Service: db}, First: []byte(first)})
}

// converse writes, half-closes and reads the answer.
func converse(t *testing.T, c *outbound.Conn, text string) (string, error) {
	t.Helper()
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	_ = c.CloseWrite()
	b, err := io.ReadAll(c)
	return string(b), err
}

func TestARefusalIsReplayedToTheNextOnce(t *testing.T) {
	for _, size := range []int{0, 1, 5000, outbound.MaxReplay - 10} {
		synctest.Test(t, func(t *testing.T) {
			k := new(taker)
			w := newWorld(t, cluster{"b", refuseWith(wire.Refused)}, cluster{"c", refuseWith(wire.Overloaded)}, cluster{"d", k.handler()})
			defer w.mesh.Close()
			c, err := w.dial(t, "first ")
			if err != nil {
				t.Fatal(err)
			}
			text := string(bytes.Repeat([]byte("x"), size))
			answer, err := converse(t, c, text)
			if got := k.taken(); err != nil || answer != "answer" || len(got) != 1 || got[0] != "first "+text {
				t.Errorf("size %d: %q, %v, taken %d times", size, answer, err, len(got))
			}
			if s := c.Served(); s.Cluster != "d" || s.Gateway != "gw" || c.Attempts() < 3 {
				t.Errorf("served by %+v after %d attempts", s, c.Attempts())
			}
		})
	}
}

func TestALargeStartWaitsForTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &taker{wait: time.Second}
		w := newWorld(t, cluster{"b", k.handler()})
		defer w.mesh.Close()
		c, err := w.dial(t, "")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		written := make(chan time.Duration, 1)
		text := string(make([]byte, 3*outbound.MaxReplay))
		go func() {
			_, _ = io.WriteString(c, text)
			written <- time.Since(start)
			_ = c.CloseWrite()
		}()
		answer, err := io.ReadAll(c)
		if got := k.taken(); err != nil || string(answer) != "answer" || len(got) != 1 || got[0] != text {
			t.Errorf("%q, %v", answer, err)
		}
		if d := <-written; d < time.Second {
			t.Errorf("more than is kept was written after %v, before the answer", d)
		}
		_ = c.Close()
	})
}

// TestAnOpenFateIsNotReplayed: the link dies before the answer; the service may have
// been asked, so nobody else is.
func TestAnOpenFateIsNotReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := new(taker)
		hang := streamHandler(func(ctx context.Context, _ *tunnel.Inbound) { <-ctx.Done() })
		w := newWorld(t, cluster{"b", hang}, cluster{"c", other.handler()})
		defer w.mesh.Close()
		c, err := w.dial(t, "once")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(300 * time.Millisecond)
			w.far["b"].Kill()
		}()
		defer func() { <-killed }()
		start := time.Now()
		_, err = c.Read(make([]byte, 1))
		e, ok := errors.AsType[*attempt.Error](err)
		if !ok || e.Undelivered || e.Attempts != 1 || e.Status != wire.LinkDead {
			t.Errorf("%v: %+v", err, e)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("it took %v", d)
		}
		if got := other.taken(); len(got) != 0 {
			t.Errorf("the other cluster was asked: %q", got)
		}
		if _, err := c.Write([]byte("more")); err == nil {
			t.Error("a connection that failed can be written")
		}
	})
}

func TestAFarGatewayThatNeverAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := streamHandler(func(ctx context.Context, in *tunnel.Inbound) { _, _ = io.Copy(io.Discard, in) })
		w := newWorld(t, cluster{"b", hang})
		defer w.mesh.Close()
		c, err := w.dial(t, "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(start) != outbound.StatusTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestNobodyToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cluster{"b", refuseWith(wire.NoEndpoint)})
		defer w.mesh.Close()
		if _, err := w.dialer.Dial(t.Context(), outbound.Request{Call: attempt.Call{Service: catalog.MustServiceName("nobody")}}); err == nil {
			t.Error("a service that is not there was dialed")
		}
		c, err := w.dial(t, "x")
		if err != nil {
			t.Fatal(err)
		}
		_, err = converse(t, c, "y")
		if e, ok := errors.AsType[*attempt.Error](err); !ok || e.Reason != "no_endpoint" || !e.Undelivered {
			t.Errorf("%v", err)
		}
	})
}

func TestAResetEndsTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := new(taker)
		slow := streamHandler(func(_ context.Context, in *tunnel.Inbound) {
			time.Sleep(time.Second)
			_ = in.Refuse(wire.Refused, "")
		})
		w := newWorld(t, cluster{"b", slow}, cluster{"c", other.handler()})
		defer w.mesh.Close()
		c, err := w.dial(t, "x")
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(100*time.Millisecond, func() { c.Reset(wire.Canceled) })
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		_ = c.Close()
		time.Sleep(3 * time.Second)
		if got := other.taken(); len(got) != 0 {
			t.Errorf("a caller that went away was sent on: %q", got)
		}
	})
}

// TestOwnEndpoints: bytes written while the second choice is dialed arrive in order.
func TestOwnEndpoints(t *testing.T) {
	ports := []catalog.Port{{Name: "main", Protocol: catalog.TCP}}
	s := route.Service{Name: db, Ports: ports}
	for i := range 2 {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: string(rune('a' + i)), Port: "main", Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i+1)),
		})
	}
	table := &route.Table{Format: route.TableFormat, Cluster: route.Cluster{Name: "own", ID: "spiffe://mesh.test/c/own"}, Services: []route.Service{s}}
	synctest.Test(t, func(t *testing.T) {
		refusals := 0
		got := make(chan string, 1)
		dial := func(_ context.Context, _, _ string) (net.Conn, error) {
			if refusals++; refusals == 1 {
				return nil, errors.New("refused")
			}
			time.Sleep(100 * time.Millisecond)
			near, far := net.Pipe()
			go func() {
				b := make([]byte, 10)
				_, _ = io.ReadFull(far, b)
				got <- string(b)
				_ = far.Close()
			}()
			return near, nil
		}
		router, err := attempt.New(attempt.Options{Board: fixedBoard{route.Compile(table, &route.Evidence{Now: time.Now()}, route.NewLive())}, Random: rand.Uint64})
		if err != nil {
			t.Fatal(err)
		}
		d, err := outbound.New(outbound.Options{Router: router, Links: new(tunnel.Node), Endpoints: endpoint.New(endpoint.Options{Dial: dial}), HTTP: noHTTP{}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Dial(t.Context(), outbound.Request{Call: attempt.Call{Service: db}, First: nil})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "01234")
		_, _ = io.WriteString(c, "56789")
		if s := <-got; s != "0123456789" || c.Attempts() != 2 {
			t.Errorf("%q after %d attempts", s, c.Attempts())
		}
		_ = c.Close()
	})
}
