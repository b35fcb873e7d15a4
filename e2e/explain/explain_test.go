package explain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var calls = flag.Int("calls", 2000, "how many calls are made, kept and repeated")

const perSecond = 200

// world is east, whose callers are watched, and north and west, which have billing too.
type world struct {
	t                 *testing.T
	east, north, west *stand.Cluster
	calls             *stand.Calls
	// page is docs/explain.md, host where its commands are typed.
	page *guide.Guide
	host *guide.Host

	mu       sync.Mutex
	answered map[string]string // request ID to the cluster that answered
}

// instance is an HTTP server that says which cluster it is in.
func instance(t *testing.T, cluster string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, cluster)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return ln.Addr().String()
}

func newWorld(t *testing.T) *world {
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "mesh.test"},
		stand.Spec{Name: "north", Cloud: "aws", Region: "us-east-2", Zone: "a", TrustDomain: "mesh.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-central1", Zone: "a", TrustDomain: "mesh.test"})
	w := &world{t: t, east: s.Clusters[0], north: s.Clusters[1], west: s.Clusters[2], answered: map[string]string{}}
	for _, c := range s.Clusters {
		service := stand.Service{Name: "billing.default", Port: "main", Protocol: "http"}
		for range 2 {
			service.Addresses = append(service.Addresses, instance(t, c.Name))
		}
		if c == w.east { // half of it is dead: a part of the calls goes on to the next cluster
			service.Addresses = append(service.Addresses, stand.FreePort(t).String(), stand.FreePort(t).String())
		}
		c.WriteCatalog(t, service)
		for _, g := range c.Gateways {
			g.Section()["explain"] = stand.Object{"share": 1.0, "records": 20_000}
		}
	}
	s.Start()
	w.calls = w.east.Calls(t)
	w.page = guide.ReadDoc(t, "explain.md", stand.Binary(t))
	w.host = &guide.Host{Dir: t.TempDir(), Env: []string{
		"ISTHMUS_API=http://" + w.east.API.String(),
		"ISTHMUS_TOKEN_FILE=" + filepath.Join(w.east.Config["data_dir"].(string), "federation", "api.token"),
	}}
	return w
}

// call asks for billing, and remembers who answered.
func (w *world) call(ctx context.Context, fields ...string) (string, error) {
	who, answer, err := w.calls.Ask(ctx, "billing.default.mesh", fields...)
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	w.answered[answer.Get("X-Request-Id")] = who
	w.mu.Unlock()
	return who, nil
}

// isthmus runs the command against east's federation.
func (w *world) isthmus(args ...string) []byte {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("isthmus %v: %v\n%s", args, err, out)
	}
	return out
}

func (w *world) run(args ...string) ([]byte, error) {
	token := filepath.Join(w.east.Config["data_dir"].(string), "federation", "api.token")
	c := exec.CommandContext(w.t.Context(), stand.Binary(w.t), append(args, "--api", "http://"+w.east.API.String(), "--token-file", token)...)
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	err := c.Run()
	return append(out.Bytes(), problems.Bytes()...), err
}

// settled waits until about the shares that are wanted go to clusters.
func (w *world) settled(want map[string]float64) {
	w.t.Helper()
	stand.Eventually(w.t, time.Minute, "calls settle", func() error {
		got := map[string]float64{}
		for range 200 {
			who, err := w.call(w.t.Context())
			if err != nil {
				return err
			}
			got[who] += 0.005
		}
		for _, name := range []string{"east", "north", "west"} {
			if math.Abs(got[name]-want[name]) > 0.12 {
				return fmt.Errorf("%v, want %v", got, want)
			}
		}
		return nil
	})
}

