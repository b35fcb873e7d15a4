package dnsway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/gateway/dnsway"
)

// raw sends bytes over UDP and returns what comes back within a moment, nil if nothing
// does.
func (w *world) raw(packet []byte) []byte {
	w.t.Helper()
	c, err := net.Dial("udp", w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(packet); err != nil {
		w.t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	buffer := make([]byte, 64<<10)
	n, err := c.Read(buffer)
	if err != nil {
		return nil
	}
	return buffer[:n]
}

func pack(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLettersComeBackAsTheyWere: a resolver that mixes cases by chance (0x20) finds them
// again in question and answer.
func TestLettersComeBackAsTheyWere(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort)))
	want := w.address("db.shop.mesh.")
	for range 20 {
		name := strings.Map(func(r rune) rune {
			if rand.N(2) == 0 {
				return unicode.ToUpper(r)
			}
			return r
		}, "db.shop.mesh.")
		if got := w.ask(name, dns.TypeA); got != "NOERROR "+want.String() { // which compares the letters
			t.Fatalf("%s: %s", name, got)
		}
	}
	if got := w.ask("NoBody.Shop.Mesh.", dns.TypeA); got != "NXDOMAIN" {
		t.Error(got)
	}
}

func TestEDNS(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort)))
	plain := w.exchange("udp", query("db.shop.mesh.", dns.TypeA))
	if plain.IsEdns0() != nil {
		t.Error("an asker without EDNS gets an OPT record")
	}
	q := query("db.shop.mesh.", dns.TypeA)
	q.SetEdns0(4096, true)
	r := w.exchange("udp", q)
	if opt := r.IsEdns0(); opt == nil || opt.UDPSize() != 1232 || !opt.Do() || r.AuthenticatedData {
		t.Errorf("%v", r)
	}
	q.IsEdns0().SetVersion(1)
	if r := w.exchange("udp", q); r.Rcode != dns.RcodeBadVers || len(r.Answer) != 0 || r.IsEdns0() == nil {
		t.Errorf("version 1: %v", r)
	}
	q = query("db.shop.mesh.", dns.TypeA)
	q.SetEdns0(1232, false)
	q.SetEdns0(1232, false)
	if r := w.exchange("udp", q); r.Rcode != dns.RcodeFormatError {
		t.Errorf("two OPT records: %v", r)
	}
	q = query("db.shop.mesh.", dns.TypeA)
	q.SetEdns0(1232, false)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: []byte("x")})
	if r := w.exchange("udp", q); r.Rcode != dns.RcodeSuccess || len(r.IsEdns0().Option) != 0 {
		t.Errorf("an option that nobody knows: %v", r)
	}
	for _, class := range []uint16{dns.ClassCHAOS, dns.ClassANY, dns.ClassNONE} {
		q := query("db.shop.mesh.", dns.TypeA)
		q.Question[0].Qclass = class
		if r := w.exchange("udp", q); r.Rcode != dns.RcodeRefused {
			t.Errorf("class %d: %v", class, r)
		}
	}
}

func TestWhatIsNoQuery(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort)))
	good := pack(t, query("db.shop.mesh.", dns.TypeA))
	with := func(change func([]byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		return b
	}
	for name, packet := range map[string][]byte{
		"an answer": with(func(b []byte) { b[2] |= 0x80 }),
		"nothing":   {}, "a short header": good[:11], "noise": []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		if got := w.raw(packet); name != "noise" && got != nil {
			t.Errorf("%s is answered by %d bytes", name, len(got))
		}
	}
	for name, c := range map[string]struct {
		packet []byte
		rcode  int
	}{
		"a notification":    {with(func(b []byte) { b[2] |= dns.OpcodeNotify << 3 }), dns.RcodeNotImplemented},
		"an update":         {with(func(b []byte) { b[2] |= dns.OpcodeUpdate << 3 }), dns.RcodeNotImplemented},
		"no question":       {with(func(b []byte) { b[5] = 0 }), dns.RcodeFormatError},
		"two questions":     {with(func(b []byte) { b[5] = 2 }), dns.RcodeFormatError},
		"an answer section": {with(func(b []byte) { b[7] = 1 }), dns.RcodeFormatError},
		"many additionals":  {with(func(b []byte) { b[11] = 200 }), dns.RcodeFormatError},
		"a cut question":    {good[:len(good)-3], dns.RcodeFormatError},
		"a pointer loop":    {append(bytes.Clone(good[:12]), 0xC0, 12, 0, 1, 0, 1), dns.RcodeFormatError},
	} {
		got := w.raw(c.packet)
		m := new(dns.Msg)
		if err := m.Unpack(got); err != nil || m.Rcode != c.rcode || m.Id != binary.BigEndian.Uint16(good) || len(got) > len(c.packet)+12 {
			t.Errorf("%s: %d bytes, %v, %v", name, len(got), m.Rcode, err)
		}
	}
	if got := w.ask("db.shop.mesh.", dns.TypeA); !strings.HasPrefix(got, "NOERROR") {
		t.Error("it does not answer any more")
	}
}

