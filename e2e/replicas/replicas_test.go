package replicas_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

const within = time.Minute

// replica is one federation process of the east.
type replica struct {
	*stand.Process
	name string
	dir  string
	api  netip.AddrPort
	mesh netip.AddrPort
}

func (r *replica) client(t *testing.T) *client.Client {
	t.Helper()
	var c *client.Client
	stand.Eventually(t, within, r.name+" answers", func() error {
		token, err := os.ReadFile(filepath.Join(r.dir, "federation", "api.token"))
		if err != nil {
			return err
		}
		c, err = client.New(client.Options{URL: "http://" + r.api.String(), Token: strings.TrimSpace(string(token))})
		if err != nil {
			return err
		}
		_, err = c.Version(t.Context())
		return err
	})
	t.Cleanup(c.Close)
	return c
}

type world struct {
	*stand.Stand
	east, west *stand.Cluster
	consul     *servers
	replicas   []*replica
	clients    []*client.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test", Gateways: 2},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	w := &world{Stand: s, east: s.Clusters[0], west: s.Clusters[1], consul: startConsul(t, s.Dir)}
	w.west.Config["data_dir"] = filepath.Join(s.Dir, "west", "data")
	var addresses, consuls []any
	for _, a := range w.consul.http {
		consuls = append(consuls, a.String())
	}
	for i := range 3 {
		r := &replica{name: fmt.Sprintf("r%d", i+1), dir: filepath.Join(s.Dir, "east", fmt.Sprint("data-r", i+1)), api: lowPort(t), mesh: lowPort(t)}
		addresses = append(addresses, r.mesh.String())
		w.replicas = append(w.replicas, r)
	}
	for i, r := range w.replicas {
		// Each asks another server first.
		order := append(append([]any{}, consuls[i:]...), consuls[:i]...)
		config := clone(t, w.east.Config)
		config["data_dir"] = r.dir
		f := config["federation"].(stand.Object)
		f["listen"], f["api"] = r.mesh.String(), stand.Object{"address": r.api.String()}
		f["store"] = stand.Object{"replica": r.name, "consul": stand.Object{"address": order, "session_ttl": "2s", "request_timeout": "2s"}}
		if i == 0 {
			w.east.Config, r.Process = config, w.east.Federation
			continue
		}
		path := filepath.Join(s.Dir, "east", r.name+".yaml")
		data, err := json.Marshal(config)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		}
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.Process = stand.NewProcess(t, filepath.Join(s.Dir, "logs"), "east-federation-"+r.name, stand.Binary(t), "run", "--config", path)
	}
	for _, g := range w.east.Gateways {
		g.Section()["federation"] = addresses
	}
	return w
}

