package drill_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	perSecond = 200
	patience  = 20 * time.Second
	within    = time.Minute
)

// world is east, whose callers are drilled, and north and west, which have its services,
// too.
type world struct {
	t                 *testing.T
	east, north, west *stand.Cluster
	calls             *stand.Calls
	// broken makes north's orders answer 503, which no health check sees.
	broken atomic.Bool
}

func (w *world) instance(cluster string, broken *atomic.Bool) string {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if broken != nil && broken.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(rw, cluster)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	w.t.Cleanup(func() { _ = srv.Close(); <-done })
	return ln.Addr().String()
}

func newWorld(t *testing.T) *world {
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "mesh.test"},
		stand.Spec{Name: "north", Cloud: "aws", Region: "us-east-2", Zone: "a", TrustDomain: "mesh.test"},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-central1", Zone: "a", TrustDomain: "mesh.test"})
	w := &world{t: t, east: s.Clusters[0], north: s.Clusters[1], west: s.Clusters[2]}
	w.calls = w.east.Calls(t)
	for _, c := range s.Clusters {
		billing := stand.Service{Name: "billing.default", Port: "main", Protocol: "http", Addresses: []string{w.instance(c.Name, nil), w.instance(c.Name, nil)}}
		orders := stand.Service{Name: "orders.default", Port: "main", Protocol: "http"}
		switch c {
		case w.east:
			orders.Addresses = []string{w.instance(c.Name, nil)}
		case w.north:
			orders.Addresses = []string{w.instance(c.Name, &w.broken)}
		}
		c.WriteCatalog(t, billing, orders)
	}
	w.east.Section()["traffic_policies"] = []any{stand.Object{
		"name": "billing", "services": []any{"billing.default"}, "weights": stand.Object{"east": 80, "north": 14, "west": 6},
	}}
	s.Start()
	return w
}

func (w *world) call(service string) func(context.Context) (string, error) {
	return w.calls.To(service + ".default.mesh")
}

// isthmus runs the command against east's federation, and returns its output and exit code.
func (w *world) isthmus(args ...string) (string, int) {
	w.t.Helper()
	token := filepath.Join(w.east.Config["data_dir"].(string), "federation", "api.token")
	c := exec.CommandContext(w.t.Context(), stand.Binary(w.t), append(args, "--api", "http://"+w.east.API.String(), "--token-file", token)...)
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		return out.String() + problems.String(), c.ProcessState.ExitCode()
	}
	return out.String(), 0
}

// drill runs a drill to its end and returns what became of it.
func (w *world) drill(args ...string) (resource.Drill, int) {
	w.t.Helper()
	out, code := w.isthmus(append([]string{"drill", "--json", "--reason", "the test"}, args...)...)
	var d resource.Drill
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&d); err != nil {
		w.t.Fatalf("isthmus drill %v: exit code %d: %s", args, code, out)
	}
	return d, code
}

// ready waits until a gateway of east takes part, by what a dry run says.
func (w *world) ready(service string, names ...string) resource.Drill {
	w.t.Helper()
	var d resource.Drill
	stand.Eventually(w.t, within, "a drill is predicted", func() error {
		out, _ := w.isthmus("drill", "--down", "east", "--service", service, "--dry-run", "--json")
		d = resource.Drill{}
		if err := json.NewDecoder(strings.NewReader(out)).Decode(&d); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if len(d.Report.Services) != 1 || d.State != resource.DrillPlanned {
			return fmt.Errorf("%+v", d.Report)
		}
		for _, name := range names {
			found := false
			for _, p := range d.Report.Split {
				found = found || string(p.Cluster) == name && p.Predicted > 0
			}
			if !found {
				return fmt.Errorf("%s gets nothing: %+v", name, d.Report.Split)
			}
		}
		return nil
	})
	return d
}

func TestDrills(t *testing.T) {
	w := newWorld(t)
	stand.Eventually(t, within, "east calls all three", func() error {
		seen := map[string]bool{}
		for range 100 {
			who, err := w.call("billing")(t.Context())
			if err != nil {
				return err
			}
			seen[who] = true
		}
		if len(seen) < 3 {
			return fmt.Errorf("%v", seen)
		}
		return nil
	})
	t.Run("predicted and observed", w.healthy)
	t.Run("as the page says", w.page)
	t.Run("what is broken harms few", w.secretlyBroken)
	t.Run("over no death of a gateway", w.gatewayDies)
	t.Run("over no death of the federation", w.federationDies)

	out, _ := w.isthmus("history", "--kind", "drills")
	if n := strings.Count(out, "create drills/"); n < 6 {
		t.Errorf("the history has %d drills that began, want 6 at least:\n%s", n, out)
	}
	for _, want := range []string{"the test", "drill over", "drill aborted: drilled_worse", "drill aborted: gateway_restarted", "drill aborted: federation_restarted"} {
		if !strings.Contains(strings.ReplaceAll(out, "ejected", "drilled_worse"), want) {
			t.Errorf("the history does not say %q:\n%s", want, out)
		}
	}
	if out, code := w.isthmus("history", "verify"); code != 0 {
		t.Errorf("the chain: %s", out)
	}
}

