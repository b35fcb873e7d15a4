package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// named gives a node a DNS way, with a number for the ports named main.
func named(n *node, number uint16, prefix string) {
	n.config.DNS = &gateway.DNS{
		Address: "127.0.0.1:0", Caller: n.cluster.caller(),
		Virtual: gateway.Virtual{Range: prefix},
	}
	n.config.Ports = []gateway.PortNumber{{Number: number, Port: "main"}}
}

// resolver is Go's own, asking a node.
func (n *node) resolver(network string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, n.Addrs().DNS.String())
	}}
}

// number is a port that is free on every address of loopback.
func number(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// TestAnApplicationNeedsNothingButAName: names of a service in another cluster, in both,
// and pinned, by Go's resolver over UDP and TCP; HTTP and a protocol where the server
// speaks first; and the drain.
func TestAnApplicationNeedsNothingButAName(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	alpha, beta := w.cluster("alpha"), w.cluster("beta")
	beta.host("billing", catalog.HTTP, httpServer(t, who("billing")))
	banner := func(from string) net.Addr {
		return tcpServer(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, "from "+from) })
	}
	beta.host("db", catalog.TCP, banner("beta"))
	alpha.host("db", catalog.TCP, banner("alpha"))
	alpha.host("secret", catalog.TCP, banner("secret"))
	alpha.rules = append([]policy.Intention{{
		Name: "closed", Services: []policy.ServicePattern{"secret.default"}, Callers: []policy.IDPattern{"spiffe://alpha.test/*"}, Action: policy.Deny,
	}}, alpha.rules...)
	port := number(t)
	near := alpha.gateway("gw1")
	named(near, port, "127.78.0.0/16")
	beta.gateway("gw1")
	w.start()

	lookup := func(network, name string) netip.Addr {
		t.Helper()
		addrs, err := near.resolver(network).LookupNetIP(t.Context(), "ip", name)
		if err != nil || len(addrs) != 1 || !netip.MustParsePrefix("127.78.0.0/16").Contains(addrs[0].Unmap()) {
			t.Fatalf("%s over %s: %v, %v", name, network, addrs, err)
		}
		return addrs[0].Unmap()
	}
	read := func(name string) (string, error) {
		c, err := net.Dial("tcp", netip.AddrPortFrom(lookup("udp", name), port).String())
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		all, err := io.ReadAll(c)
		return string(all), err
	}
	for name, want := range map[string]string{
		"db.default.mesh": "from alpha", "db.default.alpha.mesh": "from alpha", "db.default.beta.mesh": "from beta",
	} {
		if got, err := read(name); got != want || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if lookup("tcp", "db.default.mesh") != lookup("udp", "db.default.mesh") {
		t.Error("TCP and UDP differ")
	}
	_, srv, err := near.resolver("udp").LookupSRV(t.Context(), "main", "tcp", "db.default.mesh")
	if err != nil || len(srv) != 1 || srv[0].Port != port || srv[0].Target != "db.default.mesh." {
		t.Errorf("%v, %v", srv, err)
	}
	names, err := near.resolver("udp").LookupAddr(t.Context(), lookup("udp", "db.default.mesh").String())
	if err != nil || len(names) != 1 || names[0] != "db.default.mesh." {
		t.Errorf("%v, %v", names, err)
	}
	for _, hidden := range []string{"secret.default.mesh", "nobody.default.mesh"} {
		if a, err := near.resolver("udp").LookupHost(t.Context(), hidden); err == nil || !strings.Contains(err.Error(), "no such host") {
			t.Errorf("%s: %v, %v", hidden, a, err)
		}
	}
	// An HTTP client with nothing but that resolver, and the name in the URL.
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&net.Dialer{Resolver: near.resolver("udp")}).DialContext(ctx, network, address)
	}}}
	resp, err := client.Get("http://" + net.JoinHostPort("billing.default.mesh", strconv.Itoa(int(port))))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.Contains(parse(t, string(body)).Fields.Get("X-Forwarded-Client-Cert"), alpha.caller()) {
		t.Errorf("%d, %s", resp.StatusCode, body)
	}
	if n := near.metric("isthmus_gateway_virtual_listeners"); n != 4 {
		t.Errorf("%v listeners, want those of the four names", n)
	}
	at := netip.AddrPortFrom(lookup("udp", "db.default.mesh"), port)
	near.stop()
	if _, err := net.Dial("tcp", at.String()); err == nil {
		t.Error("after the stop it is listened on")
	}
	// It comes back with its addresses, before anybody asks.
	near.boot()
	w.push()
	near.waitLinked()
	eventually(t, "the address comes back", func() error {
		c, err := net.Dial("tcp", at.String())
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

func TestEveryProblemOfTheDNSWayIsTold(t *testing.T) {
	with := func(d gateway.DNS) gateway.Config {
		return gateway.Config{Name: "gw1", Listen: gateway.Listen{DNS: &d}}
	}
	good := gateway.DNS{
		Address: "10.0.0.5:53", Caller: workload, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, TTL: time.Minute,
		Upstreams: []string{"10.0.0.2", "[fd00::1]:5353"}, Rate: 10,
		Virtual: gateway.Virtual{Range: "198.18.0.0/15"},
	}
	if err := with(good).Validate(); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	if err := with(gateway.DNS{Address: "127.0.0.1:53", Caller: workload}).Validate(); err != nil {
		t.Fatalf("the least: %v", err)
	}
	for _, c := range []struct {
		dns  gateway.DNS
		want []string
	}{
		{gateway.DNS{}, []string{"listen.dns.address", "listen.dns.caller"}},
		{gateway.DNS{
			Address: "0.0.0.0:53", Caller: "web", TTL: time.Millisecond, Rate: -1, Upstreams: []string{"dns.example.org", "127.0.0.1"},
			Virtual: gateway.Virtual{Range: "127.0.0.0/8", Retain: -1},
		}, []string{
			"listen.dns.caller", "listen.dns.sources", "listen.dns.ttl", "listen.dns.upstreams[0]", "listen.dns.upstreams[1]", "listen.dns.queries_per_second",
			"listen.dns.virtual.range", "listen.admin", "listen.control", "listen.dns.virtual.retain",
		}},
		{gateway.DNS{Address: "127.0.0.1:53", Caller: workload, Virtual: gateway.Virtual{Range: "198.18.0.0/15"}}, []string{"listen.dns.sources"}},
		{gateway.DNS{Address: "127.77.0.1:53", Caller: workload, Virtual: gateway.Virtual{Range: "127.77.0.0/16"}}, []string{"listen.dns.address"}},
		{gateway.DNS{Address: "127.0.0.1:53", Caller: workload, Upstreams: make([]string, 9), Virtual: gateway.Virtual{Range: "x"}}, []string{"listen.dns.upstreams", "listen.dns.virtual.range"}},
	} {
		got := slices.DeleteFunc(fields(with(c.dns)), func(f string) bool { return strings.HasPrefix(f, "listen.dns.upstreams[") && len(c.dns.Upstreams) > 8 })
		if !slices.Equal(got, c.want) {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestEveryProblemOfTheProxyWayIsTold(t *testing.T) {
	good := gateway.Config{Name: "gw1", Listen: gateway.Listen{
		Proxy: []gateway.ProxyListener{
			{Address: "127.0.0.1:1080", Caller: workload},
			{Address: "10.0.0.5:1080", Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Users: []gateway.ProxyUser{
				{Name: "ci", PasswordFile: "/etc/ci", Caller: workload}, {Name: "web", PasswordFile: "/etc/web", Caller: workload},
			}},
		},
		Ports: []gateway.PortNumber{{Number: 80}, {Number: 5432, Port: "postgres", Services: []policy.ServicePattern{"*.shop", "db.default"}}},
	}}
	if err := good.Validate(); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	bad := gateway.Config{Name: "gw1", Listen: gateway.Listen{
		Proxy: []gateway.ProxyListener{
			{Address: "127.0.0.1:1080"},
			{Address: "127.0.0.1:1080", Caller: workload, Users: []gateway.ProxyUser{{Name: "a:b", Caller: workload}, {Name: "a:b", PasswordFile: "x", Caller: "web"}}},
			{Address: "10.0.0.5:1080", Users: []gateway.ProxyUser{{Name: "ci", PasswordFile: "x", Caller: workload}}},
		},
		Ports: []gateway.PortNumber{{Port: "-"}, {Number: 1, Services: []policy.ServicePattern{"web", "a.b.c"}}},
	}}
	want := []string{
		"listen.proxy[0].caller", "listen.proxy[1].caller", "listen.proxy[1].users[0].name", "listen.proxy[1].users[0].password_file",
		"listen.proxy[1].users[1].name", "listen.proxy[1].users[1].name", "listen.proxy[1].users[1].caller", "listen.proxy[1].address", "listen.proxy[2].sources",
		"listen.ports[0].number", "listen.ports[0].port", "listen.ports[1].services[0]", "listen.ports[1].services[1]",
	}
	if got := fields(bad); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	ca := identitytest.NewCA("a.test")
	_, err := gateway.New(gateway.Options{Cluster: "alpha", Identity: ca.Source(ca.ID("/x")), Config: gateway.Config{
		Name: "gw1", DataDir: t.TempDir(), Listen: gateway.Listen{
			Link: "127.0.0.1:0", Admin: "127.0.0.1:0", Control: "127.0.0.1:0",
			Proxy: []gateway.ProxyListener{{Address: "127.0.0.1:0", Users: []gateway.ProxyUser{{Name: "ci", PasswordFile: "/nowhere", Caller: workload}}}},
		},
	}})
	if err == nil || !strings.Contains(err.Error(), "listen.proxy[0].users[0].password_file") {
		t.Errorf("a password that is not there: %v", err)
	}
}
