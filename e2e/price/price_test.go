package price_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answerBytes make an answer over the dear path cost 20e3 / 1e9 x 0.5 = 0.00001 $.
const answerBytes = 20_000

// book prices the paths between east and north at 0.5 $/GB, to west at 0.01, or the
// other way round.
func book(north, west float64) string {
	return fmt.Sprintf(`prices:
  - {cloud: aws, direction: egress, peer: gcp, per_gb: %[1]g, valid_from: 2026-01-01}
  - {cloud: gcp, direction: egress, per_gb: %[1]g, valid_from: 2026-01-01}
  - {cloud: aws, direction: egress, peer: azure, per_gb: %[2]g, valid_from: 2026-01-01}
  - {cloud: azure, direction: egress, per_gb: %[2]g, valid_from: 2026-01-01}
`, north, west)
}

type world struct {
	t      *testing.T
	east   *stand.Cluster
	client *http.Client
	prices string
}

// instance is an HTTP server that says which cluster it is in.
func instance(t *testing.T, cluster string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(cluster + strings.Repeat(" ", answerBytes-len(cluster)))
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
	return ln.Addr().String()
}

func newWorld(t *testing.T) *world {
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", TrustDomain: "mesh.test"},
		stand.Spec{Name: "north", Cloud: "gcp", Region: "us-central1", TrustDomain: "mesh.test"},
		stand.Spec{Name: "west", Cloud: "azure", Region: "eastus", TrustDomain: "mesh.test"})
	w := &world{t: t, east: s.Clusters[0], prices: filepath.Join(t.TempDir(), "prices.yaml")}
	for _, c := range s.Clusters {
		if c != w.east {
			c.WriteCatalog(t, stand.Service{Name: "billing.default", Port: "main", Protocol: "http", Addresses: []string{instance(t, c.Name)}})
		} else {
			c.WriteCatalog(t)
		}
	}
	w.write(book(0.5, 0.01))
	section := w.east.Section()
	section["price_book"] = w.prices
	section["traffic_policies"] = []stand.Object{{
		"name": "billing", "services": []string{"billing.default"},
		// Once it is spent a dollar is worth 10^5 seconds: the dear answer 1 s.
		"budget": stand.Object{"monthly": 0.001, "save": stand.Object{"price_weight": 1e5}},
	}}
	s.Start()
	w.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	t.Cleanup(w.client.CloseIdleConnections)
	return w
}

func (w *world) write(text string) {
	w.t.Helper()
	if err := os.WriteFile(w.prices, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) call(ctx context.Context) (string, error) {
	return w.callAt(ctx, "billing.default.mesh")
}

func (w *world) callAt(ctx context.Context, authority string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.east.Gateways[0].HTTP.String()+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = authority
	resp, err := w.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s", resp.Status, body)
	}
	return strings.TrimSpace(string(body)), err
}

// shares are those of so many calls, none of which may fail.
func (w *world) shares(n int) map[string]float64 {
	w.t.Helper()
	out := map[string]float64{}
	for range n {
		who, err := w.call(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		out[who] += 1 / float64(n)
	}
	return out
}

func (w *world) token() string {
	return filepath.Join(w.east.Config["data_dir"].(string), "federation", "api.token")
}

// isthmus asks east's federation by the command.
func (w *world) isthmus(args ...string) []byte {
	w.t.Helper()
	c := exec.CommandContext(w.t.Context(), stand.Binary(w.t), append(args, "--api", "http://"+w.east.API.String(), "--token-file", w.token())...)
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		w.t.Fatalf("isthmus %v: %v\n%s%s", args, err, &out, &problems)
	}
	return out.Bytes()
}