func (w *world) healthy(t *testing.T) {
	load := stand.StartLoad(t.Context(), perSecond, patience, w.call("billing"))
	time.Sleep(3 * time.Second) // demand
	w.ready("billing.default", "north", "west")
	before := time.Now()
	d, code := w.drill("--down", "east", "--service", "billing.default", "--share", "80%", "--beyond", "--for", "20s")
	rs := load.Stop().Between(before, time.Now())
	r := d.Report
	stand.Figure(t, "drill of a lost cluster, %d calls drilled of %d: the split differs from the predicted by %.2f points (by chance up to %.2f); %d calls failed",
		r.Drilled.Calls, len(rs), r.Error, r.Noise, len(rs.Failed()))
	for _, p := range r.Split {
		stand.Figure(t, "drill, to %s: predicted %.1f %% in %v, observed %.1f %% in %v", p.Cluster, p.Predicted, p.PredictedTook, p.Observed, p.Took)
	}
	if code != 0 || d.State != resource.DrillOver || d.End != "over" {
		t.Fatalf("exit code %d: %s, %s, %s", code, d.State, d.End, d.Detail)
	}
	if len(rs.Failed()) > 0 || r.Drilled.Failed > 0 {
		t.Errorf("calls failed: %s", rs.Errors())
	}
	if r.Drilled.Calls < 2000 {
		t.Errorf("%d calls were drilled, want thousands", r.Drilled.Calls)
	}
	if r.Error > 3+r.Noise { // what chance adds is no fault of the prediction
		t.Errorf("the split differs by %.2f points: %+v", r.Error, r.Split)
	}
	// Callers saw what the report says: 80 % of the calls were drilled, and a fifth of the
	// rest goes to the two anyway.
	away := 0
	for _, x := range rs {
		if x.Who != "east" {
			away++
		}
	}
	if n := float64(r.Drilled.Calls); float64(away) < n || float64(away) > n+float64(len(rs))*0.2 {
		t.Errorf("%d calls of %d went elsewhere, the report has %d drilled", away, len(rs), r.Drilled.Calls)
	}
	out, _ := w.isthmus("drill", "show", d.ID)
	if !strings.Contains(out, "PREDICTED") || !strings.Contains(out, "the split differs by") {
		t.Errorf("drill show: %s", out)
	}
	if _, err := w.call("billing")(t.Context()); err != nil {
		t.Error(err)
	}
}

// page runs the commands of docs/drill.md.
func (w *world) page(t *testing.T) {
	g := guide.ReadDoc(t, "drill.md", stand.Binary(t))
	h := &guide.Host{
		Dir: t.TempDir(),
		Env: []string{
			"ISTHMUS_API=http://" + w.east.API.String(),
			"ISTHMUS_TOKEN_FILE=" + filepath.Join(w.east.Config["data_dir"].(string), "federation", "api.token"),
		},
		Replace: []string{"gcp-us-central1", "north", "billing.shop", "billing.default", "aws/us-east-1/use1-az4", "aws/us-east-1/a"},
	}
	load := stand.StartLoad(t.Context(), perSecond, patience, w.call("billing"))
	defer load.Stop()
	var out string
	stand.Eventually(t, within, "a drill that nothing on this machine ends", func() (err error) {
		out, err = g.Try("drill", h, "--for 10m", "--for 5s")
		return err
	})
	if !strings.Contains(out, "as if north were lost") || !strings.Contains(out, "over") {
		t.Errorf("printed %s", out)
	}
	out = g.Run("zone", h)
	id := regexp.MustCompile(`\d{8}t\d{6}-\w{4}`).FindString(out)
	if id == "" {
		t.Fatalf("no drill is named in %s", out)
	}
	if out := g.Run("one", h, "20261130t073512-3f6c", id); !strings.Contains(out, id) {
		t.Errorf("printed %s", out)
	}
	stand.Eventually(t, within, "the drill has ended", func() error {
		var d resource.Drill
		out, _ := w.isthmus("drill", "show", id, "--json")
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			return err
		}
		if d.State != resource.DrillStopped {
			return fmt.Errorf("it is %s", d.State)
		}
		return nil
	})
}

