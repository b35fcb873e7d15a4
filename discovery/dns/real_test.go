package dns_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/discovery/dns"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// shown runs a source and returns a function that waits until what is published
// is want.
func shown(t *testing.T, c dns.Config) (wait func(want string)) {
	t.Helper()
	source := newSource(t, c)
	news := make(chan string, 1000)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		done <- source.Run(ctx, func(s *catalog.Snapshot) { news <- discoverytest.ContentOf(s).String() })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(want string) {
		t.Helper()
		deadline := time.After(time.Minute)
		last := "nothing"
		for {
			select {
			case last = <-news:
				if last == want {
					return
				}
			case <-deadline:
				_, err := source.LastRead()
				t.Fatalf("want %s, got %s; %v", want, last, err)
			}
		}
	}
}

// Consul's own DNS: SRV records with a TTL of 0, targets below addr.dc1.consul,
// and more instances than its UDP answers hold, which do not say so.
func TestConsulsDNS(t *testing.T) {
	agent := consultest.Start(t, consultest.Options{Binary: tools.Require(t, "consul"), Dev: true})
	register := func(n int) {
		for i := range n {
			if err := agent.Client().Agent().ServiceRegister(&api.AgentServiceRegistration{
				ID: fmt.Sprintf("web-%d", i), Name: "web", Address: fmt.Sprintf("10.7.0.%d", i+1), Port: 8000 + i,
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("10.7.0.%d:%d", i+1, 8000+i))
		}
		return discoverytest.Content{"web": all}.String()
	}
	c := dns.Config{
		Resolvers: []string{agent.DNS()}, TCP: true, MinTTL: 100 * time.Millisecond, Timeout: 5 * time.Second,
		Services: []dns.Service{{Service: catalog.MustServiceName("web"), SRV: "web.service.consul", Family: dns.IPv4}},
	}
	wait := shown(t, c)
	wait("{}") // NXDOMAIN
	register(2)
	wait(want(2))
	register(60)
	wait(want(60))
	c.TCP = false
	if got := first(t, newSource(t, c)).EndpointCount(); got >= 60 {
		t.Errorf("Consul gave %d endpoints over UDP: README.md says that it does not give all", got)
	}
	for i := range 60 {
		if err := agent.Client().Agent().ServiceDeregister(fmt.Sprintf("web-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	wait("{}")
}

// A resolver of another make, which reads its records from a file.
func TestDnsmasq(t *testing.T) {
	bin := tools.Command(t, "dnsmasq")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(udp.LocalAddr().String())
	_ = udp.Close()
	if err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	write := func(text string) {
		if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("10.8.0.1 a.test\n10.8.0.2 a.test\n2001:db8::8 a.test\n10.8.0.3 b.test\n")
	cmd := exec.CommandContext(t.Context(), bin, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
		"--addn-hosts="+hosts, "--listen-address=127.0.0.1", "--bind-interfaces", "--port="+port, "--pid-file=", "--user=", "--group=",
		"--local=/test/", "--local-ttl=1", "--auth-ttl=1", "--log-facility=-", "--cname=alias.test,b.test",
		"--srv-host=_web._tcp.test,a.test,8080,1,50", "--srv-host=_web._tcp.test,b.test,8081,2,50")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // its context has ended it by now
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	wait := shown(t, dns.Config{
		Resolvers: []string{"127.0.0.1:" + port}, MinTTL: 100 * time.Millisecond, MaxTTL: time.Second,
		Services: []dns.Service{
			{Service: catalog.MustServiceName("web"), SRV: "_web._tcp.test"},
			{Service: catalog.MustServiceName("alias"), Host: "alias.test", Port: 80},
			{Service: catalog.MustServiceName("none"), Host: "none.test", Port: 80},
		},
	})
	wait(discoverytest.Content{
		"web": {"10.8.0.1:8080", "10.8.0.2:8080", "[2001:db8::8]:8080", "10.8.0.3:8081"}, "alias": {"10.8.0.3:80"},
	}.String())
	write("10.8.0.4 b.test\n")
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil { // it reads the file again
		t.Fatal(err)
	}
	wait(discoverytest.Content{"web": {"10.8.0.4:8081"}, "alias": {"10.8.0.4:80"}}.String())
}