func TestOverTCP(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort)))
	want := w.address("db.shop.mesh.")
	c, err := dns.Dial("tcp", w.at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 50 { // one connection
		if err := c.WriteMsg(query("db.shop.mesh.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		r, err := c.ReadMsg()
		if err != nil || r.Truncated || r.Answer[0].(*dns.A).A.String() != want.String() {
			t.Fatalf("%v, %v", r, err)
		}
	}
	// Half a length, and a length that is never followed: both are closed in time.
	for _, piece := range [][]byte{{0}, {0, 40, 1, 2}} {
		half, err := net.Dial("tcp", w.at)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = half.Write(piece)
		_ = half.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := half.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after %v: %v", piece, err)
		}
		_ = half.Close()
	}
}

// resolver is a real DNS server of other names.
func resolver(t *testing.T, handle dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	udp, tcp := sockets(t)
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait) // after the servers are shut down
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: handle}, {Listener: tcp, Handler: handle}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		wg.Go(func() { _ = s.ActivateAndServe() })
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return netip.MustParseAddrPort(udp.LocalAddr().String())
}

// texts answers with so many bytes of text.
func texts(n int) dns.HandlerFunc {
	return func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for range n / 100 {
			m.Answer = append(m.Answer, &dns.TXT{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}, Txt: []string{strings.Repeat("x", 88)},
			})
		}
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(opt.UDPSize(), false)
		}
		if rw.LocalAddr().Network() == "udp" {
			size := dns.MinMsgSize
			if opt := q.IsEdns0(); opt != nil {
				size = int(opt.UDPSize())
			}
			m.Truncate(size)
		}
		_ = rw.WriteMsg(m)
	}
}

func forwardingTo(upstreams ...netip.AddrPort) setting {
	return func(o *dnsway.Options) { o.Upstreams = upstreams }
}

func TestOtherNamesAreForwarded(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort)), forwardingTo(resolver(t, texts(3000))))
	r := w.exchange("udp", query("WWW.example.org.", dns.TypeTXT))
	r.Compress = true // as it was sent
	if !r.Truncated || r.Len() > 512 || !r.RecursionAvailable || r.Authoritative {
		t.Errorf("over UDP: %d bytes, %v", r.Len(), r.MsgHdr)
	}
	q := query("www.example.org.", dns.TypeTXT)
	q.SetEdns0(65000, false)
	r = w.exchange("udp", q)
	r.Compress = true
	if !r.Truncated || r.Len() > 1232 || len(r.Answer) < 5 {
		t.Errorf("over UDP with EDNS: %d bytes, %v", r.Len(), r.MsgHdr)
	}
	if r := w.exchange("tcp", query("www.example.org.", dns.TypeTXT)); r.Truncated || len(r.Answer) != 30 {
		t.Errorf("over TCP: %d answers, %v", len(r.Answer), r.MsgHdr)
	}
	if got := w.ask("db.shop.mesh.", dns.TypeA); !strings.HasPrefix(got, "NOERROR 127.77.") {
		t.Error(got)
	}
	if got := w.ask("nobody.shop.mesh.", dns.TypeA); got != "NXDOMAIN" { // and is asked nobody else
		t.Error(got)
	}
	q = query("www.example.org.", dns.TypeTXT)
	q.RecursionDesired = false
	if r := w.exchange("udp", q); r.Rcode != dns.RcodeRefused {
		t.Errorf("without recursion: %v", r.MsgHdr)
	}
	if n := w.count("isthmus_gateway_dns_forwards_total", "answered"); n != 3 {
		t.Errorf("%v were forwarded", n)
	}
}

