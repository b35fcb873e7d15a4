package gcp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/providers/gcp"
	"github.com/isthmus-mesh/isthmus/providers/gcp/gcptest"
)

// vms are n labelled instances of a service in a zone.
func vms(service, zone string, net, n int) []gcptest.Instance {
	var out []gcptest.Instance
	for i := range n {
		out = append(out, gcptest.Instance{
			Zone: zone, Name: fmt.Sprintf("%s-%d-%d", service, net, i), IP: fmt.Sprintf("10.0.%d.%d", net, i+1),
			Labels: map[string]string{"isthmus-service": service, "isthmus-port": "80"},
		})
	}
	return out
}

// labelled is a server with two zones of instances, and a source that has read
// them.
func labelled(t *testing.T, change func(*gcp.Config)) (*gcptest.Server, *gcptest.Project, *follower) {
	t.Helper()
	s := gcptest.New(t)
	p := emptyProject()
	p.Instances = append(vms("web", "us-central1-a", 1, 3), vms("web", "us-central1-b", 2, 2)...)
	s.Set(gcptest.World{project: p})
	c := config(s)
	c.Instances = &gcp.Instances{}
	if change != nil {
		change(&c)
	}
	f := follow(t, c)
	f.snapshot("five", endpoints(5))
	return s, p, f
}

func endpoints(n int) func(*catalog.Snapshot) bool {
	return func(s *catalog.Snapshot) bool { return s.EndpointCount() == n }
}

// Whatever is wrong with the answers, the last good set stays, the reason is
// told, and what comes after is read.
func TestFaultsKeepTheLastGoodSet(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault gcptest.Fault
		words []string
	}{
		{"throttled", gcptest.Throttled, []string{"throttled"}},
		{"too many requests", gcptest.TooMany, []string{"throttled"}},
		{"denied", gcptest.Denied, []string{"denied", "status 403", "Required permission"}},
		{"credentials that expired", gcptest.Unauthorized, []string{"credentials", "status 401"}},
		{"gone", gcptest.Missing, []string{"missing", "status 404"}},
		{"down", gcptest.Unavailable, []string{"unavailable", "status 503"}},
		{"hanging", gcptest.Hang, []string{"timeout"}},
		{"an answer that breaks off", gcptest.Half, []string{"project shop-prod: list instances"}},
		{"an empty answer", gcptest.Empty, []string{"answer", "not to be believed"}},
		{"a proxy's page", gcptest.Garbage, []string{"answer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p, f := labelled(t, func(c *gcp.Config) { c.Timeout = 300 * time.Millisecond })
			s.Fault(func(gcptest.Request) gcptest.Fault { return c.fault })
			err := f.trouble(c.words...)
			if len(err.Error()) > 1000 {
				t.Errorf("tells far too much: %v", err)
			}
			f.quiet()
			s.Change(func(gcptest.World) { p.Instances = p.Instances[:4] })
			f.snapshot("four", endpoints(4), endpoints(5))
			f.recovered()
		})
	}
}

// A page that fails in the middle of a list fails the list, however many were
// good.
func TestHalfAListIsNoList(t *testing.T) {
	for _, fault := range []gcptest.Fault{gcptest.Unavailable, gcptest.Throttled, gcptest.Half, gcptest.Empty, gcptest.Hang} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			s, p, f := labelled(t, func(c *gcp.Config) { c.Timeout = 300 * time.Millisecond })
			s.Change(func(gcptest.World) { p.Instances = p.Instances[1:] })
			s.PageSize(1)
			s.Fault(func(r gcptest.Request) gcptest.Fault {
				if r.Later {
					return fault
				}
				return gcptest.None
			})
			f.trouble("list instances")
			f.quiet()
			s.Change(func(gcptest.World) {})
			f.snapshot("the whole list", endpoints(4), endpoints(5))
		})
	}
}

// Many pages make one list.
func TestPages(t *testing.T) {
	s, p, f := labelled(t, nil)
	s.Change(func(gcptest.World) {
		p.Instances = append(vms("web", "us-central1-a", 1, 200), vms("web", "us-central1-b", 2, 150)...)
	})
	s.PageSize(7)
	f.snapshot("350", endpoints(350), endpoints(5))
	f.recovered()
	seen, _ := s.Seen()
	if n := seen["compute.instances.aggregatedList"]; n < 50 {
		t.Errorf("read in %d requests", n)
	}
}

