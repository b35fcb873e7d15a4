package spire_test

import (
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
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/stand/guide"
	"github.com/isthmus-mesh/isthmus/e2e/stand/spire"
)

const (
	within = time.Minute
	// life of an SVID. SPIRE renews it five seconds before half of it has passed.
	life = 20 * time.Second
	// lifeCA makes the embedded CA, which renews at 40 to 50 %, as quick.
	lifeCA = 14 * time.Second
	// rotations of each gateway to see under load, before and after the roots'.
	rotations = 3
	// dead is how long an agent stays away.
	dead = 5 * time.Second

	aws   = "aws.example.org"
	gcp   = "gcp.example.org"
	lone  = "onprem.test" // the domain of the embedded CA
	perLn = 12            // calls a second and way
)

// world is two clusters on SPIRE and one on the embedded CA.
type world struct {
	*stand.Stand
	aws, gcp, onprem *stand.Cluster
	spire            map[string]*spire.Domain
	guide            *guide.Guide
	hosts            map[string]*guide.Host
	// first are the roots of the embedded CA that were carried by hand.
	first  []string
	client *http.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := stand.New(t,
		stand.Spec{Name: "aws-us-east-1", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: aws, Gateways: 2},
		stand.Spec{Name: "gcp-us-central1", Cloud: "gcp", Region: "us-central1", Zone: "b", TrustDomain: gcp},
		stand.Spec{Name: "onprem", Cloud: "onprem", Region: "cellar", Zone: "c", TrustDomain: lone},
	)
	w := &world{
		Stand: s, aws: s.Clusters[0], gcp: s.Clusters[1], onprem: s.Clusters[2], spire: map[string]*spire.Domain{},
		hosts: map[string]*guide.Host{}, client: clientOf(t),
	}
	carried := t.TempDir() // the files that the page has carried from one to the other
	for _, td := range []string{aws, gcp} {
		s.Domains[td].External = true
		d := spire.New(t, spire.Options{TrustDomain: td, SVIDTTL: life, Dir: filepath.Join(s.Dir, "s-"+td[:3]), Socket: s.Domains[td].Socket})
		w.spire[td] = d
		w.hosts[td] = &guide.Host{Dir: carried, Replace: []string{"/run/spire/server.sock", d.Admin, "/run/spire/agent.sock", d.Socket}}
	}
	spire.Federate(w.spire[aws], w.spire[gcp])
	s.Domains[lone].SVIDTTL = lifeCA
	w.fromFiles(w.onprem.Gateways[0])
	w.guide = guide.Read(t, "spire.md", w.spire[aws].Server.Path, w.spire[aws].Agent.Path)
	for _, c := range s.Clusters {
		c.WriteCatalog(t, stand.Service{Name: "hello-" + c.Name + ".default", Port: "main", Protocol: "http", Addresses: []string{instance(t, c.Name)}})
		if c.Domain.External {
			for _, p := range c.Section()["peers"].([]any) {
				if peer := p.(stand.Object); peer["name"] != w.onprem.Name {
					delete(peer, "bundle") // SPIRE tells
				}
			}
		}
	}
	return w
}

// clientOf is a workload's HTTP client.
func clientOf(t *testing.T) *http.Client {
	t.Helper()
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// instance is an HTTP server that says its name.
func instance(t *testing.T, name string) (address string) {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, name)
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().String()
}

// call asks for the service of one cluster at the first gateway of another.
func (w *world) call(from, to *stand.Cluster) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+from.Gateways[0].HTTP.String()+"/", nil)
		if err != nil {
			return "", err
		}
		req.Host = "hello-" + to.Name + ".default.mesh"
		resp, err := w.client.Do(req)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusOK || string(body) != to.Name) {
			err = fmt.Errorf("%s to %s: %s %s: %.100s", from.Name, to.Name, resp.Status, resp.Header.Get("Isthmus-Reason"), body)
		}
		return from.Name + " to " + to.Name, err
	}
}