func (w *world) simulate(args ...string) (s resource.Simulation) {
	w.t.Helper()
	if err := json.Unmarshal(w.isthmus(append([]string{"simulate", "--json"}, args...)...), &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) spend() (s resource.Spend) {
	w.t.Helper()
	if err := json.Unmarshal(w.isthmus("spend", "--json"), &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// events are what the journal says of a kind.
func (w *world) events(kind string) (said []string) {
	w.t.Helper()
	token, err := os.ReadFile(w.token())
	if err != nil {
		w.t.Fatal(err)
	}
	api, err := client.New(client.Options{URL: "http://" + w.east.API.String(), Token: strings.TrimSpace(string(token))})
	if err != nil {
		w.t.Fatal(err)
	}
	defer api.Close()
	events, err := api.Events().List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == kind {
			said = append(said, e.Reason)
		}
	}
	return said
}

// TestAMonthInAMinute: of two clusters at equal distance one is dear. Once the service's
// budget is spent its notice shows, the cheap one takes the calls, and none fails. When the book changes, so do calls; a bad one changes nothing.
func TestAMonthInAMinute(t *testing.T) {
	w := newWorld(t)
	stand.Eventually(t, time.Minute, "both clusters answer", func() error {
		seen := map[string]bool{}
		for range 20 {
			who, err := w.call(t.Context())
			if err != nil {
				return err
			}
			seen[who] = true
		}
		if !seen["north"] || !seen["west"] {
			return fmt.Errorf("%v", seen)
		}
		return nil
	})
	stand.Figure(t, "prices: before the budget is spent %.2f of calls go the dear way", w.shares(100)["north"])
	for range 150 { // 0.0015 $
		if who, err := w.callAt(t.Context(), "billing.default.north.mesh"); err != nil || who != "north" {
			t.Fatal(who, err)
		}
	}
	stand.Eventually(t, time.Minute, "the budget is spent", func() error {
		s := w.spend()
		if len(s.Services) != 1 || s.Services[0].Budget == nil {
			return fmt.Errorf("%+v", s)
		}
		if b := s.Services[0].Budget; b.State != "over" || !b.Saving || b.PriceWeight != 1e5 {
			return fmt.Errorf("%+v of %+v", b, s.Services[0])
		}
		return nil
	})
	stand.Eventually(t, time.Minute, "the cheap cluster takes the calls", func() error {
		if now := w.shares(100); now["west"] < 0.97 {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
	stand.Eventually(t, time.Minute, "the budget is told", func() error {
		if events := w.events("budget"); !slices.ContainsFunc(events, func(s string) bool { return strings.HasPrefix(s, "over: ") }) {
			return fmt.Errorf("%q", events)
		}
		return nil
	})
	s := w.spend().Services[0]
	for _, p := range s.Paths {
		// What was spent is what moved, by its price.
		if p.Price == nil || !p.Price.Known {
			t.Fatalf("%+v", p)
		}
		want := p.Price.Dollars(float64(p.Sent), float64(p.Received))
		if p.Spent < 0.99*want || p.Spent > 1.01*want || p.Received < answerBytes {
			t.Errorf("%s: spent %v, want %v: %+v", p.Cluster, p.Spent, want, p)
		}
	}
	if text := string(w.isthmus("explain", "billing")); !strings.Contains(text, "price") {
		t.Errorf("explain says nothing of prices:\n%s", text)
	}

	// Losing the cheap cluster would cost fifty times as much; by the book the other way
	// round, from a file, next to nothing.
	recording, other := filepath.Join(t.TempDir(), "now.json"), filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(other, []byte(book(0.01, 0.5)), 0o600); err != nil {
		t.Fatal(err)
	}
	var simulated resource.Simulation
	// The gateway reports every few seconds: at first on calls of before the budget was spent.
	stand.Eventually(t, time.Minute, "losing the cheap cluster is foretold to be dear", func() error {
		w.shares(100)
		simulated = w.simulate("--record", recording, "--down", "west")
		if a, b := simulated.SpendBefore, simulated.SpendSettled; a <= 0 || b < 20*a || b > 80*a {
			return fmt.Errorf("a month costs %v, and %v without the cheap cluster", a, b)
		}
		return nil
	})
	stand.Figure(t, "prices: a month at this pace costs %.2f $, and %.2f $ without the cheap cluster", simulated.SpendBefore, simulated.SpendSettled)
	if again := w.simulate("--from", recording, "--down", "west", "--prices", other); again.SpendSettled > simulated.SpendSettled/20 {
		t.Errorf("by other prices a month costs %v", again.SpendSettled)
	}

	w.write("prices: [{cloud: aws}]")
	stand.Eventually(t, time.Minute, "the bad book is told", func() error {
		if b := w.spend().Book; b == nil || !strings.Contains(b.Problem, "direction") || b.Prices != 4 {
			return fmt.Errorf("%+v", b)
		}
		return nil
	})
	if now := w.shares(50); now["west"] < 0.97 {
		t.Errorf("with a bad book: %v", now)
	}
	w.write(book(0.01, 0.5))
	stand.Eventually(t, time.Minute, "calls follow the book", func() error {
		if now := w.shares(100); now["north"] < 0.97 {
			return fmt.Errorf("%v", now)
		}
		if w.spend().Book.Problem != "" {
			return errors.New("the problem is still told")
		}
		return nil
	})
	// A restart forgets nothing of the month.
	spent := w.spend().Spent
	w.east.Federation.Stop()
	w.east.Federation.Start()
	stand.Eventually(t, time.Minute, "the account is there after a restart", func() error {
		if _, err := os.Stat(w.token()); err != nil {
			return err
		}
		if err := exec.CommandContext(t.Context(), stand.Binary(t), "spend", "--api", "http://"+w.east.API.String(), "--token-file", w.token()).Run(); err != nil {
			return err
		}
		if s := w.spend(); s.Spent < spent || len(s.Services) != 1 || s.Services[0].Budget == nil {
			return fmt.Errorf("%v were spent, %+v now", spent, s)
		}
		return nil
	})
}
