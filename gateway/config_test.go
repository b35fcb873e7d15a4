package gateway_test

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/identity/consulca"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

const workload = "spiffe://a.test/workload"

// fields are the fields that Validate complains of.
func fields(c gateway.Config) (found []string) {
	err := c.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, e := range joined.Unwrap() {
		var fe *catalog.FieldError
		if !errors.As(e, &fe) || fe.Rule == "" {
			return []string{"no field error: " + e.Error()}
		}
		found = append(found, fe.Field)
	}
	return found
}

func TestEveryProblemOfAConfigIsTold(t *testing.T) {
	good := gateway.Config{Name: "gw1", Advertise: []string{"gw1.example.org:7443"}, Listen: gateway.Listen{
		HTTP: "127.0.0.1:7080", HTTPCaller: workload,
		TCP: []gateway.TCPListener{
			{Address: "127.0.0.1:5432", Service: "orders-db", Caller: workload},
			{Address: "0.0.0.0:5433", Service: "orders.shop", Port: "main", Caller: workload, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
			{Address: "127.0.0.1:0", Service: "a", Caller: workload},
			{Address: "127.0.0.1:0", Service: "b", Caller: workload},
		},
		MTLS: []gateway.MTLSListener{
			{Address: "0.0.0.0:15001", Service: "billing"}, // who connects proves who it is
			{Address: "0.0.0.0:15002", Service: "billing", Identity: "consul", ALPN: []string{"h2"}},
			{Address: "0.0.0.0:15003"},
		},
	}, Consul: new(gateway.Consul)}
	if err := good.Validate(); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	alone := good
	alone.Consul = nil
	if got := fields(alone); !slices.Equal(got, []string{"listen.mtls[1].identity"}) {
		t.Errorf("without a mesh: %v", got)
	}
	bad := gateway.Config{
		Name: "GW 1", Advertise: []string{"gw1", "0.0.0.0:7443"}, DrainTimeout: -1, AccessLog: "loud",
		FailBack: gateway.FailBack{Hold: -1, Step: 2},
		Limits:   gateway.Limits{Connections: -1, ConnectionsPerListener: -1, Streams: -1},
		Listen: gateway.Listen{
			Link: "7443", Admin: "localhost:1", Control: ":1", ControlAdvertise: "x", HTTP: "0.0.0.0:80",
			HTTPSources: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")},
			TCP: []gateway.TCPListener{
				{Address: "127.0.0.1:5432", Service: "federation.alpha", Caller: "spiffe://a.test", Port: "-"},
				{Address: "127.0.0.1:5432", Service: "Not A Name", Caller: workload},
				{Address: "10.0.0.1:1", Service: "web", Caller: "https://a.test/x"},
			},
			MTLS: []gateway.MTLSListener{
				{Address: "15001", Service: "web", ConsulService: "web"},
				{Address: "10.0.0.1:15001", Service: "federation.a", Port: "-", Identity: "consul", Callers: []policy.IDPattern{"web"}},
				{Address: "10.0.0.1:15009", Port: "main", Identity: "consul"},
				{Address: "10.0.0.1:15001", Service: "web", Identity: "spire", ALPN: []string{""}, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}},
			},
		},
		Consul: &gateway.Consul{Config: consulca.Config{Address: "10.0.0.1:8500"}, Service: "a.b"},
	}
	want := []string{
		"name", "advertise[0]", "advertise[1]", "listen.link", "listen.admin", "listen.control", "listen.control_advertise",
		"listen.http_caller", "listen.http_sources[0]",
		"listen.tcp[0].caller", "listen.tcp[0].service", "listen.tcp[0].port",
		"listen.tcp[1].service", "listen.tcp[1].address",
		"listen.tcp[2].caller", "listen.tcp[2].sources",
		"consul.scheme", "consul.service",
		"listen.mtls[0].address", "listen.mtls[0].consul_service",
		"listen.mtls[1].service", "listen.mtls[1].port", "listen.mtls[1].callers[0]",
		"listen.mtls[2].port", "listen.mtls[2].consul_service",
		"listen.mtls[3].address", "listen.mtls[3].sources[0]", "listen.mtls[3].identity", "listen.mtls[3].alpn[0]",
		"drain_timeout", "fail_back.hold", "fail_back.step", "fail_back.interval", "access_log",
		"limits.connections", "limits.connections_per_listener", "limits.streams",
	}
	if got := fields(bad); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	c := gateway.Config{Name: "gw1"}.WithDefaults()
	if c.Link != "0.0.0.0:7443" || c.Admin != "127.0.0.1:7481" || c.DrainTimeout != 30*time.Second || c.DataDir == "" ||
		route.RampOptions(c.FailBack) != route.DefaultRamp() || c.AccessLog != "all" || c.Limits.Streams != 50_000 {
		t.Errorf("%+v", c)
	}
	if !reflect.DeepEqual(c, c.WithDefaults()) {
		t.Error("defaults are not stable")
	}
}

// TestATakenPortIsAnErrorAtOnce and leaves nothing open.
func TestATakenPortIsAnErrorAtOnce(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ca := identitytest.NewCA("a.test")
	free, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = gateway.New(gateway.Options{
		Cluster: "alpha", Identity: ca.Source(ca.ID("/isthmus/cluster/alpha/gateway/gw1")), PacketConn: free,
		Config: gateway.Config{Name: "gw1", DataDir: t.TempDir(), Listen: gateway.Listen{
			Admin: taken.Addr().String(), Control: "127.0.0.1:0", HTTP: "127.0.0.1:0", HTTPCaller: workload,
		}},
	})
	if err == nil || !strings.Contains(err.Error(), "listen.admin") {
		t.Fatalf("got %v", err)
	}
	if _, err := free.WriteTo(nil, free.LocalAddr()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the link port is still open: %v", err)
	}
}
