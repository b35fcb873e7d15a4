package dns_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/dns"
)

// server is a real DNS server on UDP and TCP, with faults.
type server struct {
	t    *testing.T
	addr string

	mu    sync.Mutex
	zone  map[string][]miekg.RR
	names map[string]bool // that exist, with records or without
	fault func(m, answer *miekg.Msg, tcp bool) *miekg.Msg
	asked map[string]int
	tcp   int
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, zone: map[string][]miekg.RR{}, names: map[string]bool{}, asked: map[string]int{}}
	var udp net.PacketConn
	var tcp net.Listener
	var err error
	for range 20 { // the same port on both
		if udp, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			break
		}
		_ = udp.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.addr = udp.LocalAddr().String()
	for _, srv := range []*miekg.Server{{PacketConn: udp, Handler: s.handler(false)}, {Listener: tcp, Handler: s.handler(true)}} {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		done := make(chan error, 1)
		go func() { done <- srv.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = srv.Shutdown()
			<-done
		})
	}
	return s
}

// set makes it hold exactly these records; a record of type TXT says only that a
// name exists.
func (s *server) set(records ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone, s.names, s.fault = map[string][]miekg.RR{}, map[string]bool{}, nil
	for _, text := range records {
		rr, err := miekg.NewRR(text)
		if err != nil {
			s.t.Fatal(err)
		}
		name := miekg.CanonicalName(rr.Header().Name)
		s.names[name] = true
		s.zone[name] = append(s.zone[name], rr)
	}
}

// spoil changes answers; nil gives none.
func (s *server) spoil(f func(m, answer *miekg.Msg, tcp bool) *miekg.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *server) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[miekg.CanonicalName(name)]
}

func (s *server) handler(tcp bool) miekg.Handler {
	return miekg.HandlerFunc(func(w miekg.ResponseWriter, m *miekg.Msg) {
		answer := s.answer(m, tcp)
		if answer == nil {
			return
		}
		if opt := m.IsEdns0(); !tcp && answer.Rcode == miekg.RcodeSuccess {
			size := 512
			if opt != nil {
				size = int(opt.UDPSize())
			}
			answer.Truncate(size)
		}
		_ = w.WriteMsg(answer)
	})
}

func (s *server) answer(m *miekg.Msg, tcp bool) *miekg.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tcp {
		s.tcp++
	}
	q := m.Question[0]
	name := miekg.CanonicalName(q.Name)
	s.asked[name]++
	r := new(miekg.Msg).SetReply(m)
	r.RecursionAvailable = true
	if m.IsEdns0() != nil {
		r.SetEdns0(4096, false)
	}
	for range 20 {
		next := ""
		for _, rr := range s.zone[name] {
			switch c, alias := rr.(*miekg.CNAME); {
			case rr.Header().Rrtype == q.Qtype:
				r.Answer = append(r.Answer, rr)
			case alias:
				r.Answer = append(r.Answer, rr)
				next = miekg.CanonicalName(c.Target)
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if !s.names[name] {
		r.Rcode = miekg.RcodeNameError
	}
	if len(r.Answer) == 0 || r.Rcode == miekg.RcodeNameError {
		soa, _ := miekg.NewRR("test. 60 IN SOA ns.test. root.test. 1 60 60 60 30")
		r.Ns = append(r.Ns, soa)
	}
	if s.fault != nil {
		return s.fault(m, r, tcp)
	}
	return r
}

// code makes every answer that code.
func code(rcode int) func(m, r *miekg.Msg, tcp bool) *miekg.Msg {
	return func(m, _ *miekg.Msg, _ bool) *miekg.Msg { return new(miekg.Msg).SetRcode(m, rcode) }
}

// silence gives no answer.
func silence(_, _ *miekg.Msg, _ bool) *miekg.Msg { return nil }

func config(servers ...*server) dns.Config {
	c := dns.Config{Timeout: 300 * time.Millisecond, MinTTL: 100 * time.Millisecond, MaxTTL: 200 * time.Millisecond}
	for _, s := range servers {
		c.Resolvers = append(c.Resolvers, s.addr)
	}
	return c
}

func newSource(t *testing.T, c dns.Config) *dns.Source {
	t.Helper()
	s, err := dns.New(dns.Options{Name: "names", Config: c, Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// srvRecords are SRV records of a service with hosts for the addresses.
func srvRecords(service string, addresses []string) []string {
	var out []string
	for _, a := range addresses {
		at := netip.MustParseAddrPort(a)
		host := "h" + strings.ReplaceAll(at.Addr().String(), ".", "-") + ".test."
		out = append(out, fmt.Sprintf("_x._tcp.%s.test. 0 IN SRV 1 1 %d %s", service, at.Port(), host), host+" 0 IN A "+at.Addr().String())
	}
	return out
}