func clone(t testing.TB, o stand.Object) stand.Object {
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

// exporter is who holds the lease, as a replica tells.
func (w *world) exporter(c *client.Client) (string, error) {
	list, err := c.Replicas().List(w.T.Context())
	for _, r := range list {
		if r.Exporter {
			return r.Name, nil
		}
	}
	return "", errors.Join(errors.New("none"), err)
}

// acknowledged are the writes that were answered with success.
type acknowledged struct {
	mu     sync.Mutex
	names  []string
	failed int
}

// intention is one that judges no call of this test.
func intention(name string) resource.Intention {
	return resource.Intention{Intention: policy.Intention{
		Name: name, Services: []policy.ServicePattern{"other.default"},
		Callers: []policy.IDPattern{"spiffe://west.test/west/x"}, Action: policy.Allow,
	}}
}

// write creates intentions through one replica until ctx ends.
func (a *acknowledged) write(ctx context.Context, c *client.Client, who string) {
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("%s-%d", who, n)
		_, err := c.Intentions().Create(ctx, intention(name), false)
		a.mu.Lock()
		if err == nil {
			a.names = append(a.names, name)
		} else {
			a.failed++
		}
		a.mu.Unlock()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func TestAnyReplicaAndConsulsLeaderMayDie(t *testing.T) {
	w := newWorld(t)
	port := backend(t)
	w.east.WriteCatalog(t, stand.Service{Name: "web.default", Port: "http", Protocol: "http", Addresses: []string{fmt.Sprintf("127.0.0.1:%d", port)}})
	stand.InitializeStore(t, filepath.Join(w.Dir, "east", "r2.yaml"))
	for _, r := range w.replicas[1:] {
		r.Start()
	}
	w.Start()
	for _, r := range w.replicas {
		w.clients = append(w.clients, r.client(t))
	}
	calls := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	t.Cleanup(calls.CloseIdleConnections)
	call := func(ctx context.Context) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.west.Gateways[0].HTTP.String()+"/", nil)
		if err != nil {
			return "", err
		}
		req.Host = "web.default.mesh"
		resp, err := calls.Do(req)
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
	stand.Eventually(t, within, "calls cross from west to east", func() error { _, err := call(t.Context()); return err })

	load := stand.StartLoad(t.Context(), 40, 10*time.Second, call)
	ctx, stop := context.WithCancel(t.Context())
	acked := &acknowledged{}
	var writers sync.WaitGroup
	for i, c := range w.clients {
		writers.Go(func() { acked.write(ctx, c, w.replicas[i].name) })
	}
	west := (&replica{name: "west", dir: filepath.Join(w.Dir, "west", "data"), api: w.west.API}).client(t)
	peer := func() resource.Peer {
		p, err := west.Peers().Get(t.Context(), "east")
		if err != nil {
			t.Logf("west: %v", err)
		}
		return p
	}

	// The exporter is killed: another takes the lease, and peers follow it.
	first, err := w.exporter(w.clients[0])
	if err != nil {
		t.Fatal(err)
	}
	before := peer()
	dead := w.index(first)
	moves := w.followers(dead)
	begin := time.Now()
	w.replicas[dead].Kill()
	moves.tell(begin)
	other := w.clients[(dead+1)%3]
	var second string
	stand.Eventually(t, within, "another replica is the exporter", func() (err error) {
		if second, err = w.exporter(other); err == nil && second == first {
			err = errors.New("still the one that was killed")
		}
		return err
	})
	moved := time.Since(begin)
	stand.Eventually(t, within, "the peer hears the new exporter", func() error {
		if p := peer(); p.Epoch <= before.Epoch || p.State != resource.PeerOK {
			return fmt.Errorf("epoch %d, %s; it was %d", p.Epoch, p.State, before.Epoch)
		}
		return nil
	})
	stand.Figure(t, "exporter killed: the lease moved from %s to %s after %.1f s, the peer followed after %.1f s", first, second, moved.Seconds(), time.Since(begin).Seconds())
	w.replicas[dead].Start()
	w.replicas[dead].client(t)

	// One that is not the exporter, and then Consul's leader.
	for i, r := range w.replicas {
		if r.name != first && r.name != second {
			moves, begin := w.followers(i), time.Now()
			w.replicas[i].Kill()
			moves.tell(begin)
			time.Sleep(2 * time.Second) // writes and calls go on without it
			w.replicas[i].Start()
			w.replicas[i].client(t)
		}
	}
	leader := w.consul.leader()
	begin = time.Now()
	w.consul.all[leader].Kill()
	sofar := acked.count()
	stand.Eventually(t, within, "writes go on under another leader", func() error {
		if acked.count() < sofar+10 {
			return fmt.Errorf("%d writes since", acked.count()-sofar)
		}
		return nil
	})
	stand.Figure(t, "Consul's leader killed: ten writes were acknowledged after %.1f s", time.Since(begin).Seconds())
	w.consul.all[leader].Start()
	time.Sleep(2 * time.Second)
	stop()
	writers.Wait()
	results := load.Stop()
	if failed := results.Failed(); len(failed) > 0 {
		t.Errorf("%d of %d calls failed: %s", len(failed), len(results), failed.Errors())
	}
	stand.Figure(t, "%d calls, %d failed; %d writes acknowledged, %d refused or unknown", len(results), len(results.Failed()), acked.count(), acked.failed)
	w.judge(acked)
	w.clear(acked, call)
}

// followers are the gateways whose table stream is of a replica.
type followers struct {
	w      *world
	opened map[*stand.Gateway]int // streams so far
}

func (w *world) followers(i int) *followers {
	f := &followers{w: w, opened: map[*stand.Gateway]int{}}
	for _, g := range w.east.Gateways {
		// Of those streams that were opened the last is the present one.
		if at := w.lastStream(g); at == w.replicas[i].mesh.String() {
			f.opened[g] = g.LogCount("table stream open")
		}
	}
	return f
}

// lastStream is where a gateway's present table stream leads.
func (w *world) lastStream(g *stand.Gateway) (address string) {
	data, err := os.ReadFile(g.Log)
	if err != nil {
		w.T.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if !strings.Contains(line, "table stream open") {
			continue
		}
		for _, r := range w.replicas {
			if strings.Contains(line, r.mesh.String()) {
				address = r.mesh.String()
			}
		}
	}
	return address
}

// tell waits until each of them follows another replica. The bound is asserted on a
// simulated clock, in federation/client.
func (f *followers) tell(begin time.Time) {
	t := f.w.T
	t.Helper()
	for g, opened := range f.opened {
		stand.Eventually(t, within, g.Process.Name+" follows another replica", func() error {
			if n := g.LogCount("table stream open"); n == opened {
				return errors.New("not yet")
			}
			return nil
		})
	}
	if len(f.opened) == 0 {
		return // they followed others
	}
	stand.Figure(t, "a replica killed: the %d of %d gateways that followed it follow another after %d ms", len(f.opened), len(f.w.east.Gateways), time.Since(begin).Milliseconds())
}

// clear takes everything away from Consul under running replicas, and sends a
// newcomer that has nothing: it begins no store, the others serve what they know,
// no call fails; after the restoration all is as it was.
func (w *world) clear(a *acknowledged, call func(context.Context) (string, error)) {
	t := w.T
	t.Helper()
	load := stand.StartLoad(t.Context(), 40, 10*time.Second, call)
	tree := w.consul.take("isthmus/east/")
	late := filepath.Join(w.Dir, "east", "late.yaml")
	config := clone(t, w.east.Config)
	f := config["federation"].(stand.Object)
	config["data_dir"] = filepath.Join(w.Dir, "east", "data-late")
	f["listen"], f["api"] = lowPort(t).String(), stand.Object{"address": lowPort(t).String()}
	f["store"].(stand.Object)["replica"] = "late"
	data, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(late, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	out, err := exec.CommandContext(ctx, stand.Binary(t), "run", "--config", late).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "isthmus store initialize") {
		t.Errorf("a newcomer over a cleared store: %v: %s", err, out)
	}
	for i, c := range w.clients {
		stand.Eventually(t, within, w.replicas[i].name+" refuses writes, and serves what it knows", func() error {
			rules, err := c.Intentions().List(t.Context())
			if err != nil || len(rules) < a.count() {
				return fmt.Errorf("%d rules of %d, %w", len(rules), a.count(), err)
			}
			if _, err := c.Intentions().Create(t.Context(), intention("cleared"), false); err == nil {
				return errors.New("it takes writes")
			}
			return nil
		})
	}
	w.consul.put(tree)
	for i, c := range w.clients {
		stand.Eventually(t, within, w.replicas[i].name+" takes writes again", func() error {
			_, err := c.Intentions().Create(t.Context(), intention("restored-"+w.replicas[i].name), false)
			return err
		})
	}
	if said := stand.InitializeStore(t, late); !strings.Contains(said, "stays as it is") {
		t.Errorf("initialize of a store that is there: %s", said)
	}
	results := load.Stop()
	if failed := results.Failed(); len(failed) > 0 {
		t.Errorf("%d of %d calls failed: %s", len(failed), len(results), failed.Errors())
	}
	stand.Figure(t, "Consul's prefix cleared (%d keys), a newcomer without a copy, restored: %d calls, %d failed, %d rules served throughout", len(tree), len(results), len(results.Failed()), a.count())
}

func (a *acknowledged) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.names)
}

