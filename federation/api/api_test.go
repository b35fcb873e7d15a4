package api_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/audit"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/drill"
	"github.com/isthmus-mesh/isthmus/federation/history"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/rulebook"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	// A run of some tests produces some problems only.
	if f := flag.Lookup("test.run"); code == 0 && f.Value.String() == "" && flag.Lookup("test.fuzz").Value.String() == "" && !testing.Short() {
		code = everyCodeSeen()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code) //nolint:forbidigo // the main of the tests
}

// stand is a server on both of its listeners, with real feeds, a real rulebook
// and a real store behind it.
type stand struct {
	lists    api.Lists
	store    store.Store
	history  *history.Log
	book     *rulebook.Book
	backend  *backend
	registry *prometheus.Registry
	token    string
	socket   string
	address  string
	socketed *client.Client // over the Unix socket
	tcp      *client.Client // over loopback, with the token
	stop     func()         // stops both listeners and waits
	server   *api.Server
	audit    *audit.Log
	dir      string
}

const feedBase = 7 << 32

func deepFeed[T any]() *feed.Feed[T] {
	return feed.New(feedBase, func(a, b T) bool { return reflect.DeepEqual(a, b) })
}

func newStand(t *testing.T, change ...func(*api.Options)) *stand {
	t.Helper()
	dir := t.TempDir()
	s := &stand{registry: prometheus.NewRegistry(), backend: &backend{}, socket: filepath.Join(dir, "api.sock")}
	bolt, err := store.OpenBolt(store.BoltOptions{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bolt.Close() })
	s.store = bolt
	if s.history, err = history.New(t.Context(), history.Options{Store: bolt, Kinds: rulebook.Kinds(), Base: feedBase}); err != nil {
		t.Fatal(err)
	}
	s.book, err = rulebook.New(t.Context(), rulebook.Options{Store: s.history, Base: feedBase, Config: policy.Set{Exports: []policy.Export{
		{Name: "from-file", Services: []policy.ServicePattern{"web.default"}, To: []string{"*"}},
	}}, ConfigPeers: []policy.Peer{{Name: "west", ID: "spiffe://west.test/isthmus/cluster/west"}}})
	if err != nil {
		t.Fatal(err)
	}
	s.lists = api.Lists{
		Clusters: deepFeed[resource.Cluster](), Peers: deepFeed[resource.Peer](), Services: deepFeed[resource.Service](),
		Endpoints: deepFeed[resource.Endpoint](), Gateways: deepFeed[resource.Gateway](), Links: deepFeed[resource.Link](),
		Sources: deepFeed[resource.Source](), Events: deepFeed[resource.Event](), Replicas: deepFeed[resource.Replica](),
	}
	if s.token, _, err = api.LoadToken(filepath.Join(dir, "api.token")); err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	if s.audit, err = audit.Open(audit.Options{Dir: filepath.Join(dir, "audit")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.audit.Close() })
	opts := api.Options{
		Backend: s.backend, Lists: s.lists, Rules: s.book, History: s.history, Token: s.token, Registry: s.registry, Audit: s.audit, Answers: bolt,
	}
	for _, f := range change {
		f(&opts)
	}
	server, err := api.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.server = server
	unix, err := api.ListenSocket(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = tcp.Addr().String()
	stopUnix, stopTCP := serve(t, server, unix, api.Socket), serve(t, server, tcp, api.Loopback)
	s.stop = func() { stopUnix(); stopTCP() }
	t.Cleanup(s.stop)
	s.socketed = newClient(t, client.Options{Socket: s.socket})
	s.tcp = newClient(t, client.Options{URL: "http://" + s.address, Token: s.token})
	return s
}

func serve(t *testing.T, server *api.Server, l net.Listener, way api.Way) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l, way) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func newClient(t *testing.T, opts client.Options) *client.Client {
	t.Helper()
	c, err := client.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// services fills the list of services with svc-0000.default and so on.
func (s *stand) services(n int) {
	entries := make([]feed.Entry[resource.Service], n)
	for i := range entries {
		name := catalog.MustServiceName(fmt.Sprintf("svc-%04d", i))
		entries[i] = feed.Entry[resource.Service]{Key: name.String(), Item: resource.Service{Name: name, Ports: []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}}}
	}
	s.lists.Services.Replace(entries)
}

