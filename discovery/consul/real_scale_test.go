package consul_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
)

// manyServices is what the source is prepared for.
const manyServices = 10_000

// maxConns is what the agent allows here: a tenth of its default, and one more than
// the source may hold.
const maxConns = 20

// 10,000 services, each with a check, read through an agent that allows a client a
// tenth of the connections that it does by default.
func TestRealConsulTenThousandServices(t *testing.T) {
	a := realAgent(t, consultest.Options{Dev: true, MaxConns: maxConns})
	began := time.Now()
	registerMany(t, a, manyServices)
	t.Logf("figure: consul: %d services, each with a check, registered in %.1f s", manyServices, time.Since(began).Seconds())

	registry := prometheus.NewRegistry()
	all, err := consul.New(consul.Options{Name: "consul", Config: consul.Config{Config: agent.Config{Address: a.Address()}}, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{source: all[0]}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var most float64
	wg.Go(func() { _ = all[0].Run(ctx, r.publish) })
	wg.Go(func() {
		for ctx.Err() == nil {
			most = max(most, sum(t, registry, "isthmus_consul_connections"))
			time.Sleep(10 * time.Millisecond)
		}
	})
	stop := func() { cancel(); wg.Wait() }
	defer stop()
	began = time.Now()
	r.within(t, 5*time.Minute, "all services", func(s *catalog.Snapshot) bool { return s.EndpointCount() == manyServices })
	synced, first := time.Since(began), sum(t, registry, "isthmus_consul_requests_total")
	if r.count() != 1 {
		t.Errorf("%d snapshots until all was read: half a catalog was published", r.count())
	}
	if first > manyServices+100 {
		t.Errorf("%.0f requests for %d services", first, manyServices)
	}

	// Nothing changes: nothing is asked, but by the two watches.
	time.Sleep(2 * time.Second)
	if idle := sum(t, registry, "isthmus_consul_requests_total") - first; idle > 10 {
		t.Errorf("%.0f requests while nothing changed", idle)
	}
	before := sum(t, registry, "isthmus_consul_requests_total")
	began = time.Now()
	commit(t, a, api.TxnOps{manyCheck(77, api.HealthCritical)})
	r.await(t, "one check fails", func(s *catalog.Snapshot) bool {
		e := endpoints(s, manyName(77))
		return len(e) == 1 && e[0].Health == catalog.Critical
	})
	changed := time.Since(began)
	if n := sum(t, registry, "isthmus_consul_requests_total") - before; n > 20 {
		t.Errorf("%.0f requests for one check of 10,000", n)
	}
	stop()
	t.Logf("figure: consul: %d services read in %.1f s by %.0f requests over at most %.0f connections; one check that fails was published after %.2f s",
		manyServices, synced.Seconds(), first, most, changed.Seconds())
	if most >= maxConns || most < 3 {
		t.Errorf("%.0f connections", most)
	}
	if failures := sum(t, registry, "isthmus_consul_failures_total"); failures > 0 {
		t.Errorf("%.0f failures: the agent's limit was met", failures)
	}
}

func manyName(i int) string { return fmt.Sprintf("s-%d", i) }

// perNode keeps nodes small: what Consul does for a write grows with its node.
const perNode = 50

func manyNode(i int) string { return fmt.Sprintf("node-%d", i/perNode) }

func manyCheck(i int, status string) *api.TxnOp {
	id := manyName(i) + "-1"
	return &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
		Node: manyNode(i), CheckID: "c-" + id, Name: "up", Status: status, ServiceID: id, ServiceName: manyName(i),
	}}}
}

// registerMany writes n services of one instance each into the catalog.
func registerMany(t *testing.T, a *consultest.Agent, n int) {
	t.Helper()
	var ops api.TxnOps
	for i := range n {
		if i%perNode == 0 {
			ops = append(ops, &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: manyNode(i), Address: "10.0.0.1"}}})
		}
		ops = append(ops, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: manyNode(i), Service: api.AgentService{
			ID: manyName(i) + "-1", Service: manyName(i), Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250), Port: 80,
		}}}, manyCheck(i, api.HealthPassing))
		if len(ops) > 120 {
			commit(t, a, ops)
			ops = nil
		}
	}
	commit(t, a, ops)
}

// sum is a metric over all of its labels.
func sum(t *testing.T, r *prometheus.Registry, name string) (total float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Error(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}
