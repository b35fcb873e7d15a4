package gateway_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway"
)

func (n *node) waitDropped(reason string) {
	t := n.cluster.world.t
	t.Helper()
	eventually(t, "a datagram dropped for "+reason, func() error {
		if n.metric("isthmus_gateway_datagrams_dropped_total", "way=udp", "reason="+reason) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
}

// No source has more flows than it may, and places come back.
func TestFlowsOfASourceAreBounded(t *testing.T) {
	at, _ := udpServer(t, answers("beta"))
	w, near, _ := udpWorld(t, at)
	near.listenUDP("echo", func(l *gateway.UDPListener) { l.FlowsPerSource, l.IdleTimeout = 2, time.Second })
	w.start()
	near.udp(0).ask("a")
	near.udp(0).ask("b")
	c := near.udp(0)
	_, _ = c.Write([]byte("c"))
	near.waitDropped("too_many_flows_of_source")
	if got := c.ask("d"); got != "beta:d" { // when the others are idle
		t.Error(got)
	}
}

// A listener that is full ends what is quiet, for what is new.
func TestAFullListenerMakesRoom(t *testing.T) {
	at, _ := udpServer(t, answers("beta"))
	w, near, _ := udpWorld(t, at)
	near.config.Limits.ConnectionsPerListener = 3
	near.listenUDP("echo")
	w.start()
	for range 3 {
		near.udp(0).ask("a")
	}
	c := near.udp(0)
	_, _ = c.Write([]byte("c"))
	near.waitDropped("too_many_flows")
	if got := c.ask("d"); got != "beta:d" {
		t.Error(got)
	}
	if near.metric("isthmus_gateway_requests_total", "way=udp", "reason=evicted") == 0 {
		t.Error("no flow was evicted")
	}
}

// Who is outside of the sources is not heard, and a listener on all addresses answers by the
// one that it was asked by.
func TestSourcesAndAddressesOfUDP(t *testing.T) {
	at, _ := udpServer(t, answers("beta"))
	w, near, _ := udpWorld(t, at)
	near.listenUDP("echo", func(l *gateway.UDPListener) {
		l.Address, l.Sources = "0.0.0.0:0", []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	w.start()
	port := near.Addrs().UDP[0].Port()
	if got := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.7"), port)).ask("a"); got != "beta:a" {
		t.Error(got)
	}
	stranger, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 7), Port: int(port)})
	if err != nil {
		t.Skip("this system has only one address of loopback: ", err)
	}
	defer stranger.Close()
	if !(&client{t, stranger}).silent("a") {
		t.Error("a stranger is answered")
	}
	near.waitDropped("source")
}

// What nobody answers goes on, and is no failure of its service.
func TestOneWayFlows(t *testing.T) {
	got := make(chan string, 1000)
	at, _ := udpServer(t, func(p []byte) [][]byte { got <- string(p); return nil })
	w, near, far := udpWorld(t, at)
	near.listenUDP("echo", func(l *gateway.UDPListener) { l.IdleTimeout = time.Second })
	w.start()
	c := near.udp(0)
	for i := range 4 { // longer than datagrams are kept for another endpoint
		p := strings.Repeat("m", i+1)
		for ok := false; !ok; { // UDP may lose it
			if _, err := c.Write([]byte(p)); err != nil {
				t.Fatal(err)
			}
			select {
			case have := <-got:
				ok = have == p
			case <-time.After(5 * time.Second):
			}
		}
		time.Sleep(700 * time.Millisecond)
	}
	for _, n := range []*node{near, far} {
		way := map[*node]string{near: "udp", far: "flow"}[n]
		eventually(t, "the flow to end", func() error {
			if n.metric("isthmus_gateway_requests_total", "way="+way, "reason=ok") != 1 {
				return errors.New("it has not")
			}
			return nil
		})
		if f := n.metric("isthmus_gateway_refusals_total", "way="+way); f != 0 {
			t.Errorf("%s: %v refusals", n.cluster.name, f)
		}
	}
}

func TestEveryProblemOfUDPListenersIsTold(t *testing.T) {
	prefix := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	good := gateway.Config{Name: "gw1", Listen: gateway.Listen{UDP: []gateway.UDPListener{
		{Address: "127.0.0.1:5353", Service: "resolver", Caller: workload},
		{Address: "0.0.0.0:8125", Service: "statsd.shop", Port: "main", Caller: workload, Sources: prefix, IdleTimeout: time.Hour, FlowsPerSource: 1},
		{Address: "127.0.0.1:0", Service: "a", Caller: workload},
		{Address: "127.0.0.1:0", Service: "b", Caller: workload},
	}, TCP: []gateway.TCPListener{{Address: "127.0.0.1:5353", Service: "resolver", Caller: workload}}}}
	if err := good.Validate(); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	bad := good
	bad.Listen.Link = "0.0.0.0:7443"
	bad.Listen.UDP = []gateway.UDPListener{
		{Address: "0.0.0.0:53", Service: "No Name", Port: "No Port", Caller: "spiffe://a.test", IdleTimeout: time.Millisecond, FlowsPerSource: -1},
		{Address: "0.0.0.0:53", Service: "federation.a", Caller: workload, Sources: prefix, IdleTimeout: 2 * time.Hour},
		{Address: "0.0.0.0:7443", Service: "a", Caller: workload, Sources: prefix},
	}
	want := []string{
		"listen.udp[0].caller", "listen.udp[0].sources", "listen.udp[0].service", "listen.udp[0].port", "listen.udp[0].idle_timeout", "listen.udp[0].flows_per_source",
		"listen.udp[1].service", "listen.udp[1].idle_timeout", "listen.udp[1].address", "listen.udp[2].address",
	}
	if got := fields(bad); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
