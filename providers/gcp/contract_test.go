package gcp_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
	"github.com/isthmus-mesh/isthmus/providers/gcp"
	"github.com/isthmus-mesh/isthmus/providers/gcp/gcptest"
)

const (
	project = "shop-prod"
	zone    = "us-central1-a"
)

// config is one that reads s, fast; the kinds are for the test to fill in.
func config(s *gcptest.Server) gcp.Config {
	return gcp.Config{
		Projects: []string{project}, CredentialsFile: s.CredentialsFile(),
		ComputeEndpoint: s.URL, ServiceDirectoryEndpoint: s.URL,
		Interval: 100 * time.Millisecond, Timeout: 2 * time.Second, RequestsPerMinute: 60_000,
	}
}

// names are the services that the contract test uses.
var names = []string{"web", "billing", "orders"}

// kinds are the four kinds of reads: what each is configured with, and how the
// cloud holds a content for it.
var kinds = []struct {
	name      string
	configure func(*gcp.Config)
	hold      func(p *gcptest.Project, service string, at []netip.AddrPort)
}{
	{
		"instances",
		func(c *gcp.Config) { c.Instances = &gcp.Instances{} },
		func(p *gcptest.Project, service string, at []netip.AddrPort) {
			for _, a := range at {
				p.Instances = append(p.Instances, gcptest.Instance{
					Zone: zone, Name: name(a), IP: a.Addr().String(),
					Labels: map[string]string{"isthmus-service": service, "isthmus-port": fmt.Sprint(a.Port())},
				})
			}
		},
	},
	{
		"managed groups",
		func(c *gcp.Config) {
			for _, n := range names {
				c.ManagedGroups = append(c.ManagedGroups, gcp.Group{Name: n + "-mig", Service: catalog.MustServiceName(n), Ports: []gcp.Port{{}}})
			}
		},
		func(p *gcptest.Project, service string, at []netip.AddrPort) {
			g := gcptest.ManagedGroup{Location: "us-central1", Name: service + "-mig", NamedPorts: map[string]int{"default": int(at[0].Port())}}
			for _, a := range at {
				p.Instances = append(p.Instances, gcptest.Instance{Zone: zone, Name: name(a), IP: a.Addr().String()})
				g.Members = append(g.Members, gcptest.Member{Zone: zone, Name: name(a), Health: "HEALTHY"})
			}
			p.ManagedGroups = append(p.ManagedGroups, g)
		},
	},
	{
		"endpoint groups",
		func(c *gcp.Config) {
			for _, n := range names {
				c.EndpointGroups = append(c.EndpointGroups, gcp.Group{Name: n + "-neg", Service: catalog.MustServiceName(n)})
			}
		},
		func(p *gcptest.Project, service string, at []netip.AddrPort) {
			g := gcptest.EndpointGroup{Location: zone, Name: service + "-neg"}
			for _, a := range at {
				g.Endpoints = append(g.Endpoints, gcptest.NetworkEndpoint{IP: a.Addr().String(), Port: int(a.Port())})
			}
			p.EndpointGroups = append(p.EndpointGroups, g)
		},
	},
	{
		"service directory",
		func(c *gcp.Config) {
			c.ServiceDirectory = []gcp.Directory{{Locations: []string{"us-central1"}, Namespace: "prod", As: "default"}}
		},
		func(p *gcptest.Project, service string, at []netip.AddrPort) {
			s := gcptest.Service{Name: service}
			for _, a := range at {
				s.Endpoints = append(s.Endpoints, gcptest.Endpoint{Name: name(a), Address: a.Addr().String(), Port: int(a.Port())})
			}
			p.Namespaces[0].Services = append(p.Namespaces[0].Services, s)
		},
	},
}

func name(a netip.AddrPort) string { return "vm-" + strings.ReplaceAll(a.Addr().String(), ".", "-") }

func emptyProject() *gcptest.Project {
	return &gcptest.Project{
		Zones: []string{zone, "us-central1-b"}, Regions: []string{"us-central1"},
		Namespaces: []gcptest.Namespace{{Location: "us-central1", Name: "prod"}},
	}
}

