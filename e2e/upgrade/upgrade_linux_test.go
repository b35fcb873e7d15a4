package upgrade_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

// size is 100 streams and 3 upgrades; ISTHMUS_UPGRADE=full makes it the promise: 1,000
// over 10, of the callers' gateway and of the far one by turns.
func size() (streams, upgrades int) {
	if os.Getenv("ISTHMUS_UPGRADE") == "full" {
		return 1000, 10
	}
	return 100, 3
}

func TestUpgradeInPlace(t *testing.T) {
	streams, upgrades := size()
	s := stand.New(t,
		stand.Spec{Name: "east", Cloud: "aws", Region: "us-east-1", Zone: "a", TrustDomain: "east.test", TCP: map[string]string{"echo": "echo.default"}},
		stand.Spec{Name: "west", Cloud: "gcp", Region: "us-west1", Zone: "b", TrustDomain: "west.test"},
	)
	s.Clusters[1].WriteCatalog(t,
		stand.Service{Name: "echo.default", Port: "main", Protocol: "tcp", Addresses: []string{stand.EchoServer(t).String()}},
		stand.Service{Name: "web.default", Port: "main", Protocol: "http", Addresses: []string{stand.EchoWeb(t).String()}},
	)
	near, far := own(t, s, s.Clusters[0]), own(t, s, s.Clusters[1])
	s.Start()
	near.started()
	far.started()
	echo := near.TCP["echo"]
	var turn atomic.Int64
	call := func(ctx context.Context) (string, error) {
		if turn.Add(1)%2 == 0 {
			return "", callEcho(ctx, echo)
		}
		return "", callWeb(ctx, near.HTTP)
	}
	stand.Eventually(t, within, "calls cross", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return errors.Join(callEcho(ctx, echo), callWeb(ctx, near.HTTP))
	})

	all := &kept{t: t}
	defer all.close()
	for range streams * 9 / 10 {
		all.dial(echo)
	}
	for range streams / 10 {
		all.request(near.HTTP)
	}
	if n := all.beat("before"); n > 0 {
		t.Fatalf("%d streams never worked", n)
	}
	first := [2]int{near.newest, far.newest}
	load := stand.StartLoad(t.Context(), 100, 20*time.Second, call)
	began := time.Now()
	cut := 0
	for i := range upgrades {
		g := near
		if i%2 == 1 {
			g = far
		}
		g.upgrade(i%3 == 2)
		if i%4 < 2 { // these live through fewer
			all.dial(echo)
			all.request(near.HTTP)
		}
		cut += all.beat(fmt.Sprintf("upgrade %d", i+1))
	}
	took := time.Since(began)
	failures(t, near)
	cut += all.beat("after all")
	results := load.Stop()
	if failed := results.Failed(); len(failed) > 0 || len(results) == 0 {
		t.Errorf("%d of %d calls failed:\n%s", len(failed), len(results), results.Errors())
	}
	if cut > 0 {
		t.Errorf("%d streams were cut", cut)
	}
	for i, pid := range first {
		if !alive(pid) {
			t.Errorf("process %d of the beginning has ended, though its streams go on", i)
		}
	}
	if n := near.metric("isthmus_gateway_predecessor_streams"); n < float64(streams) {
		t.Errorf("predecessors carry %v streams, of %d", n, streams)
	}
	stand.Figure(t, "%d upgrades in %s under load: %d calls, %d failed; %d streams and requests kept, %d cut",
		upgrades, took.Round(time.Millisecond), len(results), len(results.Failed()), len(all.lines), cut)

	ends(t, near, far, all)
}

