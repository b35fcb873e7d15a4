package dns_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	miekg "github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/dns"
)

func TestContract(t *testing.T) {
	for _, kind := range []string{"srv", "host"} {
		t.Run(kind, func(t *testing.T) {
			discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
				s := newServer(t)
				c := config(s)
				for i, name := range []string{"web", "billing", "orders"} {
					e := dns.Service{Service: catalog.MustServiceName(name)}
					if kind == "srv" {
						e.SRV = "_x._tcp." + name + ".test"
					} else {
						e.Host, e.Port = name+".test", uint16(80+i)
					}
					c.Services = append(c.Services, e)
				}
				set := func(content discoverytest.Content) {
					var records []string
					for name, addresses := range content {
						if kind == "srv" {
							records = append(records, srvRecords(name, addresses)...)
							continue
						}
						for _, a := range addresses {
							records = append(records, fmt.Sprintf("%s.test. 0 IN A %s", name, netip.MustParseAddrPort(a).Addr()))
						}
					}
					s.set(records...)
				}
				return discoverytest.Backend{
					Source: newSource(t, c), Set: set, PerService: true,
					Fail: func(on bool) {
						if on {
							s.spoil(code(miekg.RcodeServerFailure))
						} else {
							s.spoil(nil)
						}
					},
					Cut: func(content discoverytest.Content) {
						set(content)
						s.spoil(func(m, r *miekg.Msg, tcp bool) *miekg.Msg { // cut, and nothing over TCP
							if tcp {
								return nil
							}
							r.Truncated, r.Answer = true, r.Answer[:len(r.Answer)/2]
							return r
						})
					},
				}
			})
		})
	}
}