func TestContract(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			discoverytest.Source(t, func(t *testing.T) discoverytest.Backend {
				s := gcptest.New(t)
				c := config(s)
				k.configure(&c)
				source, err := gcp.New(gcp.Options{Name: "cloud", Config: c})
				if err != nil {
					t.Fatal(err)
				}
				set := func(content discoverytest.Content) {
					p := emptyProject()
					for _, service := range names {
						var at []netip.AddrPort
						for _, a := range content[service] {
							at = append(at, netip.MustParseAddrPort(a))
						}
						if len(at) > 0 {
							k.hold(p, service, at)
						}
					}
					s.Set(gcptest.World{project: p})
				}
				set(nil)
				return discoverytest.Backend{
					Source: source,
					Set:    set,
					Fail: func(on bool) {
						fault := gcptest.None
						if on {
							fault = gcptest.Denied
						}
						s.Fault(func(gcptest.Request) gcptest.Fault { return fault })
					},
					Cut: func(content discoverytest.Content) {
						set(content)
						s.PageSize(1)
						s.Fault(func(r gcptest.Request) gcptest.Fault {
							if r.Later {
								return gcptest.Half
							}
							return gcptest.None
						})
					},
				}
			})
		})
	}
}

// follower runs a source and keeps what it publishes.
type follower struct {
	t      *testing.T
	source *gcp.Source
	shown  chan *catalog.Snapshot
	last   *catalog.Snapshot
}

func follow(t *testing.T, c gcp.Config) *follower {
	t.Helper()
	source, err := gcp.New(gcp.Options{Name: "cloud", Config: c})
	if err != nil {
		t.Fatal(err)
	}
	return followSource(t, source)
}

func followSource(t *testing.T, source *gcp.Source) *follower {
	t.Helper()
	f := &follower{t: t, source: source, shown: make(chan *catalog.Snapshot, 1000)}
	done := make(chan error, 1)
	go func() {
		done <- source.Run(t.Context(), func(s *catalog.Snapshot) {
			select {
			case f.shown <- s:
			default:
				t.Error("far more is published than read")
			}
		})
	}()
	t.Cleanup(func() { // t.Context has ended by now
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

// patience is far above what anything takes, since a loaded machine is no
// failure.
const patience = time.Minute

// snapshot waits for the next one that ok accepts; each that comes before must be
// one of those that before accepts, if any are given.
func (f *follower) snapshot(what string, ok func(*catalog.Snapshot) bool, before ...func(*catalog.Snapshot) bool) *catalog.Snapshot {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-f.shown:
			f.last = s
			if ok(s) {
				return s
			}
			if len(before) > 0 && !slices.ContainsFunc(before, func(b func(*catalog.Snapshot) bool) bool { return b(s) }) {
				f.t.Fatalf("%s: published %v before", what, lines(s))
			}
		case <-deadline:
			_, err := f.source.LastRead()
			f.t.Fatalf("%s: not within %v; last %v, trouble: %v", what, patience, lines(f.last), err)
		}
	}
}

// trouble waits until the source reports an error that has all the words.
func (f *follower) trouble(words ...string) error {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		_, err := f.source.LastRead()
		if err != nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) }) {
			return err
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("want trouble with %q, got %v", words, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// recovered waits until a read is complete again.
func (f *follower) recovered() {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		at, err := f.source.LastRead()
		if err == nil && !at.IsZero() {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("does not recover: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// quiet checks that nothing differs from what was published last.
func (f *follower) quiet() {
	f.t.Helper()
	end := time.After(300 * time.Millisecond)
	for {
		select {
		case s := <-f.shown:
			if f.last != nil && !s.Equal(f.last) {
				f.t.Fatalf("published %v after %v", lines(s), lines(f.last))
			}
		case <-end:
			return
		}
	}
}

// lines is a snapshot as text, one endpoint a line.
func lines(s *catalog.Snapshot) []string {
	var out []string
	for svc := range s.All() {
		if len(svc.Endpoints) == 0 {
			out = append(out, svc.Name.String())
		}
		for _, e := range svc.Endpoints {
			port, _ := svc.Port(e.Port)
			out = append(out, fmt.Sprintf("%s %s/%s %s %s %s %v", svc.Name, e.Port, port.Protocol, e.Address, e.Locality, e.Health, e.Labels))
		}
	}
	return out
}
