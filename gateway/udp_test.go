package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway"
	"github.com/isthmus-mesh/isthmus/identity/identitytest"
)

// udpServer answers each datagram with what answer makes of it, until the test ends or stop
// is called.
func udpServer(t *testing.T, answer func(p []byte) [][]byte) (at netip.AddrPort, stop func()) {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			for _, a := range answer(bytes.Clone(buf[:n])) {
				_, _ = c.WriteToUDPAddrPort(a, from)
			}
		}
	})
	stop = func() { _ = c.Close(); wg.Wait() }
	t.Cleanup(stop)
	return c.LocalAddr().(*net.UDPAddr).AddrPort(), stop
}

func answers(name string) func(p []byte) [][]byte {
	return func(p []byte) [][]byte { return [][]byte{[]byte(name + ":" + string(p))} }
}

// hostUDP adds a service with one port of UDP, exported to all others.
func (c *cluster) hostUDP(service string, addresses ...netip.AddrPort) *cluster {
	tcp := make([]net.Addr, 0, len(addresses))
	for _, a := range addresses {
		tcp = append(tcp, net.TCPAddrFromAddrPort(a))
	}
	return c.host(service, catalog.UDP, tcp...)
}

func (n *node) listenUDP(service string, change ...func(*gateway.UDPListener)) *node {
	l := gateway.UDPListener{Address: "127.0.0.1:0", Service: service, Caller: n.cluster.caller()}
	for _, f := range change {
		f(&l)
	}
	n.config.UDP = append(n.config.UDP, l)
	return n
}

// client is a socket that speaks with a UDP way in.
type client struct {
	t *testing.T
	*net.UDPConn
}

func (n *node) udp(way int) *client {
	t := n.cluster.world.t
	t.Helper()
	return dialUDP(t, n.Addrs().UDP[way])
}

func dialUDP(t *testing.T, at netip.AddrPort) *client {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{t, c}
}

// ask sends p until there is an answer: UDP may lose any. The answer must be to p.
func (c *client) ask(p string) string {
	c.t.Helper()
	buf := make([]byte, 65536)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if _, err := c.Write([]byte(p)); err != nil {
			continue // ICMP's answer to one before
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			if got := string(buf[:n]); strings.HasSuffix(got, p) {
				return got
			}
		}
	}
	c.t.Fatalf("no answer to %.40q", p)
	return ""
}

