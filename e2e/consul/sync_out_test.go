package consul_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/miekg/dns"

	"github.com/isthmus-mesh/isthmus/discovery/consul/consultest"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// syncOut is an east of two federation processes that register imports in its own
// Consul, and a west that has the services in its.
type syncOut struct {
	*world
	processes []*stand.Process
	dirs      []string
	apis      []netip.AddrPort
}

func newSyncOut(t *testing.T) *syncOut {
	t.Helper()
	binary := tools.Require(t, "consul")
	s := stand.New(t,
		stand.Spec{
			Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test",
			TCP: map[string]string{"billing": "billing.default", "orders": "orders.default"},
		},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	w := &syncOut{world: &world{
		Stand: s, east: s.Clusters[0], west: s.Clusters[1],
		eastDC: consultest.Start(t, consultest.Options{Binary: binary, Datacenter: "east"}),
		westDC: consultest.Start(t, consultest.Options{Binary: binary, Datacenter: "west"}),
	}}
	for c, dc := range map[*stand.Cluster]*consultest.Agent{w.east: w.eastDC, w.west: w.westDC} {
		c.Section()["sources"] = []any{stand.Object{
			"consul": stand.Object{"address": dc.Address()}, "allow": []any{"127.0.0.0/8"}, "guard": stand.Object{"window": "2s"},
		}}
	}
	f := w.east.Section()
	f["imports"] = []any{} // the test makes them by the API
	f["sync_out"] = stand.Object{"consul": stand.Object{
		"address": w.eastDC.Address(), "loopback": true, "http": true, "session_ttl": "2s", "tags": []any{"isthmus"},
	}}
	f["store"] = stand.Object{"replica": "r1", "consul": stand.Object{"address": w.eastDC.Address(), "session_ttl": "2s"}}
	w.east.Config["data_dir"] = filepath.Join(s.Dir, "east", "data-r1")

	second := clone(t, w.east.Config)
	sf, mesh, apiAt := second["federation"].(stand.Object), stand.FreePort(t), stand.FreePort(t)
	second["data_dir"] = filepath.Join(s.Dir, "east", "data-r2")
	sf["listen"], sf["api"] = mesh.String(), stand.Object{"address": apiAt.String()}
	sf["store"].(stand.Object)["replica"] = "r2"
	path := filepath.Join(s.Dir, "east", "r2.yaml")
	data, err := json.Marshal(second)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	stand.InitializeStore(t, path)
	w.processes = []*stand.Process{w.east.Federation, stand.NewProcess(t, filepath.Join(s.Dir, "logs"), "east-federation-r2", stand.Binary(t), "run", "--config", path)}
	w.dirs = []string{filepath.Join(s.Dir, "east", "data-r1"), filepath.Join(s.Dir, "east", "data-r2")}
	w.apis = []netip.AddrPort{w.east.API, apiAt}
	for _, g := range w.east.Gateways {
		g.Section()["federation"] = []any{w.east.Mesh.String(), mesh.String()}
	}
	return w
}

func clone(t *testing.T, o stand.Object) stand.Object {
	t.Helper()
	data, err := json.Marshal(o)
	var out stand.Object
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// api is a client of the east's process i.
func (w *syncOut) api(t *testing.T, i int) *client.Client {
	t.Helper()
	return apiOf(t, w.dirs[i], w.apis[i])
}

func apiOf(t *testing.T, dir string, at netip.AddrPort) *client.Client {
	t.Helper()
	var c *client.Client
	stand.Eventually(t, within, "the api answers", func() error {
		token, err := os.ReadFile(filepath.Join(dir, "federation", "api.token"))
		if err != nil {
			return err
		}
		if c, err = client.New(client.Options{URL: "http://" + at.String(), Token: strings.TrimSpace(string(token))}); err != nil {
			return err
		}
		_, err = c.Version(t.Context())
		return err
	})
	t.Cleanup(c.Close)
	return c
}

// resolve is what the east's Consul DNS answers for NAME.service.consul.
func (w *syncOut) resolve(ctx context.Context, name string) (addresses []string, err error) {
	q := new(dns.Msg)
	q.SetQuestion(name+".service.consul.", dns.TypeSRV)
	answer, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeContext(ctx, q, w.eastDC.DNS())
	if err != nil {
		return nil, err
	}
	ips := map[string]string{}
	for _, rr := range answer.Extra {
		if r, ok := rr.(*dns.A); ok {
			ips[r.Hdr.Name] = r.A.String()
		}
	}
	for _, rr := range answer.Answer {
		if r, ok := rr.(*dns.SRV); ok {
			addresses = append(addresses, fmt.Sprintf("%s:%d", ips[r.Target], r.Port))
		}
	}
	return addresses, nil
}

// ask calls http://NAME.service.consul/ as a program would that knows nothing but
// Consul's DNS.
func (w *syncOut) ask(ctx context.Context, name string) (who string, err error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		at, err := w.resolve(ctx, name)
		if err == nil && len(at) == 0 {
			err = errors.New("dns has no answer")
		}
		if err != nil {
			return nil, err
		}
		return new(net.Dialer).DialContext(ctx, network, at[0])
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+name+".service.consul/", nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second, Transport: transport}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Isthmus-Reason"))
	}
	return string(body), err
}

func (w *syncOut) answered(t *testing.T, what, name, who string) {
	t.Helper()
	began := time.Now()
	stand.Eventually(t, within, what, func() error {
		got, err := w.ask(t.Context(), name)
		if err == nil && got != who {
			err = fmt.Errorf("answered by %q", got)
		}
		return err
	})
	stand.Figure(t, "sync-out: %s after %.1f s", what, time.Since(began).Seconds())
}

