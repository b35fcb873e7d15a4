package demo_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/demo"
	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// The demo's clusters, from the callers' point of view.
const (
	home    = "aws-us-east-1"
	near    = "gcp-us-central1"
	distant = "onprem-ams"
)

const (
	// callTimeout is what a patient caller allows.
	callTimeout = 10 * time.Second
	// settled is generous for everything that takes seconds on an idle machine.
	settled = 60 * time.Second
)

// running is a demo that runs.
type running struct {
	t      *testing.T
	dir    string
	proc   *stand.Process
	client *http.Client
}

func startDemo(t *testing.T) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "isthmus-demo-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &running{t: t, dir: dir, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 512, IdleConnTimeout: time.Minute},
	}}
	t.Cleanup(d.client.CloseIdleConnections)
	t.Cleanup(func() {
		if t.Failed() {
			d.showLogs()
		}
	})
	d.proc = stand.NewProcess(t, t.TempDir(), "demo", stand.Binary(t), "demo", "--no-live", "--dir", dir)
	begin := time.Now()
	d.proc.Start()
	stand.Eventually(t, settled, "demo ready", func() error {
		if !d.proc.Running() {
			t.Fatalf("the demo ended:\n%s", d.proc.LogTail(20))
		}
		_, err := os.Stat(filepath.Join(dir, "demo.json"))
		if err == nil && d.proc.LogCount("ready after") == 0 {
			err = errors.New("not ready yet")
		}
		return err
	})
	stand.Figure(t, "first answer %.1f s after the start (goal 10 s)", time.Since(begin).Seconds())
	return d
}

func (d *running) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(d.dir, "logs", "*.log"))
	for _, l := range logs {
		data, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		d.t.Logf("--- %s\n%s", filepath.Base(l), strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}

func (d *running) state() demo.State {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(d.dir, "demo.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	var s demo.State
	if err := json.Unmarshal(data, &s); err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *running) cluster(name string) demo.ClusterState {
	d.t.Helper()
	for _, c := range d.state().Clusters {
		if c.Name == name {
			return c
		}
	}
	d.t.Fatalf("demo.json has no cluster %s", name)
	return demo.ClusterState{}
}

// call asks a service through the given HTTP way in: who answered?
func (d *running) call(way, service string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		a, err := d.ask(ctx, way, service)
		return a.Cluster, err
	}
}

func (d *running) ask(ctx context.Context, way, service string) (demo.Answer, error) {
	return d.askHost(ctx, way, service+".default.mesh")
}

func (d *running) askHost(ctx context.Context, way, host string) (a demo.Answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+way+"/", nil)
	if err != nil {
		return a, err
	}
	req.Host = host
	resp, err := d.client.Do(req)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("%s %s: %.200s", resp.Status, resp.Header.Get("Isthmus-Reason"), body)
	}
	return a, json.Unmarshal(body, &a)
}

// kill is kill -9 of processes by their pids, and waits until the demo has seen
// it.
func (d *running) kill(pids ...int) {
	d.t.Helper()
	for _, pid := range pids {
		if pid <= 0 {
			d.t.Fatal("the process does not run")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			d.t.Fatalf("kill %d: %v", pid, err)
		}
	}
	stand.Eventually(d.t, settled, "the demo has seen the kill", func() error {
		for _, c := range d.state().Clusters {
			for _, alive := range everything(c) {
				if slices.Contains(pids, alive) {
					return fmt.Errorf("pid %d is still in demo.json", alive)
				}
			}
		}
		return nil
	})
}

// everything is all pids of a cluster.
func everything(c demo.ClusterState) []int {
	pids := []int{c.FederationPID}
	for _, g := range c.Gateways {
		pids = append(pids, g.PID)
	}
	for _, s := range c.Services {
		pids = append(pids, s.PID)
	}
	return pids
}

func service(c demo.ClusterState, name string) demo.ServiceState {
	for _, s := range c.Services {
		if s.Name == name {
			return s
		}
	}
	return demo.ServiceState{}
}

// start runs `isthmus demo start NAME`, with the hinted binary.
func (d *running) start(name string) {
	d.t.Helper()
	cmd := exec.Command(filepath.Join(d.dir, "bin", "isthmus"), "demo", "start", name, "--dir", d.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("demo start %s: %v\n%s", name, err, out)
	}
}

// until calls until the answers come from where they should.
func (d *running) until(way, name, cluster string) {
	d.t.Helper()
	streak := 0
	stand.Eventually(d.t, settled, name+" answered by "+cluster, func() error {
		who, err := d.call(way, name)(d.t.Context())
		switch {
		case err != nil:
			streak = 0
			return err
		case who != cluster:
			streak = 0
			return fmt.Errorf("answered by %s", who)
		}
		if streak++; streak < 20 {
			return fmt.Errorf("%d answers in a row", streak)
		}
		return nil
	})
}