// reply is one answer over loopback.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) problem(t *testing.T) resource.Problem {
	t.Helper()
	var p resource.Problem
	if ct := r.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("content type %q of status %d, want a problem: %s", ct, r.status, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != r.status {
		t.Errorf("problem says status %d, the answer %d", p.Status, r.status)
	}
	return p
}

// ask sends one request over loopback with the token; header lines are "K: V".
func (s *stand) ask(t *testing.T, method, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range header {
		k, v, _ := strings.Cut(h, ": ")
		if k == "Host" {
			req.Host = v
		} else if v == "" {
			req.Header.Del(k)
		} else {
			req.Header.Set(k, v)
		}
	}
	return s.do(t, req)
}

func (s *stand) do(t *testing.T, req *http.Request) reply {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req) //nolint:bodyclose // readReply closes it
	if err != nil {
		t.Fatal(err)
	}
	return readReply(t, resp)
}

func readReply(t *testing.T, resp *http.Response) reply {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p resource.Problem
	if json.Unmarshal(data, &p) == nil && p.Type != "" {
		seenCodes.Store(strings.TrimPrefix(p.Type, resource.ProblemPrefix), true)
	}
	return reply{resp.StatusCode, resp.Header, string(data)}
}

// backend stands for the federation behind the API: what package federation
// answers is tested there.
type backend struct {
	explain  atomic.Pointer[api.ExplainError]
	asked    atomic.Pointer[resource.ExplainQuery]
	calls    atomic.Pointer[resource.CallQuery]
	change   atomic.Pointer[simulate.Change]
	notReady atomic.Pointer[[]string]
	drilling atomic.Bool
}

func (b *backend) Version() resource.Version {
	return resource.Version{API: "v1", Build: "test", Cluster: "east", ID: "spiffe://td/isthmus/cluster/east"}
}

func (b *backend) Trust() resource.Trust {
	return resource.Trust{TrustDomain: "td", SVID: resource.SVID{ID: "spiffe://td/x"}, Authorities: []resource.Authority{
		{TrustDomain: "td", KeyID: "ab", From: "static", Users: []resource.TrustUser{{Kind: "federation", Name: "east", Authority: "ab"}}},
	}}
}

func (b *backend) Calls(_ context.Context, q resource.CallQuery) (*resource.Calls, error) {
	b.calls.Store(&q)
	if err := b.explain.Load(); err != nil {
		return nil, err
	}
	return &resource.Calls{Cluster: "east", Trails: []route.Trail{{
		Cluster: "east", Gateway: "gw-1", Way: "http", TraceID: q.TraceID, RequestID: q.RequestID, Service: catalog.MustServiceName("web"), Reason: "ok",
		Kept: route.KeptTraced, Attempts: []route.TrailAttempt{{Cluster: "west", Outcome: "ok", Exact: true, Ledger: &route.Ledger{Plan: route.LedgerPlan{Cluster: "east"}, Why: "because"}}},
	}}}, nil
}

func (b *backend) Recording() (*simulate.Recording, error) {
	return &simulate.Recording{Version: simulate.RecordingVersion, Gateways: []simulate.Gateway{}}, nil
}

func (b *backend) Simulate(_ context.Context, c simulate.Change) (*resource.Simulation, error) {
	b.change.Store(&c)
	return simulate.Simulate(&simulate.Recording{}, c, 1), nil
}

func (b *backend) Explain(_ context.Context, q resource.ExplainQuery) (*resource.Explanation, error) {
	b.asked.Store(&q)
	if err := b.explain.Load(); err != nil {
		return nil, err
	}
	return &resource.Explanation{Cluster: "east", Gateway: "gw-1", Ledger: &route.Ledger{
		Request: route.LedgerRequest{Service: q.Service, Random: 1<<63 + 1}, Plan: route.LedgerPlan{Cluster: "east"}, Why: "because",
	}}, nil
}

func (b *backend) Release(_ context.Context, source string) (int, error) {
	if source != "consul" {
		return 0, fmt.Errorf("source %q: %w", source, api.ErrUnknownSource)
	}
	return 3, nil
}

func (b *backend) Degraded() []string { return nil }

