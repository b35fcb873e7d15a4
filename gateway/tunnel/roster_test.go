package tunnel_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func contextWithTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// bootstrap is what is configured of a peer before its roster is known.
func bootstrap(m *tunneltest.Mesh, cluster string) tunnel.Peer {
	p := m.PeerOf(cluster)
	for i := range p.Gateways {
		p.Gateways[i].Name, p.Gateways[i].ID = "", ""
	}
	return p
}

func TestBootstrapLinkGoesOnUnderItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
		b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw7", Handler: tunneltest.Echo()})
		// Neither knows the other's roster; each admits any gateway of the peer.
		for g, peer := range map[*tunneltest.Gateway]string{a: "west", b: "east"} {
			if err := g.SetPeers([]tunnel.Peer{bootstrap(m, peer)}); err != nil {
				t.Fatal(err)
			}
		}
		before := a.WaitLink(b, tunnel.StateUp) // by the name from its certificate
		s := openIdle(t, a)
		defer s.Close()

		for g, peer := range map[*tunneltest.Gateway]string{a: "west", b: "east"} {
			if err := g.SetPeers([]tunnel.Peer{m.PeerOf(peer)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		dialed := 0
		for _, l := range a.Links() {
			if l.Dialed {
				dialed++
				if l.State != tunnel.StateUp || l.Gateway != "gw7" || !l.Since.Equal(before.Since) {
					t.Errorf("link %+v, before %+v", l, before)
				}
			}
		}
		if dialed != 1 {
			t.Errorf("%d dialed links: %+v", dialed, a.Links())
		}
		if _, err := s.Write([]byte("y")); err != nil {
			t.Error(err)
		}
	})
}

// The bootstrap address may be a load balancer's; the roster has the gateway's own.
func TestLinkMovesFromTheBootstrapAddressToTheGatewaysOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		const balancer = "lb.example:7443"
		var target string
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(), Options: func(o *tunnel.Options) {
			resolve := o.Resolve
			o.Resolve = func(ctx context.Context, hostport string) (addr net.Addr, err error) {
				if hostport == balancer {
					hostport = target
				}
				return resolve(ctx, hostport)
			}
		}})
		b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
		target = b.Addr.String()
		p := bootstrap(m, "west")
		p.Gateways[0].Addresses = []string{balancer}
		if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
			t.Fatal(err)
		}
		if err := a.SetPeers([]tunnel.Peer{p}); err != nil {
			t.Fatal(err)
		}
		a.WaitLink(b, tunnel.StateUp)
		s := openIdle(t, a)
		if err := a.SetPeers([]tunnel.Peer{m.PeerOf("west")}); err != nil {
			t.Fatal(err)
		}
		a.Wait("link at the gateway's own address", func() bool {
			up := false
			for _, l := range a.Links() {
				up = up || l.Dialed && l.State == tunnel.StateUp && l.Address == target
			}
			return up
		})
		if _, err := s.Write([]byte("y")); err != nil { // on the old one
			t.Error(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		_ = s.Close()
		time.Sleep(5 * time.Second)
		for _, l := range a.Links() {
			if l.Address == balancer {
				t.Errorf("link %+v", l)
			}
		}
	})
}

// A gateway that nobody can reach dials out and is called back on its links, for
// streams and for requests.
func TestGatewayWithoutAddressIsCalledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
		b := m.Add(tunneltest.Spec{Cluster: "onprem", Gateway: "gw1", Handler: tunneltest.Echo()})
		hidden := m.PeerOf("onprem")
		hidden.Gateways[0].Addresses = nil
		if err := a.SetPeers([]tunnel.Peer{hidden}); err != nil {
			t.Fatal(err)
		}
		if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
			t.Fatal(err)
		}
		a.Wait("accepted link with callback connections", func() bool {
			for _, l := range a.Links() {
				if !l.Dialed && l.State == tunnel.StateUp && l.Connections == 6 {
					return true
				}
			}
			return false
		})
		start := time.Now()
		s, err := a.OpenStream(t.Context(), "onprem", echoHeader(), []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 2*delay {
			t.Errorf("stream took %v", d)
		}
		_ = s.Close()
		start = time.Now()
		resp, err := a.RoundTrip("onprem", echoHeader(), request(t, http.MethodPost, "http://x/", strings.NewReader("called back")))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "called back" {
			t.Errorf("%q, %v", body, err)
		}
		if d := time.Since(start); d != 2*delay {
			t.Errorf("request took %v", d)
		}
		_ = resp.Body.Close()
		// And the other way as ever.
		resp, err = b.RoundTrip("east", echoHeader(), request(t, http.MethodPost, "http://x/", strings.NewReader("y")))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		// Its drain ends cleanly, too.
		ctx, cancel := contextWithTimeout(t, 10*time.Second)
		defer cancel()
		if err := b.Drain(ctx); err != nil {
			t.Errorf("drain: %v", err)
		}
	})
}

func TestDrainingGatewayOfTheRosterGetsNothingNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := tunneltest.New(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}})
		defer m.Close()
		a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo()})
		m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
		m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw2", Handler: tunneltest.Echo()})
		m.Connect()
		p := m.PeerOf("west")
		p.Gateways[0].Draining = true
		if err := a.SetPeers([]tunnel.Peer{p}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			s := openIdle(t, a)
			if s.Remote().Gateway != "gw2" {
				t.Error("a stream went to the draining gateway")
			}
			defer s.Close()
		}
		// Back again: a new link.
		if err := a.SetPeers([]tunnel.Peer{m.PeerOf("west")}); err != nil {
			t.Fatal(err)
		}
		a.Wait("a stream to gw1", func() bool {
			s := openIdle(t, a)
			defer s.Close()
			return s.Remote().Gateway == "gw1"
		})
	})
}