// failures are successors that cannot take over: the process before serves on.
func failures(t *testing.T, g *gateway) {
	t.Helper()
	before := g.newest
	refused := func(what, want string, args ...string) {
		t.Helper()
		if out, err := g.ask(args...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v: %s; want %q", what, err, out, want)
		}
	}
	if err := os.Rename(g.program, g.program+".away"); err != nil {
		t.Fatal(err)
	}
	refused("no program", "no such file or directory")
	g.replace([]byte("#!/bin/sh\nexit 3\n"))
	refused("a program that crashes", "it ended: exit status 3")
	g.replace([]byte("#!/bin/sh\nexec sleep 600\n"))
	late := make(chan string, 1)
	started := g.LogCount("upgrade: the successor has started")
	go func() {
		out, _ := g.ask("--within", "5s")
		late <- out
	}()
	stand.Eventually(t, within, "the first of two upgrades", func() error {
		if g.LogCount("upgrade: the successor has started") == started {
			return errors.New("has not started")
		}
		return nil
	})
	refused("a second upgrade", "an upgrade is under way")
	if out := <-late; !strings.Contains(out, "is not ready: it was given 5s") {
		t.Errorf("a program that is never ready: %s", out)
	}
	g.install()
	good, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	config := func(old, replacement string) {
		t.Helper()
		next := strings.Replace(string(good), old, replacement, 1)
		if next == string(good) && old != "" {
			t.Fatalf("the configuration has no %s", old)
		}
		if err := os.WriteFile(g.config, []byte(next), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config(`"drain_timeout": "10m"`, `"drain_timeout": "soon"`)
	refused("a bad configuration", "drain_timeout")
	if err := syscall.Kill(before, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	stand.Eventually(t, within, "the successor refuses the bad configuration", func() error {
		if n := g.LogCount("upgrade refused", "drain_timeout"); n == 0 {
			return errors.New("not logged")
		}
		return nil
	})
	config(`"link": "`+g.Link.String(), `"link": "`+stand.FreePort(t).String())
	refused("another link port", "gateway.listen.link")
	config("", "")
	if pid, err := pidOf(g.Admin); err != nil || pid != before || g.metric("isthmus_gateway_ready") != 1 {
		t.Errorf("process %d serves, %v; it was %d", pid, err, before)
	}
}

// ends is how processes go: by kill in the middle of their streams, when their streams
// have ended, and the newest one last.
func ends(t *testing.T, near, far *gateway, all *kept) {
	t.Helper()
	// A successor of one that still has all its streams; then that one is killed.
	near.upgrade(false) // whose streams are none of all
	one := &kept{t: t}
	defer one.close()
	one.dial(near.TCP["echo"])
	if n := one.beat("one"); n > 0 {
		t.Fatal("no stream")
	}
	victim := near.newest
	near.upgrade(false)
	if n := one.beat("still"); n > 0 {
		t.Error("the stream was cut")
	}
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	stand.Eventually(t, within, "the stream of the killed process ends", func() error {
		if one.beat("x") == 0 {
			return errors.New("it goes on")
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 20 {
		if err := errors.Join(callEcho(ctx, near.TCP["echo"]), callWeb(ctx, near.HTTP)); err != nil {
			t.Errorf("after the kill: %v", err)
		}
	}
	if n := all.beat("others"); n > 0 {
		t.Errorf("the kill of one process cut %d streams of others", n)
	}
	// SIGTERM to the newest: it waits for those before it, whose streams go on.
	if err := syscall.Kill(far.newest, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if !alive(far.newest) {
		t.Error("the newest process left those before it behind")
	}
	if n := all.beat("last"); n > 0 {
		t.Errorf("the end of the newest process cut %d streams of others", n)
	}
	all.close()
	stand.Eventually(t, within, "all processes of the far gateway end", func() error {
		if far.PID() != 0 && alive(far.PID()) || alive(far.newest) {
			return errors.New("some run")
		}
		return nil
	})
	stand.Eventually(t, within, "the processes before the newest end", func() error {
		if n := near.metric("isthmus_gateway_predecessors"); n != 0 || alive(near.PID()) {
			return fmt.Errorf("%v are left", n)
		}
		return nil
	})
	if err := syscall.Kill(near.newest, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stand.Eventually(t, within, "the newest process ends", func() error {
		if alive(near.newest) {
			return errors.New("it runs")
		}
		return nil
	})
}