// silent reports whether nothing answers for a while.
func (c *client) silent(p string) bool {
	_, _ = c.Write([]byte(p))
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, err := c.Read(make([]byte, 65536))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func udpWorld(t *testing.T, addresses ...netip.AddrPort) (w *world, near, far *node) {
	t.Helper()
	w = newWorld(t, "alpha", "beta")
	w.cluster("beta").hostUDP("echo", addresses...)
	near, far = w.cluster("alpha").gateway("gw"), w.cluster("beta").gateway("gw")
	near.config.DrainTimeout, far.config.DrainTimeout = time.Second, time.Second // flows are open at the end
	return w, near, far
}

// Datagrams of all sizes cross: what fits a QUIC datagram as one, all else on the stream.
func TestDatagramsOfAllSizes(t *testing.T) {
	at, _ := udpServer(t, func(p []byte) [][]byte { return [][]byte{p} })
	w, near, far := udpWorld(t, at)
	near.listenUDP("echo")
	w.start()
	c := near.udp(0)
	c.ask("first")
	for _, size := range []int{0, 1, 1150, 1200, 1250, 1252, 1300, 1452, 1500, 2048, 9000, 40000, 65507} {
		p := strings.Repeat("x", size)
		if got := c.ask(p); got != p {
			t.Errorf("%d bytes came back as %d", size, len(got))
		}
	}
	for _, path := range []string{"datagram", "stream"} {
		for _, n := range []*node{near, far} {
			for _, direction := range []string{"in", "out"} {
				if n.metric("isthmus_tunnel_datagrams_total", "path="+path, "direction="+direction) == 0 {
					t.Errorf("%s: no datagram went %s as %s", n.cluster.name, direction, path)
				}
			}
		}
	}
	if n := near.metric("isthmus_gateway_in_flight", "way=udp"); n != 1 {
		t.Errorf("%v flows of one socket", n)
	}
	if n := far.metric("isthmus_gateway_payload_bytes_total", "way=flow", "service=echo.default", "direction=sent"); n < 100_000 {
		t.Errorf("%v bytes were counted at the far end", n)
	}
	if n := near.metric("isthmus_gateway_datagrams_total", "way=udp", "direction=received"); n < 14 {
		t.Errorf("%v datagrams were counted", n)
	}
}

// A real DNS server, also with answers that no path carries in one packet.
func TestDNSOverUDPAcrossClusters(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan struct{}), make(chan struct{})
	s := &dns.Server{PacketConn: c, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		for i := range 8 {
			r.Answer = append(r.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1},
				Txt: []string{fmt.Sprintf("%d", i) + strings.Repeat("t", 240)},
			})
			if strings.HasPrefix(q.Question[0].Name, "small.") {
				break
			}
		}
		_ = w.WriteMsg(r)
	})}
	go func() { defer close(ended); _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown(); <-ended })
	w, near, far := udpWorld(t, c.LocalAddr().(*net.UDPAddr).AddrPort())
	near.listenUDP("echo")
	w.start()
	resolver := &dns.Client{Net: "udp", Timeout: 2 * time.Second, UDPSize: 4096}
	for name, want := range map[string]int{"small.example.": 1, "large.example.": 8} {
		q := new(dns.Msg).SetQuestion(name, dns.TypeTXT).SetEdns0(4096, false)
		var r *dns.Msg
		eventually(t, name, func() (err error) {
			r, _, err = resolver.Exchange(q, near.Addrs().UDP[0].String())
			return err
		})
		if len(r.Answer) != want || r.Truncated {
			t.Errorf("%s: %d records, truncated %v", name, len(r.Answer), r.Truncated)
		}
	}
	if far.metric("isthmus_tunnel_datagrams_total", "direction=out", "path=stream") == 0 {
		t.Error("an answer of 2 kB went as a QUIC datagram")
	}
}

// HTTP/3 to a server in another cluster: QUIC through QUIC, with packets that are as large as
// the path may be.
func TestHTTP3AcrossClusters(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ca := identitytest.NewCA("beta.test")
	svid := ca.SVID(ca.ID("/server"))
	certificate := tls.Certificate{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}
	server := &http3.Server{
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}}),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		}),
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(conn) }()
	t.Cleanup(func() { _ = server.Close(); _ = conn.Close(); <-served })
	w, near, far := udpWorld(t, conn.LocalAddr().(*net.UDPAddr).AddrPort())
	near.listenUDP("echo")
	w.start()
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: 20 * time.Second},
		Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddrEarly(ctx, near.Addrs().UDP[0].String(), c, q)
		},
	}
	defer transport.Close()
	body := strings.Repeat("0123456789abcdef", 1<<14) // 256 KiB
	for range 4 {
		resp, err := (&http.Client{Transport: transport, Timeout: 60 * time.Second}).Post("https://echo.default/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(got) != body || resp.ProtoMajor != 3 {
			t.Fatalf("%s, %d bytes, %v", resp.Proto, len(got), err)
		}
	}
	for _, path := range []string{"datagram", "stream"} {
		t.Logf("figure: HTTP/3 through a UDP service, packets to the server by %s: %v", path, near.metric("isthmus_tunnel_datagrams_total", "direction=out", "path="+path))
	}
	if far.metric("isthmus_tunnel_datagrams_total", "direction=in", "path=datagram") == 0 {
		t.Error("nothing went as QUIC datagrams")
	}
}