// A zone that Google cannot reach keeps what was known of it, and of nothing
// else, whichever way the answer says so.
func TestAnUnreachableZoneKeepsItsOwn(t *testing.T) {
	for _, loud := range []bool{false, true} {
		t.Run(fmt.Sprintf("list of unreachables %v", loud), func(t *testing.T) {
			s, p, f := labelled(t, nil)
			s.Change(func(gcptest.World) { p.Instances = vms("web", "us-central1-a", 1, 1) }) // two of a go, and all of b
			s.Unreachable(loud, "zones/us-central1-b")
			got := f.snapshot("what is left of a, and all of b", endpoints(3), endpoints(5))
			for _, e := range got.Get(catalog.MustServiceName("web")).Endpoints {
				if z := e.Locality.Zone; z != "us-central1-a" && z != "us-central1-b" {
					t.Errorf("zone %s", z)
				}
			}
			f.trouble("unreachable", "zones/us-central1-b")
			s.Unreachable(loud)
			f.snapshot("one, now that b says so", endpoints(1), endpoints(3))
			f.recovered()
		})
	}
}

// Before a zone was read once, there is no last known: nothing is published, for
// what another process published of it would be withdrawn.
func TestAZoneThatWasNeverReadHoldsBack(t *testing.T) {
	s := gcptest.New(t)
	p := emptyProject()
	p.Instances = append(vms("web", "us-central1-a", 1, 3), vms("web", "us-central1-b", 2, 2)...)
	s.Set(gcptest.World{project: p})
	s.Unreachable(true, "zones/us-central1-b")
	c := config(s)
	c.Instances = &gcp.Instances{}
	f := follow(t, c)
	f.trouble("zones/us-central1-b")
	f.quiet()
	s.Unreachable(true)
	f.snapshot("all", endpoints(5), endpoints(-1))
}

// A partial answer that does not say where is not taken at all.
func TestAPartialAnswerMustSayWhere(t *testing.T) {
	s, p, f := labelled(t, nil)
	s.Report = func(error) {} // what follows is as published, or nearly
	for _, change := range []func(a map[string]any){
		func(a map[string]any) { a["warning"] = map[string]any{"code": "UNREACHABLE"} },
		func(a map[string]any) { a["unreachables"] = []string{"somewhere"} },
		func(a map[string]any) { a["kind"] = "compute#instanceList" },
	} {
		s.Mutate(nil)
		f.recovered()
		s.Mutate(func(_ string, a map[string]any) { a["items"] = map[string]any{}; change(a) })
		f.trouble("not to be believed")
		f.quiet()
	}
	s.Mutate(func(_ string, a map[string]any) {
		a["items"] = map[string]any{}
		a["warning"] = map[string]any{"code": "PARTIAL_SUCCESS", "data": []map[string]any{
			{"key": "scope", "value": "projects/1/zones/us-central1-a"}, {"key": "scope", "value": "zones/us-central1-b"},
		}}
	})
	f.trouble("zones/us-central1-a", "zones/us-central1-b")
	f.quiet()
	s.Mutate(nil)
	s.Change(func(gcptest.World) { p.Instances = nil })
	f.snapshot("nothing", endpoints(0), endpoints(5))
}