// What kinds of answers mean, for one name.
func TestAnswers(t *testing.T) {
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("many.test. 60 IN A 10.9.%d.%d", i/200, i%200+1))
	}
	long := []string{"end.test. 60 IN A 10.0.0.9"}
	for i := range 12 {
		next := fmt.Sprintf("c%d.test.", i+1)
		if i == 11 {
			next = "end.test."
		}
		long = append(long, fmt.Sprintf("c%d.test. 60 IN CNAME %s", i, next))
	}
	host := func(name string) dns.Service { return dns.Service{Host: name, Port: 80} }
	for _, c := range []struct {
		name    string
		records []string
		spoil   func(m, r *miekg.Msg, tcp bool) *miekg.Msg
		service dns.Service
		want    []string
		exists  bool
		fails   string
	}{
		{name: "both families", records: []string{"a.test. 60 IN A 10.0.0.1", "a.test. 60 IN AAAA 2001:db8::1"}, service: host("a.test"), want: []string{"10.0.0.1:80", "[2001:db8::1]:80"}, exists: true},
		{name: "one family", records: []string{"a.test. 60 IN A 10.0.0.1", "a.test. 60 IN AAAA 2001:db8::1"}, service: dns.Service{Host: "a.test", Port: 80, Family: dns.IPv6}, want: []string{"[2001:db8::1]:80"}, exists: true},
		{name: "a name without addresses", records: []string{"a.test. 60 IN TXT x"}, service: host("a.test"), exists: true},
		{name: "no such name", service: host("a.test")},
		{name: "an alias", records: []string{"a.test. 60 IN CNAME B.test.", "b.test. 60 IN A 10.0.0.1"}, service: host("A.TEST."), want: []string{"10.0.0.1:80"}, exists: true},
		{name: "an alias of nothing", records: []string{"a.test. 60 IN CNAME b.test."}, service: host("a.test")},
		{
			name: "an alias that the resolver does not follow", records: []string{"a.test. 60 IN CNAME b.test.", "b.test. 60 IN CNAME c.test.", "c.test. 60 IN A 10.0.0.1"}, service: host("a.test"),
			spoil: func(_, r *miekg.Msg, _ bool) *miekg.Msg { r.Answer = r.Answer[:min(1, len(r.Answer))]; return r }, want: []string{"10.0.0.1:80"}, exists: true,
		},
		{name: "aliases in a circle", records: []string{"a.test. 60 IN CNAME b.test.", "b.test. 60 IN CNAME a.test."}, service: host("a.test"), fails: "circle"},
		{name: "too many aliases", records: long, service: host("c0.test"), fails: "aliases"},
		{name: "more than UDP takes", records: many, service: dns.Service{Host: "many.test", Port: 80, Family: dns.IPv4}, want: make([]string, 300), exists: true},
		{name: "SERVFAIL", spoil: code(miekg.RcodeServerFailure), service: host("a.test"), fails: "SERVFAIL"},
		{name: "REFUSED", spoil: code(miekg.RcodeRefused), service: host("a.test"), fails: "REFUSED"},
		{name: "silence", spoil: silence, service: host("a.test"), fails: "timeout"},
		{
			name: "no EDNS0 there", records: []string{"a.test. 60 IN A 10.0.0.1"}, service: host("a.test"), want: []string{"10.0.0.1:80"}, exists: true,
			spoil: func(m, r *miekg.Msg, _ bool) *miekg.Msg {
				if m.IsEdns0() != nil {
					return new(miekg.Msg).SetRcode(m, miekg.RcodeFormatError)
				}
				return r
			},
		},
		{
			name: "the answer to another question", records: []string{"a.test. 60 IN A 10.0.0.1"}, service: host("a.test"), fails: "another question",
			spoil: func(_, r *miekg.Msg, _ bool) *miekg.Msg { r.Question[0].Name = "b.test."; return r },
		},
		{
			name: "records of another name", records: []string{"a.test. 60 IN A 10.0.0.1"}, service: host("a.test"), exists: true,
			spoil: func(_, r *miekg.Msg, _ bool) *miekg.Msg {
				for i := range r.Answer {
					r.Answer[i] = miekg.Copy(r.Answer[i])
					r.Answer[i].Header().Name = "evil.test."
				}
				return r
			},
		},
		{name: "one family fails", records: []string{"a.test. 60 IN A 10.0.0.1"}, service: host("a.test"), fails: "SERVFAIL", spoil: func(m, r *miekg.Msg, tcp bool) *miekg.Msg {
			if m.Question[0].Qtype == miekg.TypeAAAA {
				return code(miekg.RcodeServerFailure)(m, r, tcp)
			}
			return r
		}},
		{name: "SRV without a service", records: []string{"s.test. 60 IN SRV 0 0 0 ."}, service: dns.Service{SRV: "s.test"}, exists: true},
		{name: "SRV of a host that is gone", records: []string{"s.test. 60 IN SRV 0 0 1 gone.test.", "s.test. 60 IN SRV 0 0 0 h.test.", "s.test. 60 IN SRV 0 0 2 h.test.", "h.test. 60 IN A 10.0.0.1"}, service: dns.Service{SRV: "s.test"}, want: []string{"10.0.0.1:2"}, exists: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			s.set(c.records...)
			s.spoil(c.spoil)
			cfg := config(s)
			c.service.Service = catalog.MustServiceName("x")
			cfg.Services = []dns.Service{c.service}
			got, exists, err := newSource(t, cfg).Resolve(t.Context(), cfg.WithDefaults().Services[0])
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("want a failure with %q, got %v, %v", c.fails, got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if exists != c.exists {
				t.Errorf("exists: %v", exists)
			}
			if len(c.want) == 300 {
				if len(got) != 300 || s.tcp == 0 {
					t.Errorf("%d addresses, %d queries over TCP", len(got), s.tcp)
				}
				return
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// One answer of a kind times another is bounded, too: 64 KiB of SRV records that all
// name a host of 64 KiB of addresses would be millions of endpoints.
func TestRecordsTimesAddresses(t *testing.T) {
	config := dns.Config{Resolvers: []string{"192.0.2.1"}, Services: []dns.Service{{Service: catalog.MustServiceName("web"), SRV: "web.test"}}}
	s, err := dns.New(dns.Options{Name: "dns", Config: config})
	if err != nil {
		t.Fatal(err)
	}
	const records, addresses = 3000, 4000
	s.SetExchange(func(_ context.Context, _ string, m *miekg.Msg, _ bool) (*miekg.Msg, error) {
		r := new(miekg.Msg).SetReply(m)
		h := miekg.RR_Header{Name: m.Question[0].Name, Rrtype: m.Question[0].Qtype, Class: miekg.ClassINET, Ttl: 60}
		switch h.Rrtype {
		case miekg.TypeSRV:
			for i := range records {
				r.Answer = append(r.Answer, &miekg.SRV{Hdr: h, Port: uint16(i + 1), Target: "a."})
			}
		case miekg.TypeA:
			for i := range addresses {
				r.Answer = append(r.Answer, &miekg.A{Hdr: h, A: net.IPv4(10, 9, byte(i>>8), byte(i))})
			}
		}
		return r, nil
	})
	if got, _, err := s.Resolve(t.Context(), dns.Service{SRV: "web.test"}); err == nil || !strings.Contains(err.Error(), "more than 10000 endpoints") {
		t.Errorf("%d endpoints, %v", len(got), err)
	}
}

// Priorities and weights: the lowest that has an address is in use.
func TestPriorities(t *testing.T) {
	s := newServer(t)
	s.set("s.test. 60 IN SRV 10 60 81 a.test.", "s.test. 60 IN SRV 10 0 82 b.test.", "s.test. 60 IN SRV 20 5 83 c.test.",
		"s.test. 60 IN SRV 5 5 84 gone.test.", "a.test. 60 IN A 10.0.0.1", "b.test. 60 IN A 10.0.0.2", "c.test. 60 IN A 10.0.0.3")
	c := config(s)
	c.Services = []dns.Service{{Service: catalog.MustServiceName("web.shop"), SRV: "s.test", PortName: "http", Protocol: catalog.HTTP}}
	got := first(t, newSource(t, c))
	var lines []string
	for _, e := range got.Get(catalog.MustServiceName("web.shop")).Endpoints {
		lines = append(lines, fmt.Sprintf("%s %s %s %d %s %s", e.ID, e.Port, e.Address, e.Weight, e.Health, e.Locality))
	}
	slices.Sort(lines)
	if d := cmp.Diff([]string{
		"http/a.test/10.0.0.1:81 http 10.0.0.1:81 60 unknown aws/us-east-1",
		"http/b.test/10.0.0.2:82 http 10.0.0.2:82 1 unknown aws/us-east-1",
		"http/c.test/10.0.0.3:83 http 10.0.0.3:83 5 maintenance aws/us-east-1",
	}, lines); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// first runs a source until it has published once.
func first(t *testing.T, s *dns.Source) *catalog.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out *catalog.Snapshot
	if err := s.Run(ctx, func(s *catalog.Snapshot) { out = s; cancel() }); err != nil || out == nil {
		_, trouble := s.LastRead()
		t.Fatalf("published nothing: %v, %v", err, trouble)
	}
	return out
}

// The next resolver answers where one is dead, refuses or fails, and stays the
// first one asked.
func TestSeveralResolvers(t *testing.T) {
	for name, fault := range map[string]func(m, r *miekg.Msg, tcp bool) *miekg.Msg{
		"silent": silence, "failing": code(miekg.RcodeServerFailure), "refusing": code(miekg.RcodeRefused),
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := newServer(t), newServer(t)
			bad.spoil(fault)
			good.set("a.test. 60 IN A 10.0.0.1")
			c := config(bad, good)
			c.Services = []dns.Service{{Service: catalog.MustServiceName("a"), Host: "a.test", Port: 80, Family: dns.IPv4}}
			s := newSource(t, c)
			for range 3 {
				got, _, err := s.Resolve(t.Context(), c.WithDefaults().Services[0])
				if err != nil || len(got) != 1 {
					t.Fatalf("got %v, %v", got, err)
				}
			}
			if n := bad.count("a.test."); n != 1 {
				t.Errorf("the bad one was asked %d times", n)
			}
		})
	}
}

// A name that fails keeps its last known and holds no other one back.
func TestOneNameFails(t *testing.T) {
	s := newServer(t)
	s.set("a.test. 0 IN A 10.0.0.1", "b.test. 0 IN A 10.0.0.2")
	c := config(s)
	for _, n := range []string{"a", "b"} {
		c.Services = append(c.Services, dns.Service{Service: catalog.MustServiceName(n), Host: n + ".test", Port: 80, Family: dns.IPv4})
	}
	source := newSource(t, c)
	shown := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- source.Run(ctx, func(s *catalog.Snapshot) { shown <- discoverytest.ContentOf(s).String() })
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	want := func(w string) {
		t.Helper()
		select {
		case got := <-shown:
			if got != w {
				t.Fatalf("want %s, got %s", w, got)
			}
		case <-time.After(time.Minute):
			_, err := source.LastRead()
			t.Fatalf("want %s, got nothing; %v", w, err)
		}
	}
	want("{a=10.0.0.1:80 b=10.0.0.2:80}")
	s.set("a.test. 0 IN A 10.0.0.9")
	s.spoil(func(m, r *miekg.Msg, tcp bool) *miekg.Msg {
		if miekg.CanonicalName(m.Question[0].Name) == "b.test." {
			return code(miekg.RcodeServerFailure)(m, r, tcp)
		}
		return r
	})
	want("{a=10.0.0.9:80 b=10.0.0.2:80}")
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := source.LastRead(); err != nil && strings.Contains(err.Error(), "b.test.") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("b's failure is not told of")
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.spoil(nil) // b does not exist any more: an answer, unlike a failure
	want("{a=10.0.0.9:80}")
}

// What a name has may be no valid service: here a host whose name, as text, is too long
// for an endpoint's ID. That holds no other name back either.
func TestOneNameMakesNoSense(t *testing.T) {
	s := newServer(t)
	s.set("a.test. 0 IN A 10.0.0.1", "b.test. 0 IN SRV 1 1 80 c.test.", "c.test. 0 IN AAAA 2001:db8::2")
	c := config(s)
	c.Services = []dns.Service{
		{Service: catalog.MustServiceName("a"), Host: "a.test", Port: 80, Family: dns.IPv4},
		{Service: catalog.MustServiceName("b"), SRV: "b.test", Family: dns.IPv6},
	}
	source := newSource(t, c)
	shown := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- source.Run(ctx, func(s *catalog.Snapshot) { shown <- discoverytest.ContentOf(s).String() })
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	want := func(w string) {
		t.Helper()
		for {
			select {
			case got := <-shown:
				if got == w {
					return
				}
			case <-time.After(time.Minute):
				_, err := source.LastRead()
				t.Fatalf("want %s, got nothing; %v", w, err)
			}
		}
	}
	want("{a=10.0.0.1:80 b=[2001:db8::2]:80}")
	label := strings.Repeat(`\001`, 63)
	long := label + "." + label + "." + label + "." + strings.Repeat(`\001`, 60) + "."
	s.set("a.test. 0 IN A 10.0.0.9", "b.test. 0 IN SRV 1 1 80 "+long, long+" 0 IN AAAA 2001:db8:1111:1111:1111:1111:1111:1111")
	want("{a=10.0.0.9:80 b=[2001:db8::2]:80}")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := source.LastRead(); err != nil && strings.Contains(err.Error(), "b.default") && strings.Contains(err.Error(), "at most 1024") {
			return
		}
		if time.Now().After(deadline) {
			_, err := source.LastRead()
			t.Fatalf("it says %v", err)
		}
	}
}

// Names are asked for when their TTL has passed, within the floor and the cap,
// give or take a tenth; after failures less and less often.
func TestTTLs(t *testing.T) {
	for _, c := range []struct {
		name      string
		ttl       int
		low, high time.Duration
	}{
		{"as it says", 60, time.Minute, 66 * time.Second},
		{"the floor", 0, 10 * time.Second, 11 * time.Second},
		{"the cap", 1 << 30, 5 * time.Minute, 330 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []time.Time
				s := simulated(t, func(m *miekg.Msg) *miekg.Msg {
					asked = append(asked, time.Now())
					r := new(miekg.Msg).SetReply(m)
					rr, _ := miekg.NewRR(fmt.Sprintf("a.test. %d IN A 10.0.0.1", c.ttl))
					r.Answer = []miekg.RR{rr}
					return r
				})
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
				defer cancel()
				n := 0
				if err := s.Run(ctx, func(*catalog.Snapshot) { n++ }); err != nil {
					t.Fatal(err)
				}
				if n != 1 {
					t.Errorf("published %d times though nothing changed", n)
				}
				for i := 1; i < len(asked); i++ {
					if d := asked[i].Sub(asked[i-1]); d < c.low || d > c.high {
						t.Errorf("asked again after %v", d)
					}
				}
				if len(asked) < int(2*time.Hour/c.high) {
					t.Errorf("asked %d times in two hours", len(asked))
				}
			})
		})
	}
}

func TestFailuresComeLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Time
		s := simulated(t, func(m *miekg.Msg) *miekg.Msg {
			asked = append(asked, time.Now())
			return new(miekg.Msg).SetRcode(m, miekg.RcodeServerFailure)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		if err := s.Run(ctx, func(*catalog.Snapshot) { t.Error("published") }); err != nil {
			t.Fatal(err)
		}
		if d := asked[1].Sub(asked[0]); d < 5*time.Second || d > 10*time.Second {
			t.Errorf("again after %v at first", d)
		}
		if n := len(asked); n < 24 || n > 60 {
			t.Errorf("asked %d times in two hours", n)
		}
	})
}

// Asked to read again, it asks for all names at once and publishes what it found,
// changed or not.
func TestReread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := simulated(t, func(m *miekg.Msg) *miekg.Msg {
			asked++
			r := new(miekg.Msg).SetReply(m)
			rr, _ := miekg.NewRR("a.test. 3600 IN A 10.0.0.1")
			r.Answer = []miekg.RR{rr}
			return r
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		published := 0
		go func() { done <- s.Run(ctx, func(*catalog.Snapshot) { published++ }) }()
		synctest.Wait()
		for i := 2; i < 5; i++ {
			s.Reread()
			synctest.Wait()
			if asked != i || published != i {
				t.Errorf("asked %d times, published %d times, want %d", asked, published, i)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What was asked before the wish to read again does not fulfil it.
func TestRereadWaitsForQueriesOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := simulated(t, func(m *miekg.Msg) *miekg.Msg {
			if asked++; asked == 1 {
				time.Sleep(time.Second)
			}
			r := new(miekg.Msg).SetReply(m)
			rr, _ := miekg.NewRR("a.test. 3600 IN A 10.0.0.1")
			r.Answer = []miekg.RR{rr}
			return r
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		published := 0
		go func() { done <- s.Run(ctx, func(*catalog.Snapshot) { published++ }) }()
		synctest.Wait()
		s.Reread() // the first query is under way
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if asked != 2 || published != 2 {
			t.Errorf("asked %d times, published %d times", asked, published)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// simulated is a source of one name whose network is a function.
func simulated(t *testing.T, answer func(*miekg.Msg) *miekg.Msg) *dns.Source {
	s := newSource(t, dns.Config{
		Resolvers: []string{"192.0.2.1"}, MinTTL: 10 * time.Second,
		Services: []dns.Service{{Service: catalog.MustServiceName("a"), Host: "a.test", Port: 80, Family: dns.IPv4}},
	})
	s.SetExchange(func(_ context.Context, _ string, m *miekg.Msg, _ bool) (*miekg.Msg, error) { return answer(m), nil })
	return s
}
