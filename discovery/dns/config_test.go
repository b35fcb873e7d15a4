package dns_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/dns"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const good = `
resolvers: [127.0.0.1, "[::1]:8600"]
services:
  - {service: web.shop, srv: _web._tcp.example.com., protocol: http}
  - {service: db, host: db.example.com, port: 5432, family: ipv4}
  - {service: db, host: db.example.com, port: 9000, port_name: metrics, protocol: http}
`

func parse(text string) (dns.Config, error) {
	var c dns.Config
	err := strictyaml.DecodeValid("dns.yaml", []byte(text), &c, func() error { return c.Validate() })
	return c, err
}

// A configuration is checked without a query, and tells all at once.
func TestConfig(t *testing.T) {
	if _, err := parse(good); err != nil {
		t.Fatal(err)
	}
	_, err := parse(`
resolvers: [dns.example.com, "10.0.0.1:0"]
timeout: 1h
min_ttl: 1ms
max_ttl: 48h
oops: 1
services:
  - {srv: a..b, port: 80}
  - {service: web, host: web.example.com, srv: web.example.com, protocol: gopher, family: ipv5}
  - {service: web, host: web.example.com, port_name: A}
  - {service: federation.x, host: x, port: 1}
  - {service: db, host: x, port: 1}
  - {service: db, host: y, port: 1}
`)
	var problems strictyaml.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("want problems, got %v", err)
	}
	found := map[string]bool{}
	for _, p := range problems {
		if p.Line == 0 || p.Rule == "" {
			t.Errorf("a problem without place or rule: %+v", p)
		}
		found[p.Field] = true
	}
	for _, field := range []string{
		"resolvers[0]", "resolvers[1]", "timeout", "min_ttl", "max_ttl", "oops", "services[0].service", "services[0].srv", "services[0].port",
		"services[1].srv", "services[1].port", "services[1].protocol", "services[1].family", "services[2].port", "services[2].port_name",
		"services[3].service", "services[5].port_name",
	} {
		if !found[field] {
			t.Errorf("nothing is said of %s", field)
		}
		delete(found, field)
	}
	for field := range found {
		t.Errorf("says something of %s: %v", field, err)
	}
	if _, err := parse("{}"); err == nil || !strings.Contains(err.Error(), "resolvers: is missing") || !strings.Contains(err.Error(), "services: is missing") {
		t.Errorf("nothing to read: %v", err)
	}
}

// Whatever a resolver answers, the source ends with values or a failure, in
// bounded time and size.
func FuzzAnswer(f *testing.F) {
	for _, text := range []string{
		"a.test. 60 IN A 10.0.0.1", "a.test. 60 IN SRV 1 2 80 a.test.", "a.test. 60 IN CNAME a.test.", "a.test. 0 IN AAAA 2001:db8::1", "a.test. 0 IN SRV 1 2 80 .",
	} {
		m := new(miekg.Msg).SetQuestion("a.test.", miekg.TypeSRV)
		rr, err := miekg.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = []miekg.RR{rr, rr}
		data, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, srv bool) {
		var canned miekg.Msg
		if canned.Unpack(data) != nil {
			return
		}
		service := dns.Service{Service: catalog.MustServiceName("x"), Host: "a.test", Port: 80}
		if srv {
			service = dns.Service{Service: catalog.MustServiceName("x"), SRV: "a.test"}
		}
		c := dns.Config{Resolvers: []string{"192.0.2.1"}, Services: []dns.Service{service}, MinTTL: time.Hour}
		s, err := dns.New(dns.Options{Name: "fuzz", Config: c})
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		s.SetExchange(func(_ context.Context, _ string, m *miekg.Msg, _ bool) (*miekg.Msg, error) {
			if asked++; asked > 10_000 {
				t.Fatal("asks for ever")
			}
			r := canned.Copy()
			r.Id, r.Response, r.Question = m.Id, true, m.Question
			return r, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // ends it where nothing is published
			for ctx.Err() == nil {
				if _, err := s.LastRead(); err != nil {
					cancel()
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if err := s.Run(ctx, func(s *catalog.Snapshot) {
			for svc := range s.All() {
				if err := svc.Validate(); err != nil {
					t.Error(fmt.Errorf("published what is no service: %w", err))
				}
			}
			cancel()
		}); err != nil {
			t.Fatal(err)
		}
		cancel()
	})
}