// Whoever may not call gets no answer, and a change of mind ends what is open.
func TestFlowsAreJudged(t *testing.T) {
	at, _ := udpServer(t, answers("beta"))
	w, near, far := udpWorld(t, at)
	near.listenUDP("echo").listenUDP("echo", func(l *gateway.UDPListener) { l.Caller = "spiffe://alpha.test/stranger" })
	w.cluster("beta").rules = policy.Intentions{
		{Name: "not-strangers", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://alpha.test/stranger"}, Action: policy.Deny},
		{Name: "all", Services: []policy.ServicePattern{"*"}, Callers: []policy.IDPattern{"spiffe://alpha.test/*"}, Action: policy.Allow},
	}
	w.start()
	c := near.udp(0)
	c.ask("mine")
	if stranger := near.udp(1); !stranger.silent("let me in") {
		t.Error("a stranger was answered")
	}
	eventually(t, "the refusal to be counted", func() error {
		if near.metric("isthmus_gateway_requests_total", "way=udp", "reason=denied") == 0 || far.metric("isthmus_gateway_requests_total", "way=flow", "reason=denied_by_intention") == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	// The export is taken back: the flow ends.
	w.cluster("beta").services[0].ExportedTo = nil
	w.push()
	eventually(t, "the flow to end", func() error {
		if !c.silent("still there?") {
			return errors.New("it is answered")
		}
		return nil
	})
}

// A flow that its endpoint refused, before or after it had answered, goes to another.
func TestFlowsOfADeadEndpoint(t *testing.T) {
	one, stopOne := udpServer(t, answers("one"))
	two, stopTwo := udpServer(t, answers("two"))
	w, near, far := udpWorld(t, one, two)
	near.listenUDP("echo")
	w.start()
	c := near.udp(0)
	first, _, _ := strings.Cut(c.ask("a"), ":")
	if again := c.ask("b"); again != first+":b" {
		t.Errorf("a flow moved from %s: %s", first, again)
	}
	if first == "one" {
		stopOne()
	} else {
		stopTwo()
	}
	if got, _, _ := strings.Cut(c.ask("c"), ":"); got == first {
		t.Errorf("%s answers after its end", got)
	}
	if far.metric("isthmus_gateway_requests_total", "way=flow", "reason=refused") == 0 {
		t.Error("the end of the first flow has no reason")
	}
	// New flows: those that meet the dead one are sent to the other with what they have said.
	lost := 0
	for range 8 {
		d := near.udp(0)
		if _, err := d.Write([]byte("once")); err != nil {
			t.Fatal(err)
		}
		_ = d.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 100)
		if n, err := d.Read(buf); err != nil || !strings.HasSuffix(string(buf[:n]), ":once") {
			t.Logf("%q, %v", buf[:n], err)
			lost++
		}
	}
	if lost > 1 { // UDP may lose any
		t.Errorf("%d of 8 flows were not answered", lost)
	}
}

// When the link or the whole cluster dies, the next datagram is another flow.
func TestFlowsOfADeadCluster(t *testing.T) {
	beta, _ := udpServer(t, answers("beta"))
	gamma, _ := udpServer(t, answers("gamma"))
	w := newWorld(t, "alpha", "beta", "gamma")
	near := w.cluster("alpha").gateway("gw").listenUDP("echo")
	w.cluster("beta").hostUDP("echo", beta).gateway("gw")
	w.cluster("gamma").hostUDP("echo", gamma).gateway("gw")
	w.cluster("alpha").traffic = map[string]*policy.Traffic{"echo": {
		Name: "order", Services: []policy.ServicePattern{"echo.default"}, Clusters: []catalog.ClusterName{"beta", "gamma"},
	}}
	w.start()
	var c *client
	eventually(t, "a flow to beta", func() error { // the first may have met a link that was slow to come
		c = near.udp(0)
		if got := c.ask("a"); got != "beta:a" {
			return errors.New(got)
		}
		return nil
	})
	w.cluster("beta").gateways[0].kill()
	if got := c.ask("b"); got != "gamma:b" {
		t.Error(got)
	}
	if near.metric("isthmus_gateway_requests_total", "way=udp", "cluster=beta", "reason=link_dead") == 0 {
		t.Error("the end of the first flow has no reason")
	}
}

// Flows to endpoints of the own cluster, and what becomes of TCP that meets a port of UDP.
func TestFlowsWithinACluster(t *testing.T) {
	at, _ := udpServer(t, answers("alpha"))
	w := newWorld(t, "alpha", "beta")
	w.cluster("alpha").hostUDP("echo", at)
	near := w.cluster("alpha").gateway("gw", "echo").listenUDP("echo")
	far := w.cluster("beta").gateway("gw", "echo")
	w.start()
	if got := near.udp(0).ask("a"); got != "alpha:a" {
		t.Error(got)
	}
	for _, n := range []*node{near, far} {
		if err := n.refusal(0); err == nil {
			t.Errorf("%s: a connection to a port of UDP was taken", n.cluster.name)
		}
		if n.metric("isthmus_gateway_requests_total", "way=tcp", "reason=unknown_port") != 1 {
			t.Errorf("%s: it has no reason", n.cluster.name)
		}
	}
}

// A name of the mesh is all that a client of a UDP service needs.
func TestUDPByName(t *testing.T) {
	at, _ := udpServer(t, answers("beta"))
	w, near, far := udpWorld(t, at)
	_ = far
	number := freeUDP(t)
	near.config.DNS = &gateway.DNS{Address: "127.0.0.1:0", Caller: near.cluster.caller()}
	near.config.Ports = []gateway.PortNumber{{Number: number, Port: "main"}}
	w.start()
	_, srv, err := near.resolver("udp").LookupSRV(t.Context(), "main", "udp", "echo.default.mesh")
	if err != nil || len(srv) != 1 || srv[0].Port != number {
		t.Fatalf("%v, %v", srv, err)
	}
	hosts, err := near.resolver("udp").LookupHost(t.Context(), "echo.default.mesh")
	if err != nil {
		t.Fatal(err)
	}
	if got := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr(hosts[0]), number)).ask("a"); got != "beta:a" {
		t.Error(got)
	}
}

