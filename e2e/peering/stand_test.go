package peering_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
)

const within = time.Minute

// world is clusters that do not know each other. Each hosts a service of its own
// name and has its rules ready: they do nothing before the peers are there.
type world struct {
	*stand.Stand
	t *testing.T
}

func newWorld(t *testing.T, specs ...stand.Spec) *world {
	t.Helper()
	w := &world{Stand: stand.New(t, specs...), t: t}
	for _, c := range w.Clusters {
		delete(c.Section(), "peers")
		w.host(c)
	}
	return w
}

// host runs a cluster's service: it answers with the cluster's name.
func (w *world) host(c *stand.Cluster) {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, c.Name)
	})}
	go func() { _ = srv.Serve(ln) }()
	w.t.Cleanup(func() { _ = srv.Close() })
	c.WriteCatalog(w.t, stand.Service{
		Name: c.Name + ".default", Port: "main", Protocol: "http", Addresses: []string{ln.Addr().String()},
	})
}

// operator is where a cluster's operator types.
func (w *world) operator(c *stand.Cluster) *guide.Host {
	return &guide.Host{Dir: w.Dir, Env: []string{
		"ISTHMUS_API=http://" + c.API.String(),
		"ISTHMUS_TOKEN_FILE=" + filepath.Join(w.Dir, c.Name, "data", "federation", "api.token"),
	}}
}

// isthmus runs the command against a cluster's federation.
func (w *world) isthmus(c *stand.Cluster, args ...string) (stdout, stderr string, err error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, stand.Binary(w.t), args...)
	cmd.Env = append(os.Environ(), w.operator(c).Env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return strings.TrimSpace(out.String()), errs.String(), err
}

// run is isthmus that must succeed; it returns standard output.
func (w *world) run(c *stand.Cluster, args ...string) string {
	w.t.Helper()
	out, errs, err := w.isthmus(c, args...)
	if err != nil {
		w.t.Fatalf("isthmus %s in %s: %v\n%s", strings.Join(args, " "), c.Name, err, errs)
	}
	return out
}

// fails wants the command refused with these words, and the reason counted by the
// cluster that refused.
func (w *world) fails(c *stand.Cluster, refused *stand.Cluster, reason, words string, args ...string) {
	w.t.Helper()
	before := w.refusals(refused, reason)
	out, errs, err := w.isthmus(c, args...)
	if err == nil || !strings.Contains(errs, words) {
		w.t.Fatalf("isthmus %s in %s: %v, want a refusal with %q\n%s%s", strings.Join(args, " "), c.Name, err, words, out, errs)
	}
	if n := w.refusals(refused, reason); n != before+1 {
		w.t.Errorf("%s counted %v refusals for %q, before %v", refused.Name, n, reason, before)
	}
	if refused.Federation.LogCount("peering refused", reason) == 0 {
		w.t.Errorf("%s logged no refusal for %q", refused.Name, reason)
	}
}

// refusals is the cluster's count of refused peerings.
func (w *world) refusals(c *stand.Cluster, reason string) float64 {
	w.t.Helper()
	return w.metric("http://"+c.API.String()+"/metrics", `isthmus_peering_refused_total{reason="`+reason+`"}`)
}

// metric is one sample, 0 where there is none.
func (w *world) metric(url, sample string) (value float64) {
	w.t.Helper()
	body, err := stand.Get(url)
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, sample+" "); ok {
			_, _ = fmt.Sscan(rest, &value)
		}
	}
	return value
}

// call asks for a cluster's service at another's way in.
func call(ctx context.Context, from, to *stand.Cluster) (string, error) {
	return callAt(ctx, from.Gateways[0], to)
}

func callAt(ctx context.Context, at *stand.Gateway, to *stand.Cluster) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.HTTP.String()+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = to.Name + ".default.mesh"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

// flows waits until calls pass both ways, and says how long that took.
func (w *world) flows(a, b *stand.Cluster) time.Duration {
	w.t.Helper()
	began := time.Now()
	for _, pair := range [][2]*stand.Cluster{{a, b}, {b, a}} {
		stand.Eventually(w.t, within, pair[0].Name+" calls "+pair[1].Name, func() error {
			who, err := call(w.t.Context(), pair[0], pair[1])
			if err == nil && who != pair[1].Name {
				err = fmt.Errorf("%q answered", who)
			}
			return err
		})
	}
	return time.Since(began)
}

// invitation is what peer invitations --json prints of one.
type invitation struct {
	ID, State, Cluster, Federation string
}

func (w *world) invitations(c *stand.Cluster) (list []invitation) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.run(c, "peer", "invitations", "--json")), &list); err != nil {
		w.t.Fatal(err)
	}
	return list
}
