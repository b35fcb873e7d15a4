package consultest

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// startWithin is generous: a leader takes half a second on an idle machine.
	startWithin = 60 * time.Second
	// startAttempts is for a port that another process took in the meantime.
	startAttempts = 3
)

// Options of Start.
type Options struct {
	// Binary is the consul program; empty takes it from Binary(t).
	Binary string
	// Datacenter defaults to dc1.
	Datacenter string
	// Bind is the loopback address of everything; default 127.0.0.1.
	Bind string
	// Dev keeps nothing: a restart begins with an empty catalog and low indexes.
	// Otherwise the agent is a server with a data directory.
	Dev bool
	// Region and Zone become the agent's locality.
	Region, Zone string
	// MaxConns is how many connections the agent allows a client; 0 leaves it at its
	// default, 200.
	MaxConns int
	// CAFile, CertFile and KeyFile make the agent serve HTTPS, too, to those who show
	// a certificate of the CA.
	CAFile, CertFile, KeyFile string
	// ManagementToken turns ACLs on, with everything denied to others.
	ManagementToken string
	// Config is more of the agent's configuration, by its keys.
	Config map[string]any
}

// Binary is the consul program that ISTHMUS_CONSUL names. Without it the test is
// skipped, or fails in a strict run (CI=true or ISTHMUS_STRICT=1), so that a
// missing part does not pass for a tested one. Tests that may import e2e/tools
// take it from there, which looks into the cache, too.
func Binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("ISTHMUS_CONSUL"); bin != "" {
		return bin
	}
	const how = "real Consul is missing: set ISTHMUS_CONSUL to the program; go run ./e2e/tools/build consul makes one"
	if os.Getenv("CI") == "true" || os.Getenv("ISTHMUS_STRICT") == "1" {
		t.Fatal(how)
	}
	t.Skip(how)
	return ""
}

