package consul_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
)

func pause() { time.Sleep(20 * time.Millisecond) }

// startAll runs every source of a configuration until the test ends.
func startAll(t *testing.T, cfg consul.Config) map[string]*recorder {
	t.Helper()
	sources, err := consul.New(consul.Options{Name: "consul", Config: cfg, Locality: catalog.Locality{Cloud: "aws", Region: "us-east-1"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	all := map[string]*recorder{}
	for _, s := range sources {
		r := &recorder{source: s}
		all[s.Name()] = r
		wg.Go(func() {
			if err := s.Run(ctx, r.publish); err != nil {
				t.Error(err)
			}
		})
	}
	return all
}

// Two datacenters that are joined, read through the agent of one. The other dies:
// what was known of it stays, and the one that lives is followed on.
func TestRealConsulSeveralDatacentersThroughOneAgent(t *testing.T) {
	t.Parallel()
	dc1 := realAgent(t, consultest.Options{Datacenter: "dc1", Bind: "127.0.0.1"})
	dc2 := realAgent(t, consultest.Options{Datacenter: "dc2", Bind: "127.0.0.3"}) // nobody else's, while it is dead
	dc1.JoinWAN(dc2)
	register := func(dc *consultest.Agent, id, address string) {
		dc.Register(&api.AgentServiceRegistration{ID: id, Name: "web", Address: address, Port: 80})
	}
	register(dc1, "a", "10.1.0.1")
	register(dc2, "b", "10.2.0.1")
	all := startAll(t, consul.Config{
		Config: agent.Config{Address: dc1.Address()}, RequestTimeout: 5 * time.Second,
		Datacenters: []consul.Datacenter{{Name: "dc1"}, {Name: "dc2", Locality: "aws/us-west-2/usw2-az1", Labels: map[string]string{"site": "west"}}},
	})
	first, second := all["consul-dc1"], all["consul-dc2"]
	if first == nil || second == nil || len(all) != 2 {
		t.Fatalf("sources %v", all)
	}
	say := func(s *catalog.Snapshot) (out []string) {
		for _, e := range endpoints(s, "web") {
			out = append(out, fmt.Sprintf("%s in %s %v", e.Address, e.Locality, e.Labels))
		}
		return out
	}
	want := func(r *recorder, want ...string) {
		t.Helper()
		r.await(t, fmt.Sprint(want), func(s *catalog.Snapshot) bool { return fmt.Sprint(say(s)) == fmt.Sprint(want) })
	}
	want(first, "10.1.0.1:80 in aws/us-east-1 map[]")
	want(second, "10.2.0.1:80 in aws/us-west-2/usw2-az1 map[site:west]")

	dc2.Kill()
	register(dc1, "c", "10.1.0.2")
	want(first, "10.1.0.1:80 in aws/us-east-1 map[]", "10.1.0.2:80 in aws/us-east-1 map[]")
	for n := 0; ; n++ {
		if _, err := second.source.LastRead(); err != nil {
			t.Logf("of the datacenter that is dead: %.200s", err)
			break
		}
		if n > 1500 {
			t.Fatal("the source of the dead datacenter reports nothing")
		}
		pause()
	}
	first.await(t, "no trouble with the living one", func(*catalog.Snapshot) bool { _, err := first.source.LastRead(); return err == nil })
	if got := say(second.last()); len(got) != 1 {
		t.Errorf("of the dead one is left: %v", got)
	}
	before := second.count()
	dc2.Restart()
	register(dc2, "d", "10.2.0.2")
	want(second, "10.2.0.1:80 in aws/us-west-2/usw2-az1 map[site:west]", "10.2.0.2:80 in aws/us-west-2/usw2-az1 map[site:west]")
	for _, s := range second.snaps[before:] {
		if len(endpoints(s, "web")) == 0 {
			t.Error("a snapshot without the service was published after the restart")
		}
	}
}