// A quota that is exceeded lets the project rest, and no other one.
func TestAThrottledProjectRests(t *testing.T) {
	s := gcptest.New(t)
	a, b := emptyProject(), emptyProject()
	a.Instances, b.Instances = vms("web", zone, 1, 1), vms("web", zone, 2, 1)
	s.Set(gcptest.World{"project-a": a, "project-b": b})
	c := config(s)
	c.Projects = []string{"project-a", "project-b"}
	c.Instances = &gcp.Instances{}
	f := follow(t, c)
	f.snapshot("both", endpoints(2))
	s.RetryAfter("3600")
	var restless, other atomic.Int64
	ask := func(fault gcptest.Fault) func(gcptest.Request) gcptest.Fault {
		return func(r gcptest.Request) gcptest.Fault {
			if r.Project == "project-b" {
				other.Add(1)
				return gcptest.None
			}
			restless.Add(1)
			return fault
		}
	}
	s.Fault(ask(gcptest.Throttled))
	f.trouble("project-a", "throttled")
	s.Change(func(gcptest.World) { b.Instances = vms("web", zone, 2, 4) })
	s.Fault(ask(gcptest.None))
	f.snapshot("what is new in b beside a's last known", endpoints(5), endpoints(2))
	deadline := time.Now().Add(patience)
	for from := other.Load(); other.Load() < from+5; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("project-b is not read any more")
		}
	}
	if n := restless.Load(); n != 1 {
		t.Errorf("project-a was asked %d times while it should rest", n)
	}
}

// A key that is refused keeps what was read, is named without its secret, and a
// new file is taken without a restart.
func TestCredentials(t *testing.T) {
	s, p, f := labelled(t, nil)
	s.Tokens(gcptest.InvalidGrant)
	err := f.trouble("credentials", "no access token", "invalid_grant")
	for _, secret := range []string{"ya29.", "PRIVATE", "Invalid JWT"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error tells %q: %v", secret, err)
		}
	}
	f.quiet()
	s.Tokens(gcptest.TokenDown)
	f.trouble("credentials", "status 503")
	s.Tokens(gcptest.Granted)
	s.Change(func(gcptest.World) { p.Instances = p.Instances[:2] })
	f.snapshot("two", endpoints(2), endpoints(5))

	asked := s.TokensAsked()
	s.RotateCredentials("second")
	deadline := time.Now().Add(patience)
	for s.TokensAsked() == asked {
		if time.Now().After(deadline) {
			t.Fatal("a new file of credentials is not used")
		}
		time.Sleep(20 * time.Millisecond)
	}
	f.recovered()
}

// The clocks of the other side, and tokens that end at once, change nothing.
func TestClocks(t *testing.T) {
	s, p, f := labelled(t, nil)
	s.Tokens(gcptest.ShortLived)
	for i, date := range []string{"Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2199 23:59:59 GMT", "not a date"} {
		s.Date(date)
		s.Change(func(gcptest.World) { p.Instances = vms("web", zone, 1, 10+i) })
		f.snapshot(date, endpoints(10+i), endpoints(5), endpoints(10), endpoints(11))
		before := time.Now()
		f.recovered()
		if at, _ := f.source.LastRead(); at.After(time.Now()) || before.Sub(at) > patience {
			t.Errorf("the last read is told to be at %v", at)
		}
	}
}

// A source ends at once though an answer hangs.
func TestEndsWhileAnAnswerHangs(t *testing.T) {
	s := gcptest.New(t)
	s.Set(gcptest.World{project: emptyProject()})
	hangs := make(chan struct{}, 100)
	s.Fault(func(gcptest.Request) gcptest.Fault {
		hangs <- struct{}{}
		return gcptest.Hang
	})
	c := config(s)
	c.Timeout = 5 * time.Minute
	c.Instances = &gcp.Instances{}
	source, err := gcp.New(gcp.Options{Name: "cloud", Config: c})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, func(*catalog.Snapshot) { t.Error("published") }) }()
	<-hangs
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("goes on")
	}
}

// An answer that points elsewhere must not take the token there.
func TestTheTokenGoesToTheEndpointAlone(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was asked for elsewhere, %d bytes of Authorization", r.URL.Path, len(r.Header.Get("Authorization")))
	}))
	t.Cleanup(elsewhere.Close)
	there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusFound)
	}))
	t.Cleanup(there.Close)
	c := config(gcptest.New(t))
	c.Instances, c.ComputeEndpoint = &gcp.Instances{}, there.URL
	source, err := gcp.New(gcp.Options{Name: "cloud", Config: c})
	if err != nil {
		t.Fatal(err)
	}
	followSource(t, source)
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		_, err := source.LastRead()
		if err != nil && strings.Contains(err.Error(), "status 302") {
			return
		}
		if t.Failed() || time.Now().After(deadline) {
			t.Fatalf("it says %v", err)
		}
	}
}