// install is the guide's way to two federated SPIREs with Isthmus registered.
func (w *world) install(t *testing.T) {
	t.Helper()
	g := w.guide
	here := []string{"unix:uid:990", "unix:uid:" + strconv.Itoa(os.Getuid()), "3600", strconv.Itoa(int(life.Seconds()))}
	for _, td := range []string{aws, gcp} {
		w.spire[td].StartServer()
	}
	g.Run("aws bundle", w.hosts[aws])
	g.Run("gcp bundle", w.hosts[gcp])
	g.Run("aws federate", w.hosts[aws])
	g.Run("gcp federate", w.hosts[gcp])
	for _, td := range []string{aws, gcp} {
		w.spire[td].StartAgent()
	}
	g.Run("aws entries", w.hosts[aws], here...)
	g.Run("gcp entries", w.hosts[gcp], here...)
	w.spire[aws].Register(spire.Entry{ID: w.aws.ID() + "/gateway/gw2", UID: os.Getuid(), Federates: []string{gcp}})
	stand.Eventually(t, within, "the agent offers all three", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		out, err := exec.CommandContext(ctx, w.spire[aws].Agent.Path, "api", "fetch", "x509", "-socketPath", w.spire[aws].Socket).CombinedOutput()
		if n := strings.Count(string(out), "SPIFFE ID:"); err != nil || n != 3 {
			return fmt.Errorf("%d: %w %s", n, err, out)
		}
		return nil
	})
	if out := g.Run("aws fetch", w.hosts[aws]); !strings.Contains(out, w.aws.ID()+"/gateway/gw1") {
		t.Errorf("fetched:\n%s", out)
	}
	for _, td := range []string{aws, gcp} {
		g.Run("aws export", w.hosts[td], "aws.bundle.json", w.Domains[td].Bundle)
	}
	reader := &guide.Host{Dir: t.TempDir()}
	g.File("config", "isthmus.yaml", reader)
	if out, err := exec.CommandContext(t.Context(), stand.Binary(t), "validate", "-c", filepath.Join(reader.Dir, "isthmus.yaml")).CombinedOutput(); err != nil {
		t.Errorf("the guide's configuration: %v\n%s", err, out)
	}
}

// metric is one sample of a gateway, or -1.
func metric(g *stand.Gateway, pattern string) float64 { return sample(g.Admin.String(), pattern) }

// api is one sample of a federation, or -1.
func api(c *stand.Cluster, pattern string) float64 { return sample(c.API.String(), pattern) }

func sample(address, pattern string) float64 {
	body, err := stand.Get("http://" + address + "/metrics")
	if err != nil {
		return -1
	}
	m := regexp.MustCompile(`(?m)^` + pattern + ` (\S+)$`).FindSubmatch(body)
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return -1
	}
	return v
}

// gateways of all clusters.
func (w *world) gateways() []*stand.Gateway {
	var all []*stand.Gateway
	for _, c := range w.Clusters {
		all = append(all, c.Gateways...)
	}
	return all
}

// awaitRotations waits until each gateway has n more SVIDs.
func (w *world) awaitRotations(t *testing.T, n int) {
	t.Helper()
	before := map[*stand.Gateway]int{}
	for _, g := range w.gateways() {
		before[g] = g.LogCount("svid updated")
	}
	stand.Eventually(t, within, "rotations", func() error {
		for _, g := range w.gateways() {
			if seen := g.LogCount("svid updated") - before[g]; seen < n {
				return fmt.Errorf("%s: %d", g.Process.Name, seen)
			}
		}
		return nil
	})
}