func (w *syncOut) gone(t *testing.T, what, name string) {
	t.Helper()
	stand.Eventually(t, within, what, func() error {
		list, _, err := w.eastDC.Client().Health().Service(name, "", false, nil)
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("%s is registered at %s", name, list[0].Service.Address)
		}
		return err
	})
}

func TestConsulAnswersWithTheGatewayForImports(t *testing.T) {
	w := newSyncOut(t)
	register(w.westDC, "billing-w1", "billing", instance(t, "west-billing"))
	register(w.westDC, "web-w1", "web", instance(t, "west-web"))
	register(w.westDC, "orders-w1", "orders", instance(t, "west-orders"))
	register(w.eastDC, "orders-e1", "orders", instance(t, "east-orders")) // a local service of an imported name
	w.processes[1].Start()
	w.Start()
	east, second := w.api(t, 0), w.api(t, 1)
	rule := resource.Import{Import: policy.Import{Name: "all", From: "west", Services: []policy.ServicePattern{"*"}}}
	stand.Eventually(t, within, "the import is made", func() error {
		_, err := east.Imports().Create(t.Context(), rule, false)
		return err
	})
	w.answered(t, "a name in Consul's DNS leads through the gateway's TCP way in to the other cluster", "billing", "west-billing")
	w.answered(t, "a name in Consul's DNS leads through the gateway's HTTP way in to the other cluster", "web", "west-web")
	if at, err := w.resolve(t.Context(), "billing"); err != nil || len(at) != 1 || at[0] != w.east.Gateways[0].TCP["billing"].String() {
		t.Errorf("billing.service.consul is at %v, %v; want the way in", at, err)
	}
	w.answered(t, "the name of a real local service stays its own", "orders", "east-orders")
	// One that has just started and has not heard the peer yet cannot take over.
	for _, c := range []*client.Client{east, second} {
		stand.Eventually(t, within, "both processes know what the west offers", func() error {
			s, err := c.Services().Get(t.Context(), "billing.default")
			if err == nil && len(s.Remote) == 0 {
				err = errors.New("nothing of the west is known")
			}
			return err
		})
	}
	w.noLoop(t, east)

	// The writer is killed, and the other takes over; the name answers all the time.
	holder := w.holder(t)
	load := stand.StartLoad(t.Context(), 20, 10*time.Second, func(ctx context.Context) (string, error) { return w.ask(ctx, "billing") })
	began := time.Now()
	w.processes[holder].Kill()
	other := second
	if holder == 1 {
		other = east
	}
	stand.Eventually(t, within, "the other process is the writer", func() error {
		if got := w.writer(t); got != fmt.Sprint("r", 2-holder) {
			return fmt.Errorf("writer %q", got)
		}
		return nil
	})
	moved := time.Since(began).Seconds()
	// What changes now is the new writer's work: the remote instance goes away.
	w.westDC.SetTTL("web-w1-ttl", api.HealthCritical)
	stand.Eventually(t, within, "an import that is nowhere to be reached is no answer", func() error {
		at, err := w.resolve(t.Context(), "web")
		if err == nil && len(at) > 0 {
			err = fmt.Errorf("answered %v", at)
		}
		return err
	})
	w.westDC.SetTTL("web-w1-ttl", api.HealthPassing)
	w.answered(t, "it answers again once it can be reached", "web", "west-web")
	rs := load.Stop()
	stand.Figure(t, "sync-out: writer killed: another took over after %.1f s; %d calls by Consul's DNS meanwhile, %d failed", moved, len(rs), len(rs.Failed()))
	if len(rs.Failed()) > 0 {
		t.Errorf("failed: %s", rs.Errors())
	}

	// The local service goes: the import takes the name.
	w.eastDC.Deregister("orders-e1")
	w.answered(t, "the name of a local service that is gone leads to the other cluster", "orders", "west-orders")
	w.noLoop(t, other)

	// The import is removed: nothing of it stays.
	stand.Eventually(t, within, "the import is removed", func() error {
		return other.Imports().Delete(t.Context(), "all", "", false)
	})
	began = time.Now()
	for _, name := range []string{"billing", "web", "orders"} {
		w.gone(t, name+" is gone from Consul with the import", name)
	}
	stand.Figure(t, "sync-out: import removed: its entries were gone after %.1f s", time.Since(began).Seconds())
}

// noLoop: the east's own source has not taken the entries for services of its own,
// and the west is offered nothing back.
func (w *syncOut) noLoop(t *testing.T, east *client.Client) {
	t.Helper()
	s, err := east.Services().Get(t.Context(), "billing.default")
	if err != nil || s.Endpoints != 0 || len(s.Remote) != 1 || len(s.ExportedTo) != 0 {
		t.Errorf("in the east: %+v, %v", s, err)
	}
	west := apiOf(t, filepath.Join(w.Dir, "west", "data"), w.west.API)
	s, err = west.Services().Get(t.Context(), "billing.default")
	if err != nil || len(s.Remote) != 0 {
		t.Errorf("in the west: %+v, %v", s, err)
	}
}

// writer is who holds the lock, as its value says; "" while nobody does.
func (w *syncOut) writer(t *testing.T) string {
	t.Helper()
	pair, _, err := w.eastDC.Client().KV().Get("isthmus/sync-out/east", nil)
	if err != nil || pair == nil || pair.Session == "" {
		return ""
	}
	return string(pair.Value)
}

func (w *syncOut) holder(t *testing.T) int {
	t.Helper()
	switch got := w.writer(t); got {
	case "r1":
		return 0
	case "r2":
		return 1
	default:
		t.Fatalf("the writer is %q", got)
		return -1
	}
}