func freeUDP(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

// A gateway that goes ends its flows when they are quiet, and cuts nothing before.
func TestFlowsEndWithTheirGateway(t *testing.T) {
	at, _ := udpServer(t, answers("beta"))
	w, near, _ := udpWorld(t, at)
	near.config.DrainTimeout = time.Minute
	near.listenUDP("echo")
	w.start()
	c := near.udp(0)
	c.ask("a")
	ended := make(chan error, 1)
	near.cancel()
	go func() { ended <- <-near.done }()
	eventually(t, "the drain to begin", func() error {
		if near.metric("isthmus_gateway_ready") != 0 {
			return errors.New("it has not")
		}
		return nil
	})
	if got := c.ask("b"); got != "beta:b" {
		t.Error(got)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("a quiet flow keeps the gateway")
	}
	near.done, near.conn = nil, nil
}

// What a call that was kept says of a flow, and that a service's plan is explained as any.
func TestFlowsAreExplained(t *testing.T) {
	at, _ := udpServer(t, answers("beta"))
	w, near, _ := udpWorld(t, at)
	var share float64 = 1
	near.config.Explain.Share = &share
	near.listenUDP("echo", func(l *gateway.UDPListener) { l.IdleTimeout = time.Second })
	w.start()
	near.udp(0).ask("a")
	eventually(t, "the flow to be idle", func() error {
		if near.metric("isthmus_gateway_in_flight", "way=udp") != 0 {
			return errors.New("it is open")
		}
		return nil
	})
	_, body := near.admin("/debug/explain?service=echo")
	if !bytes.Contains(body, []byte(`"beta"`)) {
		t.Errorf("%s", body)
	}
	if near.metric("isthmus_gateway_requests_total", "way=udp", "cluster=beta", "reason=ok") != 1 {
		t.Error("an idle flow has not ended well")
	}
}
