package consul_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

const (
	within   = time.Minute
	patience = 10 * time.Second // of one call
)

// world is two clusters, each with a Consul datacenter of its own.
type world struct {
	*stand.Stand
	east, west     *stand.Cluster
	eastDC, westDC *consultest.Agent
	calls          *stand.Calls
}

func newWorld(t *testing.T, dev bool) *world {
	t.Helper()
	binary := tools.Require(t, "consul")
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	w := &world{
		Stand: s, east: s.Clusters[0], west: s.Clusters[1],
		eastDC: consultest.Start(t, consultest.Options{Binary: binary, Datacenter: "east", Dev: dev}),
		westDC: consultest.Start(t, consultest.Options{Binary: binary, Datacenter: "west", Dev: dev}),
	}
	w.calls = w.east.Calls(t)
	for c, dc := range map[*stand.Cluster]*consultest.Agent{w.east: w.eastDC, w.west: w.westDC} {
		c.Section()["sources"] = []any{stand.Object{
			"consul": stand.Object{"address": dc.Address()},
			"allow":  []any{"127.0.0.0/8"},
			"guard":  stand.Object{"window": "2s"},
		}}
		for _, g := range c.Gateways { // the default would take minutes to bring calls back
			g.Section()["fail_back"] = stand.Object{"hold": "1s", "step": 0.25, "interval": "500ms"}
		}
	}
	return w
}

// instance is an HTTP server that says its name.
func instance(t *testing.T, name string) (port int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

// register puts an instance into a datacenter with a check that the test sets.
func register(dc *consultest.Agent, id, service string, port int) {
	dc.Register(&api.AgentServiceRegistration{
		ID: id, Name: service, Address: "127.0.0.1", Port: port, Meta: map[string]string{"isthmus-protocol": "http"},
		Check: &api.AgentServiceCheck{CheckID: id + "-ttl", TTL: "2h", Status: api.HealthPassing},
	})
}

// call asks from the east.
func (w *world) call(service string) func(context.Context) (string, error) {
	call := w.calls.To(service + ".default.mesh")
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return call(ctx)
	}
}

// until calls until ten answers in a row come from who, or ten are refused.
func (w *world) until(t *testing.T, what, service, who string) {
	t.Helper()
	begin, streak := time.Now(), 0
	stand.Eventually(t, within, what, func() error {
		got, err := w.call(service)(t.Context())
		if (who == "" && err == nil) || (who != "" && (err != nil || got != who)) {
			streak = 0
			return errors.Join(fmt.Errorf("answered by %q", got), err)
		}
		if streak++; streak < 10 {
			return fmt.Errorf("%d in a row", streak)
		}
		return nil
	})
	stand.Figure(t, "%s: calls follow after %.1f s", what, time.Since(begin).Seconds())
}

func TestCallsFollowConsul(t *testing.T) {
	w := newWorld(t, false)
	w.Start()
	eastPort, westPort := instance(t, "east-1"), instance(t, "west-1")

	register(w.westDC, "billing-w1", "billing", westPort)
	w.until(t, "a service is registered in the other datacenter", "billing", "west-1")
	register(w.eastDC, "billing-e1", "billing", eastPort)
	w.until(t, "the service is registered here, too", "billing", "east-1")

	w.eastDC.SetTTL("billing-e1-ttl", api.HealthCritical)
	w.until(t, "the local check turns critical", "billing", "west-1")
	w.eastDC.SetTTL("billing-e1-ttl", api.HealthPassing)
	w.until(t, "the local check passes again", "billing", "east-1")

	time.Sleep(4 * time.Second) // the ramp of the fail-back ends
	// Consul dies while calls go on: nothing is lost
	load := stand.StartLoad(t.Context(), 50, 10*time.Second, w.call("billing"))
	w.eastDC.Kill()
	w.westDC.Kill()
	time.Sleep(5 * time.Second)
	w.eastDC.Restart()
	w.westDC.Restart()
	time.Sleep(3 * time.Second)
	rs := load.Stop()
	stand.Figure(t, "both consuls killed and restored: %d calls, %d failed, answers %v", len(rs), len(rs.Failed()), rs.Who())
	if len(rs.Failed()) > 0 || rs.Who()["east-1"] != len(rs) {
		t.Errorf("answers %v, failures: %s", rs.Who(), rs.Errors())
	}

	// what is registered after the restart arrives, deregistrations as well
	register(w.westDC, "orders-w1", "orders", westPort)
	w.until(t, "a service is registered after the restart", "orders", "west-1")
	w.eastDC.Deregister("billing-e1")
	w.until(t, "the local instance is deregistered (held by the guard for 2 s)", "billing", "west-1")
	w.westDC.Deregister("orders-w1")
	w.until(t, "the last instance anywhere is deregistered (held by the guard for 2 s)", "orders", "")
}

// A -dev agent forgets everything and begins with low indexes.
func TestCallsFollowConsulAfterAnIndexReset(t *testing.T) {
	w := newWorld(t, true)
	w.Start()
	port := instance(t, "west-1")
	for range 50 { // drives the index up
		register(w.westDC, "billing-w1", "billing", port)
	}
	w.until(t, "registered", "billing", "west-1")
	load := stand.StartLoad(t.Context(), 50, 10*time.Second, w.call("billing"))
	w.westDC.Kill()
	w.westDC.Restart() // empty: the guard holds what the data path sees alive
	register(w.westDC, "billing-w1", "billing", port)
	other := instance(t, "west-2")
	register(w.westDC, "orders-w1", "orders", other)
	w.until(t, "a service is registered after the index reset", "orders", "west-2")
	rs := load.Stop()
	stand.Figure(t, "index reset: %d calls, %d failed", len(rs), len(rs.Failed()))
	if len(rs.Failed()) > 0 {
		t.Errorf("failures: %s", rs.Errors())
	}
}