func TestClustersOnSPIRE(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	w := newWorld(t)
	w.install(t)
	stop := w.keepFiles(t)
	defer func() { stop() }()
	w.Start()
	ways := [][2]*stand.Cluster{{w.aws, w.gcp}, {w.gcp, w.aws}, {w.aws, w.onprem}, {w.onprem, w.aws}, {w.onprem, w.gcp}}
	for _, way := range ways {
		stand.Eventually(t, within, "calls flow", func() error {
			_, err := w.call(way[0], way[1])(t.Context())
			return err
		})
	}
	stand.Figure(t, "two SPIREs, three clusters: calls flow on %d ways after %.1f s", len(ways), time.Since(begin).Seconds())
	if got := metric(w.gcp.Gateways[0], `isthmus_identity_bundle_authorities\{role="gateway",trust_domain="`+aws+`"\}`); got != 1 {
		t.Errorf("authorities of %s at %s: %v", aws, w.gcp.Name, got)
	}

	var loads []*stand.Load
	for _, way := range ways {
		loads = append(loads, stand.StartLoad(t.Context(), perLn, 10*time.Second, w.call(way[0], way[1])))
	}
	// check closes a phase: nothing that began in it may have failed.
	phase := time.Now()
	check := func(what string) {
		t.Helper()
		calls, failed, problems := 0, 0, ""
		for _, l := range loads {
			rs := l.Sofar().Between(phase, time.Now())
			calls, failed, problems = calls+len(rs), failed+len(rs.Failed()), problems+rs.Errors()
		}
		stand.Figure(t, "%s: %.1f s, %d calls, %d failed", what, time.Since(phase).Seconds(), calls, failed)
		if failed > 0 || calls == 0 {
			t.Errorf("%s: %d of %d calls failed:\n%s", what, failed, calls, problems)
		}
		phase = time.Now()
	}

	// SVIDs are renewed. Meanwhile a new root of AWS spreads: to the peer by
	// https_spiffe between the SPIREs, to the one without SPIRE by the federations.
	w.guide.Run("aws prepare", w.hosts[aws])
	w.guide.Run("gcp refresh", w.hosts[gcp])
	w.awaitRotations(t, rotations)
	check(fmt.Sprintf("%d renewals of each gateway (SVIDs of %s)", rotations, life))
	stand.Eventually(t, within, "the new root everywhere", func() error {
		for _, g := range w.gateways() {
			if n := metric(g, `isthmus_identity_bundle_authorities\{role="gateway",trust_domain="`+aws+`"\}`); n != 2 {
				return fmt.Errorf("%s knows %v", g.Process.Name, n)
			}
		}
		return nil
	})
	w.guide.Run("aws activate", w.hosts[aws])
	w.awaitRotations(t, 1)
	check("the root of one domain rotates")

	// The agent is killed. Service goes on; even a gateway that is stopped starts
	// again without it.
	w.spire[aws].Agent.Kill()
	killed := time.Now()
	other := w.aws.Gateways[1]
	other.Stop()
	stopped := time.Now()
	other.Start()
	other.AwaitReady()
	if n := other.LogCount("identity read from cache"); n != 1 {
		t.Errorf("read from the cache %d times, want once", n)
	}
	stand.Figure(t, "without an agent a gateway is ready %d ms after its start, from its cache", time.Since(stopped).Milliseconds())
	stand.Eventually(t, within, "the gateway says that its source fails", func() error {
		if metric(w.aws.Gateways[0], `isthmus_identity_source_failing\{role="gateway"\}`) != 1 {
			return errors.New("it does not")
		}
		return nil
	})
	time.Sleep(time.Until(killed.Add(dead)))
	w.spire[aws].Agent.Start()
	w.spire[aws].AwaitAgent()
	back := time.Now()
	w.awaitRotations(t, 1)
	stand.Eventually(t, within, "the end of the failure", func() error {
		for _, g := range w.gateways() {
			if metric(g, `isthmus_identity_source_failing\{role="gateway"\}`) != 0 || metric(g, `isthmus_identity_svid_renewal_overdue\{role="gateway"\}`) != 0 {
				return errors.New(g.Process.Name)
			}
		}
		return nil
	})
	stand.Figure(t, "the agent is away for %.1f s; renewed %.1f s after its return", back.Sub(killed).Seconds(), time.Since(back).Seconds())
	check("an agent is killed and restored")

	total := 0
	for i, l := range loads {
		rs := l.Stop()
		total += len(rs)
		if n := len(rs.Failed()); n > 0 {
			t.Errorf("%s to %s: %d of %d failed:\n%s", ways[i][0].Name, ways[i][1].Name, n, len(rs), rs.Errors())
		}
	}
	stand.Figure(t, "%d calls in all", total)

	// Nobody renews the files of one gateway: it serves on and says so, and what has
	// expired is of no use.
	g, call := w.onprem.Gateways[0], w.call(w.onprem, w.gcp)
	stop()
	stopped = time.Now()
	stand.Eventually(t, within, "the alarm", func() error {
		ready, renewal, err := readyz(g)
		if err == nil && (!ready || renewal == "") {
			err = fmt.Errorf("ready: %t, renewal: %q", ready, renewal)
		}
		return err
	})
	alarm := time.Since(stopped)
	if _, err := call(t.Context()); err != nil {
		t.Errorf("a degraded gateway: %v", err)
	}
	stand.Eventually(t, within, "expiry", func() error {
		if ready, _, err := readyz(g); ready || err != nil {
			return fmt.Errorf("ready, %w", err)
		}
		if _, err := call(t.Context()); err == nil {
			return errors.New("calls flow without an identity")
		}
		return nil
	})
	expired := time.Since(stopped)
	stop = w.keepFiles(t)
	back = time.Now()
	stand.Eventually(t, within, "return", func() error {
		if ready, renewal, err := readyz(g); err != nil || !ready || renewal != "" {
			return fmt.Errorf("ready: %t, renewal: %q: %w", ready, renewal, err)
		}
		_, err := call(t.Context())
		return err
	})
	stand.Figure(t, "files are no longer renewed: alarm after %.1f s, refused after %.1f s; calls flow %.1f s after they are renewed again",
		alarm.Seconds(), expired.Seconds(), time.Since(back).Seconds())
}

// readyz tells whether a gateway is ready, and what it says of a late renewal.
func readyz(g *stand.Gateway) (ready bool, renewal string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Admin.String()+"/readyz", nil)
	if err != nil {
		return false, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var body struct {
		Ready      bool
		Conditions []struct {
			Name, Reason string
			OK           bool
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return false, "", err
	}
	for _, c := range body.Conditions {
		if c.Name == "identity_renewal" && !c.OK {
			renewal = c.Reason
		}
	}
	return body.Ready, renewal, nil
}