func TestRealCalls(t *testing.T) {
	w := newWorld(t)
	// Two of four endpoints are 70 % of health.
	w.settled(map[string]float64{"east": 0.7, "north": 0.3})

	load := stand.StartLoad(t.Context(), perSecond, 10*time.Second, func(ctx context.Context) (string, error) { return w.call(ctx) })
	defer func() { load.Stop() }()
	half := time.Duration(*calls) * time.Second / perSecond / 2
	time.Sleep(max(half, 5*time.Second))

	w.explainOne()
	if out := w.isthmus("services", "--capacity", "billing"); !bytes.Contains(out, []byte("2/4")) || !bytes.Contains(out, []byte("north")) {
		t.Errorf("services --capacity says\n%s", out)
	}
	foretold := w.foretell()

	// The death itself: everything of north at once, without a word.
	w.north.Gateways[0].Kill()
	w.north.Federation.Kill()
	died := time.Now()
	time.Sleep(3 * time.Second) // until links have fallen silent
	from := time.Now()
	time.Sleep(max(half, 10*time.Second))
	to := time.Now()
	results := load.Stop()
	after := results.Between(from, to)
	for _, name := range []string{"east", "west", "north"} {
		observed := 100 * float64(after.Who()[name]) / float64(len(after))
		stand.Figure(t, "north dies: %.1f %% of calls to %s foretold, %.1f %% of %d seen", foretold[name], name, observed, len(after))
		if math.Abs(observed-foretold[name]) > 3 {
			t.Errorf("%s: %.1f %% foretold, %.1f %% seen", name, foretold[name], observed)
		}
	}
	stand.Figure(t, "north dies: %d of %d calls failed within 3 s", len(results.Between(died, from).Failed()), len(results.Between(died, from)))
	w.replayAll()
	w.withoutTheFederation()
}

// explainOne explains a call with a traceparent of the caller's own.
func (w *world) explainOne() {
	t := w.t
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	who, err := w.call(t.Context(), "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01", "X-Request-Id", "the-one")
	if err != nil {
		t.Fatal(err)
	}
	var explained resource.Calls
	stand.Eventually(t, 10*time.Second, "the call is kept", func() error {
		out, err := w.run("explain", "--trace", trace, "--json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return json.Unmarshal(out, &explained)
	})
	if len(explained.Trails) != 1 {
		t.Fatalf("%+v", explained)
	}
	call := explained.Trails[0]
	last := call.Attempts[len(call.Attempts)-1]
	if call.RequestID != "the-one" || string(last.Cluster) != who || !last.Exact || last.Outcome != "ok" || last.Ledger.Why == "" {
		t.Errorf("answered by %s, explained as %+v", who, call)
	}
	out := w.isthmus("explain", "--request", "the-one")
	for _, want := range []string{"call to billing.default", "attempt 1", "tier 0", "excluded", "trace " + trace} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the explanation lacks %q:\n%s", want, out)
		}
	}
	if local := w.isthmus("explain", "--request", "the-one", "--admin", w.east.Gateways[0].Admin.String()); !bytes.Contains(local, []byte("call to billing.default")) {
		t.Errorf("the gateway says otherwise:\n%s", local)
	}
	w.prints("explain", "billing.default port main goes to")
	w.prints("real", "call to billing.default", "9f2c...", "the-one", "4bf92f35...", trace, "127.0.0.1:7481", w.east.Gateways[0].Admin.String())
	w.prints("file", "come out as they were made", "9f2c...", "the-one")
	if out, err := w.run("explain", "--request", "nobody"); err == nil || !bytes.Contains(out, []byte("no gateway here has kept such a call")) {
		t.Errorf("%v: %s", err, out)
	}
}