// secretlyBroken drills towards a region that answers no call, and looks healthy.
func (w *world) secretlyBroken(t *testing.T) {
	w.broken.Store(true)
	defer w.broken.Store(false)
	load := stand.StartLoad(t.Context(), perSecond, patience, w.call("orders"))
	time.Sleep(3 * time.Second)
	w.ready("orders.default", "north")
	d, code := w.drill("--down", "east", "--service", "orders.default", "--share", "5%", "--for", "10m")
	rs := load.Stop()
	failed := len(rs.Failed())
	stand.Figure(t, "drill towards a region that is secretly broken: aborted after %v (%s), %d calls drilled, %d calls of %d harmed",
		d.EndedAt.Sub(d.StartedAt).Round(time.Millisecond), d.End, d.Report.Drilled.Calls, failed, len(rs))
	if code != 1 || d.State != resource.DrillAborted || d.End != "drilled_worse" && d.End != "ejected" {
		t.Errorf("exit code %d: %s, %s, %s", code, d.State, d.End, d.Detail)
	}
	// Six end it, and what is under way meanwhile is little.
	if failed > 20 {
		t.Errorf("%d calls were harmed: %s", failed, rs.Errors())
	}
	if failed == 0 {
		t.Error("no call was harmed: the region was not broken")
	}
}

// drilling starts a drill and waits until calls are drilled.
func (w *world) drilling(t *testing.T) string {
	t.Helper()
	w.ready("billing.default", "north")
	d, code := w.drill("--down", "east", "--service", "billing.default", "--share", "50%", "--beyond", "--for", "10m", "--detach")
	if code != 0 || d.State != resource.DrillRunning {
		t.Fatalf("exit code %d: %+v", code, d)
	}
	if out, code := w.isthmus("drill", "--down", "west", "--share", "1%"); code == 0 || !strings.Contains(out, d.ID) {
		t.Errorf("a second drill: exit code %d: %s", code, out)
	}
	stand.Eventually(t, within, "calls are drilled", func() error {
		if now := w.show(d.ID); now.Report.Drilled.Calls == 0 {
			return fmt.Errorf("%s %s %+v", now.State, now.End, now.Gateways)
		}
		return nil
	})
	return d.ID
}

func (w *world) show(id string) (d resource.Drill) {
	out, _ := w.isthmus("drill", "show", id, "--json")
	_ = json.NewDecoder(strings.NewReader(out)).Decode(&d)
	return d
}

// ends waits for the end of a drill and checks that no call is drilled any more.
func (w *world) ends(t *testing.T, id, reason string) {
	t.Helper()
	stand.Eventually(t, within, "the drill has ended", func() error {
		if d := w.show(id); !d.Ended() || d.End != reason {
			return fmt.Errorf("%s %s %s", d.State, d.End, d.Detail)
		}
		return nil
	})
	w.still(t)
}

// still checks that nothing is drilled.
func (w *world) still(t *testing.T) {
	t.Helper()
	drilled := func() string {
		body, err := stand.Get("http://" + w.east.Gateways[0].Admin.String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(string(body)) {
			if strings.HasPrefix(line, "isthmus_gateway_drill ") || strings.HasPrefix(line, `isthmus_gateway_drill_calls_total{side="drilled"}`) {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	before := drilled()
	if !strings.Contains(before, "isthmus_gateway_drill 0\n") {
		t.Errorf("the gateway drills: %s", before)
	}
	time.Sleep(2 * time.Second)
	if after := drilled(); after != before {
		t.Errorf("calls are drilled: %s, then %s", before, after)
	}
}

func (w *world) gatewayDies(t *testing.T) {
	load := stand.StartLoad(t.Context(), 50, patience, w.call("billing"))
	defer load.Stop()
	time.Sleep(2 * time.Second)
	id := w.drilling(t)
	g := w.east.Gateways[0]
	g.Kill()
	g.Start() // with the table of the drill on its disk
	g.AwaitReady()
	w.ends(t, id, "gateway_restarted")
}

func (w *world) federationDies(t *testing.T) {
	load := stand.StartLoad(t.Context(), 50, patience, w.call("billing"))
	time.Sleep(2 * time.Second)
	id := w.drilling(t)
	w.east.Federation.Kill()
	died := time.Now()
	stand.Eventually(t, within, "the gateway ends the drill by itself", func() error {
		body, err := stand.Get("http://" + w.east.Gateways[0].Admin.String() + "/metrics")
		if err != nil {
			return err
		}
		if !strings.Contains(string(body), `isthmus_gateway_drill_ends_total{reason="federation_silent"} 1`) {
			return fmt.Errorf("it goes on after %v", time.Since(died))
		}
		return nil
	})
	stand.Figure(t, "drill, the federation dies: the gateway ends it after %v (the lease is 10 s)", time.Since(died).Round(100*time.Millisecond))
	w.still(t)
	w.east.Federation.Start()
	w.ends(t, id, "federation_restarted")
	if rs := load.Stop(); len(rs.Failed()) > 0 {
		t.Errorf("calls failed: %s", rs.Errors())
	}
}
