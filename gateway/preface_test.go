package gateway_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/pires/go-proxyproto"
)

// TestABalancerSaysForWhomItConnects: the header is read and goes no further, what comes
// behind it does, and who may not connect cannot by a balancer, either.
func TestABalancerSaysForWhomItConnects(t *testing.T) {
	w := newWorld(t, "alpha", "beta")
	w.cluster("beta").host("echo", catalog.TCP, tcpServer(t, echo))
	near := w.cluster("alpha").gateway("gw1", "echo", "echo")
	loopback, ten := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")
	near.config.TCP[0].Sources = []netip.Prefix{ten}
	near.config.TCP[0].ProxyProtocol = &gateway.ProxyProtocol{From: []netip.Prefix{loopback}}
	near.config.TCP[1].ProxyProtocol = &gateway.ProxyProtocol{From: []netip.Prefix{ten}}
	w.cluster("beta").gateway("gw1")
	w.start()
	header := func(version byte, from string) string {
		h := proxyproto.HeaderProxyFromAddrs(version, &net.TCPAddr{IP: net.ParseIP(from), Port: 4000}, &net.TCPAddr{IP: net.ParseIP(from), Port: 1})
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	talk := func(way int, pieces ...string) (string, error) {
		c, err := net.Dial("tcp", near.Addrs().TCP[way].String())
		if err != nil {
			return "", err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		for _, p := range pieces {
			if _, err := io.WriteString(c, p); err != nil {
				return "", err
			}
			time.Sleep(20 * time.Millisecond) // a segment of its own
		}
		_ = c.(*net.TCPConn).CloseWrite()
		all, err := io.ReadAll(c)
		return string(all), err
	}
	good := header(2, "10.1.2.3")
	for _, pieces := range [][]string{{good + "hello"}, {good, "hello"}, {good[:7], good[7:20], good[20:] + "he", "llo"}, {"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00hello"}} {
		if got, err := talk(0, pieces...); got != "hello" || err != nil {
			t.Errorf("%q: %q, %v", pieces, got, err)
		}
	}
	for _, bad := range []string{header(2, "192.0.2.1") + "hello", header(1, "10.1.2.3") + "hello", "hello, I am no balancer at all"} {
		if got, err := talk(0, bad); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
	if n := near.metric("isthmus_gateway_refusals_total", "reason=proxy_protocol"); n != 3 {
		t.Errorf("%v are counted", n)
	}
	if got, err := talk(1, good+"hello"); got != "" || err == nil {
		t.Errorf("who is no balancer: %q, %v", got, err)
	}
	bad := gateway.Config{Name: "gw1", Listen: gateway.Listen{TCP: []gateway.TCPListener{
		{Address: "127.0.0.1:1", Service: "web", Caller: workload, ProxyProtocol: &gateway.ProxyProtocol{}},
		{Address: "127.0.0.1:2", Service: "web", Caller: workload, ProxyProtocol: &gateway.ProxyProtocol{From: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}},
	}}}
	if got := fields(bad); !slices.Equal(got, []string{"listen.tcp[0].proxy_protocol.from", "listen.tcp[1].proxy_protocol.from[0]"}) {
		t.Errorf("%q", got)
	}
}