func TestAResolverThatDoesNotHelp(t *testing.T) {
	fails := func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		_ = rw.WriteMsg(m.SetRcode(q, dns.RcodeServerFailure))
	}
	lies := func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Question[0].Name = "bank.example.org."
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "bank.example.org.", Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(6, 6, 6, 6)}}
		_ = rw.WriteMsg(m)
	}
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := netip.MustParseAddrPort(dead.LocalAddr().String())
	_ = dead.Close()
	good := resolver(t, texts(100))
	w := start(t, mesh(1), forwardingTo(gone, resolver(t, fails), resolver(t, lies), good))
	for range 3 {
		if r := w.exchange("udp", query("www.example.org.", dns.TypeTXT)); r.Rcode != dns.RcodeSuccess || len(r.Answer) != 1 {
			t.Fatalf("%v", r)
		}
	}
	none := start(t, mesh(1), forwardingTo(gone, resolver(t, lies)))
	q := query("www.example.org.", dns.TypeTXT)
	q.SetEdns0(1232, false)
	r := none.exchange("udp", q)
	if r.Rcode != dns.RcodeServerFailure || len(r.Answer) != 0 || !strings.Contains(r.IsEdns0().String(), "no resolver answers") {
		t.Errorf("%v", r)
	}
	if r := start(t, mesh(1), forwardingTo(resolver(t, fails))).exchange("udp", query("x.org.", dns.TypeA)); r.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", r)
	}
}

func TestARateForEachSource(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort)), func(o *dnsway.Options) { o.Rate = 10 })
	answered, told := 0, 0
	c := dns.Client{Timeout: 200 * time.Millisecond}
	for range 40 {
		r, _, err := c.ExchangeContext(context.Background(), query("db.shop.mesh.", dns.TypeA), w.at)
		switch {
		case err != nil:
		case r.Truncated && len(r.Answer) == 0:
			told++
		default:
			answered++
		}
	}
	if answered < 10 || told == 0 || answered+told > 38 {
		t.Errorf("%d answered, %d told to ask by TCP, of 40", answered, told)
	}
	if n := w.count("isthmus_gateway_dns_dropped_total", "rate_limit"); int(n) != 40-answered {
		t.Errorf("%v are counted, %d were not answered", n, 40-answered)
	}
}

func TestWhoIsNotOfTheSourcesHearsNothing(t *testing.T) {
	w := start(t, mesh(1, imported("db.shop", pgPort)), func(o *dnsway.Options) { o.Sources = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	bad := pack(t, query("db.shop.mesh.", dns.TypeA))
	bad[5] = 9 // would be a format error
	for _, packet := range [][]byte{pack(t, query("db.shop.mesh.", dns.TypeA)), bad} {
		if got := w.raw(packet); got != nil {
			t.Errorf("%d bytes", len(got))
		}
	}
	if n := w.count("isthmus_gateway_dns_dropped_total", "source_not_allowed"); n != 2 {
		t.Errorf("%v are counted", n)
	}
}

// FuzzQuery: whatever comes, the server answers it or not, in order, and goes on.
func FuzzQuery(f *testing.F) {
	for _, name := range []string{"db.shop.mesh.", "_http._tcp.web.shop.mesh.", "4.3.77.127.in-addr.arpa.", "mesh.", "."} {
		f.Add(pack(f, query(name, dns.TypeA)))
		f.Add(pack(f, query(name, dns.TypeSRV)))
		q := query(name, dns.TypePTR)
		q.SetEdns0(1, true)
		f.Add(pack(f, q))
	}
	f.Add(pack(f, query(strings.Repeat("1.", 32)+"ip6.arpa.", dns.TypePTR)))
	w := start(f, mesh(1, imported("db.shop", pgPort), service("web.shop", httpPort, grpcPort)), func(o *dnsway.Options) { o.Rate = 1_000_000 })
	f.Fuzz(func(t *testing.T, packet []byte) {
		q := new(dns.Msg)
		if q.Unpack(packet) != nil || len(q.Question) != 1 || q.Response || q.Opcode != dns.OpcodeQuery {
			return // the library's to refuse: TestWhatIsNoQuery
		}
		rw := &catcher{}
		w.ServeDNS(rw, q)
		if rw.m == nil {
			return // over the rate
		}
		packed, err := rw.m.Pack()
		if err != nil {
			t.Fatalf("%v cannot be answered: %v", q, err)
		}
		size := 512
		if opt := q.IsEdns0(); opt != nil {
			size = max(size, min(int(opt.UDPSize()), 1232))
		}
		if len(packed) > size || rw.m.Id != q.Id || rw.m.Question[0] != q.Question[0] {
			t.Fatalf("%d bytes, %v to %v", len(packed), rw.m, q)
		}
	})
}

// catcher takes an answer.
type catcher struct {
	dns.ResponseWriter
	m *dns.Msg
}

func (*catcher) RemoteAddr() net.Addr        { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }
func (c *catcher) WriteMsg(m *dns.Msg) error { c.m = m; return nil }
