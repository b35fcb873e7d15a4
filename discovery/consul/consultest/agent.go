package consultest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// startWithin is generous: a leader takes half a second on an idle machine.
const startWithin = 60 * time.Second

// Options of Start.
type Options struct {
	// Binary is the consul program.
	Binary string
	// Datacenter defaults to dc1.
	Datacenter string
	// Dev keeps nothing: a restart begins with an empty catalog and low indexes.
	// Otherwise the agent is a server with a data directory.
	Dev bool
	// Region and Zone become the agent's locality.
	Region, Zone string
}

// Agent is one Consul server.
type Agent struct {
	t      testing.TB
	opts   Options
	dir    string
	ports  map[string]int
	client *api.Client

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs an agent until the end of the test and waits for its leader.
func Start(t testing.TB, o Options) *Agent {
	t.Helper()
	if o.Datacenter == "" {
		o.Datacenter = "dc1"
	}
	a := &Agent{t: t, opts: o, dir: t.TempDir(), ports: map[string]int{}}
	for _, name := range []string{"http", "dns", "grpc", "grpc_tls", "serf_lan", "serf_wan", "server"} {
		a.ports[name] = freePort(t)
	}
	var err error
	if a.client, err = api.NewClient(&api.Config{Address: a.Address()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Kill)
	a.Restart()
	return a
}

// Address is the HTTP API's host:port.
func (a *Agent) Address() string { return fmt.Sprintf("127.0.0.1:%d", a.ports["http"]) }

// Client speaks to the agent.
func (a *Agent) Client() *api.Client { return a.client }

// PID of the running agent.
func (a *Agent) PID() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cmd.Process.Pid
}

// Kill is kill -9, and waits for the end. A dead agent stays dead.
func (a *Agent) Kill() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Kill() // it may have ended by itself
	<-a.done
	a.cmd = nil
}

// Restart starts a dead agent on the same ports and waits for its leader. With
// Dev it has forgotten everything, otherwise it continues from its disk.
func (a *Agent) Restart() {
	a.t.Helper()
	config := filepath.Join(a.dir, "agent.json")
	if err := os.WriteFile(config, a.config(), 0o600); err != nil {
		a.t.Fatal(err)
	}
	args := []string{"agent", "-config-file", config}
	if a.opts.Dev {
		args = append(args, "-dev")
	} else {
		args = append(args, "-server", "-bootstrap-expect=1", "-data-dir", filepath.Join(a.dir, "data"))
	}
	log, err := os.OpenFile(filepath.Join(a.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd, done := exec.Command(a.opts.Binary, args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = log, log
	a.mu.Lock()
	if err := cmd.Start(); err != nil {
		a.mu.Unlock()
		a.t.Fatalf("start consul: %v", err)
	}
	go func() {
		_ = cmd.Wait() // killed, mostly
		close(done)
	}()
	a.cmd, a.done = cmd, done
	a.mu.Unlock()
	a.awaitLeader(done)
}

func (a *Agent) config() []byte {
	c := map[string]any{
		"datacenter": a.opts.Datacenter, "node_name": "node-" + a.opts.Datacenter,
		"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "advertise_addr": "127.0.0.1",
		"ports": a.ports, "log_level": "warn", "disable_update_check": true,
		"leave_on_terminate": false, "skip_leave_on_interrupt": true,
		// the tests' own timing, not Consul's defaults for large clusters
		"check_update_interval": "0s",
		"performance":           map[string]any{"raft_multiplier": 1},
	}
	if a.opts.Region != "" {
		c["locality"] = map[string]string{"region": a.opts.Region, "zone": a.opts.Zone}
	}
	data, err := json.Marshal(c)
	if err != nil {
		a.t.Fatal(err)
	}
	return data
}

func (a *Agent) awaitLeader(done <-chan struct{}) {
	a.t.Helper()
	deadline := time.Now().Add(startWithin)
	for {
		leader, err := a.client.Status().Leader()
		if err == nil && leader != "" {
			// a leader that still loads its state answers with half of it
			if nodes, _, err := a.client.Catalog().Nodes(nil); err == nil && len(nodes) > 0 {
				return
			}
		}
		select {
		case <-done:
			a.t.Fatalf("consul ended at its start:\n%s", a.logTail())
		default:
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("consul has no leader after %s: %v\n%s", startWithin, err, a.logTail())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (a *Agent) logTail() string {
	data, err := os.ReadFile(filepath.Join(a.dir, "agent.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// Register registers or replaces a service on the agent's node.
func (a *Agent) Register(s *api.AgentServiceRegistration) {
	a.t.Helper()
	if err := a.client.Agent().ServiceRegister(s); err != nil {
		a.t.Fatal(err)
	}
}

// Deregister removes a service by its ID.
func (a *Agent) Deregister(id string) {
	a.t.Helper()
	if err := a.client.Agent().ServiceDeregister(id); err != nil {
		a.t.Fatal(err)
	}
}

// SetTTL tells the TTL check of that ID: api.HealthPassing, HealthWarning or
// HealthCritical.
func (a *Agent) SetTTL(checkID, status string) {
	a.t.Helper()
	if err := a.client.Agent().UpdateTTL(checkID, "set by the test", status); err != nil {
		a.t.Fatal(err)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}