// Agent is one Consul server.
type Agent struct {
	t      testing.TB
	opts   Options
	dir    string
	id     string // the node's, by which it is told from others
	ports  map[string]int
	client *api.Client
	http   *http.Client

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs an agent until the end of the test and waits for its leader.
func Start(t testing.TB, o Options) *Agent {
	t.Helper()
	if o.Binary == "" {
		o.Binary = Binary(t)
	}
	o.Datacenter, o.Bind = cmp.Or(o.Datacenter, "dc1"), cmp.Or(o.Bind, "127.0.0.1")
	a := &Agent{t: t, opts: o, dir: t.TempDir(), id: nodeID(), http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	t.Cleanup(a.Kill)
	var err error
	for range startAttempts {
		a.choosePorts()
		if err = a.start(); err == nil {
			return a
		}
		a.Kill()
	}
	t.Fatal(err)
	return nil
}

func (a *Agent) choosePorts() {
	a.t.Helper()
	a.ports = map[string]int{}
	names := []string{"http", "dns", "grpc", "grpc_tls", "serf_lan", "serf_wan", "server"}
	if a.opts.CAFile != "" {
		names = append(names, "https")
	}
	for _, name := range names {
		a.ports[name] = freePort(a.t, a.opts.Bind)
	}
	var err error
	a.client, err = api.NewClient(&api.Config{
		Address: a.Address(), Scheme: "http", HttpClient: a.http, Token: cmp.Or(a.opts.ManagementToken, "anonymous"),
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// Address is the HTTP API's host:port.
func (a *Agent) Address() string {
	return net.JoinHostPort(a.opts.Bind, strconv.Itoa(a.ports["http"]))
}

// HTTPS is the host:port of the API over TLS.
func (a *Agent) HTTPS() string {
	return net.JoinHostPort(a.opts.Bind, strconv.Itoa(a.ports["https"]))
}

// DNS is the host:port of the agent's DNS, over UDP and TCP.
func (a *Agent) DNS() string {
	return net.JoinHostPort(a.opts.Bind, strconv.Itoa(a.ports["dns"]))
}

// Client speaks to the agent, with the management token where there is one.
func (a *Agent) Client() *api.Client { return a.client }

// PID of the running agent.
func (a *Agent) PID() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cmd.Process.Pid
}

// Kill is kill -9, and waits for the end. A dead agent stays dead.
func (a *Agent) Kill() { a.end(os.Kill) }

// Stop is an orderly end (SIGINT), and waits for it; the catalog keeps what the
// agent registered.
func (a *Agent) Stop() { a.end(os.Interrupt) }

func (a *Agent) end(signal os.Signal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Signal(signal) // it may have ended by itself
	<-a.done
	a.cmd = nil
}

// Restart starts a dead agent on the same ports and waits for its leader. With
// Dev it has forgotten everything, otherwise it continues from its disk.
func (a *Agent) Restart() {
	a.t.Helper()
	if err := a.start(); err != nil {
		a.t.Fatal(err)
	}
}

func (a *Agent) start() error {
	config := filepath.Join(a.dir, "agent.json")
	data, err := json.Marshal(a.config())
	if err != nil {
		return err
	}
	if err := os.WriteFile(config, data, 0o600); err != nil {
		return err
	}
	args := []string{"agent", "-config-file", config}
	if a.opts.Dev {
		args = append(args, "-dev")
	} else {
		args = append(args, "-server", "-bootstrap-expect=1", "-data-dir", filepath.Join(a.dir, "data"))
	}
	log, err := os.OpenFile(filepath.Join(a.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd, done := exec.Command(a.opts.Binary, args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start consul: %w", err)
	}
	go await(cmd, done)
	a.mu.Lock()
	a.cmd, a.done = cmd, done
	a.mu.Unlock()
	return a.awaitLeader(done)
}

// await is named for tests that look for leaked goroutines and pass this one by.
func await(cmd *exec.Cmd, done chan<- struct{}) {
	_ = cmd.Wait() // killed, mostly
	close(done)
}

func (a *Agent) config() map[string]any {
	c := map[string]any{
		"datacenter": a.opts.Datacenter, "node_name": "node-" + a.opts.Datacenter, "node_id": a.id,
		"bind_addr": a.opts.Bind, "client_addr": a.opts.Bind, "advertise_addr": a.opts.Bind,
		"ports": a.ports, "log_level": "warn", "disable_update_check": true,
		"leave_on_terminate": false, "skip_leave_on_interrupt": true,
		// the tests' own timing, not Consul's defaults for large clusters
		"check_update_interval": "0s",
		"performance":           map[string]any{"raft_multiplier": 1},
		"session_ttl_min":       "1s",
	}
	if a.opts.Region != "" {
		c["locality"] = map[string]string{"region": a.opts.Region, "zone": a.opts.Zone}
	}
	if a.opts.CAFile != "" {
		c["tls"] = map[string]any{
			"https": map[string]any{
				"ca_file": a.opts.CAFile, "cert_file": a.opts.CertFile, "key_file": a.opts.KeyFile, "verify_incoming": true,
			},
		}
	}
	if a.opts.MaxConns != 0 {
		c["limits"] = map[string]any{"http_max_conns_per_client": a.opts.MaxConns}
	}
	if a.opts.ManagementToken != "" {
		c["acl"] = map[string]any{
			"enabled": true, "default_policy": "deny",
			"tokens": map[string]string{"initial_management": a.opts.ManagementToken, "agent": a.opts.ManagementToken},
		}
	}
	maps.Copy(c, a.opts.Config)
	return c
}

func (a *Agent) awaitLeader(done <-chan struct{}) error {
	for deadline := time.Now().Add(startWithin); ; time.Sleep(20 * time.Millisecond) {
		err := a.ready()
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("consul ended at its start:\n%s", a.logTail())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("consul has no leader after %s: %w\n%s", startWithin, err, a.logTail())
		}
	}
}

// ready: there is a leader, and it has read its state; one that still reads
// answers with half of it.
func (a *Agent) ready() error {
	self, err := a.client.Agent().Self()
	if err != nil {
		return err
	}
	if id := self["Config"]["NodeID"]; id != a.id { // another took the port
		return fmt.Errorf("the port is that of node %v", id)
	}
	leader, err := a.client.Status().Leader()
	if err != nil {
		return err
	}
	nodes, _, err := a.client.Catalog().Nodes(nil)
	if err == nil && (leader == "" || len(nodes) == 0) {
		return errors.New("no leader, or no nodes yet")
	}
	return err
}

func (a *Agent) logTail() string {
	data, err := os.ReadFile(filepath.Join(a.dir, "agent.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// nodeID is a random UUID.
func nodeID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // has no error
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func freePort(t testing.TB, bind string) int {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(bind, "0"))
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}