// foretell simulates north's death, in percent of calls by cluster.
func (w *world) foretell() map[string]float64 {
	t := w.t
	var s resource.Simulation
	if err := json.Unmarshal(w.isthmus("simulate", "--down", "north", "--json"), &s); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"rules/billing.yaml": "traffic_policies:\n  - {name: billing, services: [billing.default], algorithm: round_robin}\n",
		"next-year.yaml":     "prices:\n  - {cloud: aws, direction: egress, per_gb: 0.1, valid_from: 2026-01-01}\n",
	} {
		path := filepath.Join(w.host.Dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.prints("simulate", "west (down)", "gcp-us-central1", "west", "gcp-europe-west1", "north")
	for i := range s.Services {
		x := &s.Services[i]
		if x.Service.String() != "billing.default" {
			continue
		}
		stand.Figure(t, "the demand of the last minute is %.0f calls/s", x.PerSecond)
		out := map[string]float64{}
		for _, p := range x.AtOnce {
			out[string(p.Cluster)] += p.Share
		}
		return out
	}
	t.Fatalf("billing is not in %+v", s)
	return nil
}

// prints runs a block of docs/explain.md, which must print what is wanted.
func (w *world) prints(block, want string, replace ...string) {
	w.t.Helper()
	if out := w.page.Run(block, w.host, replace...); !strings.Contains(out, want) {
		w.t.Errorf("block %q of the page printed no %q:\n%s", block, want, out)
	}
}

// replayAll reads every call that east's gateway kept: each decision came out as it
// was made, and each call went where it was really answered.
func (w *world) replayAll() {
	t := w.t
	var before uint64
	kept, decisions, inexact, elsewhere, repeated := 0, 0, 0, 0, 0
	for {
		query := "/debug/calls?limit=100&saved=true"
		if before > 0 {
			query += fmt.Sprint("&before=", before)
		}
		body, err := stand.Get("http://" + w.east.Gateways[0].Admin.String() + query)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			route.SavedTrails
			Before uint64
		}
		if err := json.Unmarshal(body, &page); err != nil {
			t.Fatal(err)
		}
		inGateway := exact(page.Trails)
		done, err := page.Repeat() // by what was saved alone
		if err != nil {
			t.Fatal(err)
		}
		repeated += done.Exact
		if inGateway != done.Exact || done.Inexact+done.Unsaved > 0 {
			t.Errorf("%d decisions are exact in the gateway, from its record %+v", inGateway, done)
		}
		for i := range page.Trails {
			call := &page.Trails[i]
			kept++
			for k := range call.Attempts {
				decisions++
				if !call.Attempts[k].Exact {
					inexact++
					t.Errorf("inexact: %+v", call.Attempts[k])
				}
			}
			w.mu.Lock()
			who, ok := w.answered[call.RequestID]
			w.mu.Unlock()
			if n := len(call.Attempts); ok && (n == 0 || string(call.Attempts[n-1].Ledger.Choice.Cluster) != who) {
				elsewhere++
				t.Errorf("answered by %s: %+v", who, call)
			}
		}
		if before = page.Before; before == 0 {
			break
		}
	}
	stand.Figure(t, "%d kept calls, %d decisions repeated while evidence changed: %d differ, %d say another cluster than answered; %d come out the same from what was saved of them", kept, decisions, inexact, elsewhere, repeated)
	if kept < *calls*9/10 {
		t.Errorf("only %d of about %d calls were kept", kept, *calls)
	}
}

// exact counts the decisions that the gateway repeated exactly.
func exact(trails []route.Trail) (n int) {
	for i := range trails {
		for k := range trails[i].Attempts {
			if trails[i].Attempts[k].Exact {
				n++
			}
		}
	}
	return n
}

// withoutTheFederation sets a switch with the federation dead, and takes it back.
func (w *world) withoutTheFederation() {
	t := w.t
	w.east.Federation.Kill()
	dir := filepath.Join(w.east.Gateways[0].Config["data_dir"].(string), "gateway")
	flip := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), stand.Binary(t), append([]string{"gateway", "switch", "--data-dir", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	flip("freeze", "--reason", "its federation is dead")
	flip("pin", "west", "--reason", "and half of it, too")
	w.settled(map[string]float64{"west": 1})
	body, err := stand.Get("http://" + w.east.Gateways[0].Admin.String() + "/readyz")
	if err != nil || !bytes.Contains(body, []byte("pinned to west")) || !bytes.Contains(body, []byte("frozen by")) {
		t.Errorf("%v: %s", err, body)
	}
	flip("pin", "--off")
	flip("freeze", "--off")
	w.settled(map[string]float64{"east": 0.7, "west": 0.3})
	w.prints("switch", "", "gateway switch ", "gateway switch --data-dir "+dir+" ", "gcp-us-central1", "west")
	w.settled(map[string]float64{"west": 1})
}