// Drills know one drill, which is under way once it was ordered.
func (b *backend) StartDrill(_ context.Context, r *resource.DrillRequest, dryRun bool) (*resource.Drill, error) {
	o, err := drill.OrderOf(r)
	if err != nil {
		return nil, err
	}
	out := drillOf("", resource.DrillPlanned)
	out.Share, out.For = float64(o.Share)/100, o.For
	if dryRun {
		out.Simulation = &resource.Simulation{Cluster: "east", Clusters: []resource.SimulatedCluster{}, Services: []resource.SimulatedService{}}
		return out, nil
	}
	if b.drilling.Swap(true) {
		return nil, fmt.Errorf("drill 1: %w", api.ErrDrillRuns)
	}
	out.ID, out.State = "20261130t120000-3f6c", resource.DrillRunning
	return out, nil
}

func drillOf(id, state string) *resource.Drill {
	part := resource.DrillPart{Cluster: "north", Predicted: 100, Observed: 99, PredictedTook: time.Millisecond, DrillCalls: resource.DrillCalls{Calls: 9, Failed: 1, Late: 1, Took: time.Millisecond}}
	return &resource.Drill{
		ID: id, Cluster: "east", State: state, Down: []catalog.ClusterName{"west"}, Zones: []string{"aws/us-east-1/a"}, Share: 5, For: time.Minute, Moment: "settled",
		Gateways: []resource.DrillGateway{{Name: "gw-1", State: "running", Calls: 9}},
		Report: resource.DrillReport{
			Drilled: part.DrillCalls, Spared: []resource.DrillSpared{{Reason: "residency", Calls: 1}}, Split: []resource.DrillPart{part}, Error: 1, Noise: 0.5,
			Services: []resource.DrillService{{Service: catalog.MustServiceName("web"), Port: "http", Split: []resource.DrillPart{part}}},
		},
	}
}

func (b *backend) Drill(_ context.Context, id string) (*resource.Drill, error) {
	if id != "20261130t120000-3f6c" {
		return nil, fmt.Errorf("drill %s: %w", id, store.ErrNotFound)
	}
	return drillOf(id, resource.DrillRunning), nil
}

func (b *backend) StopDrill(ctx context.Context, id string) (*resource.Drill, error) {
	b.drilling.Store(false)
	return b.Drill(ctx, id)
}

func (b *backend) Drills(context.Context) (resource.Drills, error) {
	return resource.Drills{Items: []resource.Drill{*drillOf("20261130t120000-3f6c", resource.DrillOver)}}, nil
}

// Would counts what differs: what it means is tested in package federation.
func (b *backend) Would(_ context.Context, o rulebook.Outlook) (resource.Impact, error) {
	return resource.Impact{PeersTotal: len(o.Peers), ServicesTotal: len(o.Set.Exports)}, nil
}

func (b *backend) Capacities(service catalog.ServiceName) resource.Capacities {
	if service.IsZero() {
		service = catalog.MustServiceName("web")
	}
	return resource.Capacities{Gateways: 1, Total: 1, Items: []resource.ClusterCapacity{{Service: service, Port: "http", Cluster: "west", Ready: 2, Total: 3, Known: true, Capacity: 40}}}
}

func (b *backend) Spend(service catalog.ServiceName) resource.Spend {
	s := resource.ServiceSpend{
		Service: catalog.MustServiceName("web"), Spent: 1, Estimate: 2,
		Paths: []resource.PathSpend{{Cluster: "west", Sent: 10, Received: 20, Spent: 1, Estimate: 2}},
	}
	out := resource.Spend{Month: "2026-11", Services: []resource.ServiceSpend{}}
	if service.IsZero() || service == s.Service {
		out.Services, out.Total = append(out.Services, s), 1
	}
	return out
}

func (b *backend) Callers(service catalog.ServiceName, d time.Duration) resource.Callers {
	if service.IsZero() {
		service = catalog.MustServiceName("web")
	}
	return resource.Callers{Window: d, Items: []route.Sighting{{SightingKey: route.SightingKey{Service: service, Caller: "spiffe://a.test/web", Allowed: true, Reason: "allowed"}, Count: 3}}}
}

func (b *backend) NotReady() []string {
	if r := b.notReady.Load(); r != nil {
		return *r
	}
	return nil
}
