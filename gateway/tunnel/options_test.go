package tunnel_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

func TestOptionsAreCheckedAllAtOnce(t *testing.T) {
	_, err := tunnel.New(tunnel.Options{
		Cluster: "East", Gateway: strings.Repeat("g", 64), Connections: 9, HTTPConnections: -1,
		ProbeInterval: time.Millisecond, MaxStreamsPerLink: -1, MaxStreams: -1, WindowBudget: 1 << 20,
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{
		"packet_conn", "identity", "handler", `cluster: "East"`, "gateway", "connections: 9", "http_connections: -1",
		"probe_interval: 1ms", "max_streams_per_link", "max_streams:", "window_budget",
	} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("no mention of %s in:\n%v", field, err)
		}
	}
}

func TestDefaultsServe(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ca := identitytest.NewCA("mesh.test")
	n, err := tunnel.New(tunnel.Options{
		PacketConn: conn, Identity: ca.Source(ca.ID("/isthmus/cluster/east/gateway/gw1")),
		Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.LocalAddr() != conn.LocalAddr() {
		t.Errorf("address %v", n.LocalAddr())
	}
	ctx, cancel := contextWithTimeout(t, 50*time.Millisecond)
	defer cancel()
	if err := n.Run(ctx); err != nil {
		t.Errorf("run: %v", err)
	}
	if err := n.Run(t.Context()); err == nil {
		t.Error("ran twice")
	}
}

func TestNamesAreResolved(t *testing.T) {
	m := tunneltest.New(t, tunneltest.Config{Loopback: true})
	defer m.Close()
	a := m.Add(tunneltest.Spec{Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(), Options: func(o *tunnel.Options) { o.Resolve = nil }})
	b := m.Add(tunneltest.Spec{Cluster: "west", Gateway: "gw1", Handler: tunneltest.Echo()})
	if err := b.SetPeers([]tunnel.Peer{m.PeerOf("east")}); err != nil {
		t.Fatal(err)
	}
	p := m.PeerOf("west")
	p.Gateways[0].Addresses = []string{fmt.Sprintf("localhost:%d", b.Addr.Port())}
	if err := a.SetPeers([]tunnel.Peer{p}); err != nil {
		t.Fatal(err)
	}
	a.WaitLink(b, tunnel.StateUp)
}

// A node whose socket goes says so.
func TestRunEndsWithItsSocket(t *testing.T) {
	m := tunneltest.New(t, tunneltest.Config{Loopback: true})
	defer m.Close()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	n, err := tunnel.New(tunnel.Options{
		PacketConn: conn, Identity: m.CA("mesh.test").Source(tunneltest.Spec{Cluster: "east", Gateway: "gw1"}.GatewayID()),
		Cluster: "east", Gateway: "gw1", Handler: tunneltest.Echo(), WindowBudget: 16 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = conn.Close() })
	if err := n.Run(t.Context()); err == nil {
		t.Error("run returned nil")
	}
}