func (w *world) index(name string) int {
	for i, r := range w.replicas {
		if r.name == name {
			return i
		}
	}
	w.T.Fatalf("no replica %s", name)
	return -1
}

// judge asks every replica: nothing that was acknowledged is lost, each has its
// record, and the chain is whole.
func (w *world) judge(a *acknowledged) {
	t := w.T
	t.Helper()
	for i, c := range w.clients {
		stand.Eventually(t, within, w.replicas[i].name+" has every acknowledged write", func() error {
			rules, err := c.Intentions().List(t.Context())
			if err != nil {
				return err
			}
			have := map[string]bool{}
			for _, r := range rules {
				have[r.Name] = true
			}
			lost := 0
			for _, name := range a.names {
				if !have[name] {
					lost++
				}
			}
			if lost > 0 {
				return fmt.Errorf("%d of %d are missing", lost, len(a.names))
			}
			return nil
		})
		v, err := c.VerifyHistory(t.Context())
		if err != nil || !v.OK {
			t.Errorf("%s: history %+v, %v", w.replicas[i].name, v, err)
		}
		made := map[string]int{}
		for r, err := range c.History(client.HistoryFilter{Kind: "intentions"}).All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			made[r.Name]++
		}
		for _, name := range a.names {
			if made[name] != 1 {
				t.Errorf("%s: %s has %d records", w.replicas[i].name, name, made[name])
			}
		}
		stand.Figure(t, "%s: %d acknowledged writes are there, %d records chain", w.replicas[i].name, len(a.names), v.Records)
	}
}

func backend(t *testing.T) int {
	t.Helper()
	address := stand.FreePort(t)
	srv := &http.Server{Addr: address.String(), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "east")
	})}
	go func() { _ = srv.ListenAndServe() }()
	t.Cleanup(func() { _ = srv.Close() })
	return int(address.Port())
}