func TestSetPeersReportsAllProblemsAndKeepsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, a, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, tunneltest.Echo(), tunneltest.Echo())
		defer m.Close()
		since := a.WaitLink(b, tunnel.StateUp).Since
		id := func(path string) spiffeid.ID { return spiffeid.RequireFromString("spiffe://mesh.test" + path) }
		many := make([]tunnel.PeerGateway, 65)
		for i := range many {
			many[i].Name = fmt.Sprintf("gw%d", i)
		}
		broken := m.PeerOf("west")
		broken.Gateways = append(broken.Gateways, tunnel.PeerGateway{Name: "GW"})
		err := a.SetPeers([]tunnel.Peer{
			broken,
			{Cluster: "east", ID: id("/own")},
			{Cluster: "No Label", ID: id("/x")},
			{Cluster: "no-id"},
			{Cluster: "twin", ID: id("/twin")},
			{Cluster: "twin", ID: id("/other")},
			{Cluster: "same-id", ID: id("/twin")},
			{Cluster: "thief", ID: id("/thief"), Gateways: []tunnel.PeerGateway{{Name: "gw1", ID: "spiffe://mesh.test/isthmus/cluster/west/gateway/gw1"}}},
			{Cluster: "nameless", ID: id("/nameless"), Gateways: []tunnel.PeerGateway{{ID: "spiffe://mesh.test/nameless/gateway/gw1", Addresses: []string{"x:1"}}, {}}},
			{Cluster: "doubled", ID: id("/doubled"), Gateways: []tunnel.PeerGateway{{Name: "gw1"}, {Name: "gw1"}}},
			{Cluster: "many", ID: id("/many"), Gateways: many},
			{Cluster: "addresses", ID: id("/addresses"), Gateways: []tunnel.PeerGateway{{Name: "gw1", Addresses: make([]string, 9)}}},
		})
		if err == nil {
			t.Fatal("accepted")
		}
		for _, want := range []string{
			`peer west: gateways[1].name: "GW"`, "own cluster", `"No Label"`, `peer no-id: id`, `peer twin: cluster`,
			"peer same-id", "peer thief: gateways[0].id", "peer nameless: gateways[0].id", "gateways[1].addresses",
			"peer doubled: gateways[1].name", "peer many: gateways: 65", "peer addresses: gateways[0].addresses",
		} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("no mention of %s in:\n%v", want, err)
			}
		}
		// west keeps what it had: its link was not touched.
		if l := a.WaitLink(b, tunnel.StateUp); !l.Since.Equal(since) {
			t.Errorf("link %+v", l)
		}
	})
}

func TestLoadsAreSentToEachPeerByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan wire.Load, 16)
		near := tunneltest.Handler{Load: func(from tunnel.Remote, l wire.Load) {
			if from.Cluster != "west" {
				t.Errorf("a load of %s", from.Cluster)
			}
			got <- l
		}}
		m, _, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, near, tunneltest.Echo())
		defer m.Close()
		row := wire.ServiceLoad{Service: "a.default", Capacity: 9, Spare: 3, Granted: 2, Lease: time.Second}
		send := func(rows ...wire.ServiceLoad) error {
			return b.SendLoads(func(to tunnel.Remote) (wire.Load, bool) {
				if to.Cluster != "east" {
					t.Errorf("a load for %s", to.Cluster)
				}
				return wire.Load{Offers: rows}, true
			})
		}
		if err := send(row); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		synctest.Wait()
		if len(got) != 1 {
			t.Fatalf("%d loads", len(got))
		}
		if l := <-got; len(l.Offers) != 1 || l.Offers[0] != row || len(l.Wants) != 0 {
			t.Errorf("load %+v", l)
		}
		if err := send(row, row); err == nil {
			t.Error("a load that repeats a service was sent")
		}
	})
}

func TestReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type report struct {
			from tunnel.Remote
			wire.Report
		}
		got := make(chan report, 2000)
		near := tunneltest.Handler{Report: func(from tunnel.Remote, r wire.Report) { got <- report{from, r} }}
		m, _, b := pair(t, tunneltest.Config{Path: tunneltest.Path{Delay: delay}}, near, tunneltest.Echo())
		defer m.Close()
		want := wire.ServiceReport{Service: "a.default", Ready: 1, Total: 2, InFlight: 3}
		if err := b.SendReport(wire.Report{Services: []wire.ServiceReport{want}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		synctest.Wait()
		if len(got) != 1 { // once per process, though there are links both ways
			t.Fatalf("%d reports", len(got))
		}
		if r := <-got; r.from.Cluster != "west" || r.from.Gateway != "gw1" || len(r.Services) != 1 || r.Services[0] != want {
			t.Errorf("report %+v", r)
		}
		if err := b.SendReport(wire.Report{Services: []wire.ServiceReport{{Service: "b"}, {Service: "a"}}}); err == nil {
			t.Error("a report out of order was sent")
		}
		// A sender that floods is slowed down, and its newest word arrives.
		for i := range 1000 {
			want.InFlight = uint32(i)
			_ = b.SendReport(wire.Report{Services: []wire.ServiceReport{want}})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		var last uint32
		n := 0
		for ; len(got) > 0; n++ {
			last = (<-got).Services[0].InFlight
		}
		t.Logf("%d of 1000 reports arrived", n)
		if last != 999 {
			t.Errorf("the last report was %d", last)
		}
	})
}
