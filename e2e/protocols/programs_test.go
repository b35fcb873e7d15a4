package protocols_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

func TestRealPrograms(t *testing.T) {
	p := newPair(t, "postgres", "redis", "ssh")
	postgres := startPostgres(t, p)
	startRedis(t, p)
	login := startSSH(t, p)
	p.Start()
	t.Run("postgresql", func(t *testing.T) { queryPostgres(t, p.way("postgres"), postgres) })
	t.Run("redis", func(t *testing.T) { askRedis(t, p.way("redis")) })
	t.Run("ssh", func(t *testing.T) { login(t, p.way("ssh")) })
}

// run runs a program to its end and returns what it printed.
func run(ctx context.Context, env []string, stdin string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, errs.String())
	}
	return out.String(), nil
}

// unprivileged is who runs the servers that refuse to run as root.
func unprivileged(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// server starts a server process in dir, owned by cred where that is set, and
// ends it with the test.
func server(t *testing.T, cred *syscall.Credential, dir, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			data, _ := os.ReadFile(log.Name())
			t.Logf("--- %s\n%s", name, data)
		}
		_ = log.Close()
	})
}

// ownedDir is a folder that cred may use, on a short path.
func ownedDir(t *testing.T, cred *syscall.Credential) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "isthmus-srv-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func startPostgres(t *testing.T, p *pair) (psql string) {
	t.Helper()
	psql = tools.Command(t, "psql")
	initdb, postgres := tools.Command(t, "initdb"), tools.Command(t, "postgres")
	cred := unprivileged(t)
	dir := ownedDir(t, cred)
	data := filepath.Join(dir, "data")
	initialise := exec.Command(initdb, "-D", data, "-U", "isthmus", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
	initialise.Dir, initialise.SysProcAttr = dir, &syscall.SysProcAttr{Credential: cred}
	if out, err := initialise.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	a := stand.FreePort(t)
	server(t, cred, dir, postgres, "-D", data, "-h", "127.0.0.1", "-p", port(a), "-k", dir, "-F")
	p.serve(t, "postgres", "tcp", a)
	return psql
}

func port(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }

func queryPostgres(t *testing.T, way, psql string) {
	a := netip.MustParseAddrPort(way)
	query := func(sql string) (string, error) {
		return run(t.Context(), nil, sql, psql, "-h", "127.0.0.1", "-p", port(a), "-U", "isthmus", "-d", "postgres", "-At", "-v", "ON_ERROR_STOP=1")
	}
	stand.Eventually(t, time.Minute, "postgresql answers", func() error {
		_, err := query("select 1")
		return err
	})
	out, err := query(`
		create table orders (id int primary key, note text);
		insert into orders select n, repeat('x', 1000) from generate_series(1, 20000) n;
		select count(*), sum(length(note)) from orders;`)
	if err != nil || !strings.Contains(out, "20000|20000000") {
		t.Fatalf("%q, %v", out, err)
	}
	out, err = query("copy orders to stdout") // 20 MB from the far side
	if lines := strings.Count(out, "\n"); err != nil || lines != 20000 {
		t.Fatalf("%d lines, %v", lines, err)
	}
	stand.Figure(t, "created, filled and copied 20,000 rows, %d MB", len(out)/1000000)
}

func startRedis(t *testing.T, p *pair) {
	t.Helper()
	a := stand.FreePort(t)
	server(t, nil, t.TempDir(), tools.Command(t, "redis-server"), "--bind", "127.0.0.1", "--port", port(a), "--save", "", "--appendonly", "no")
	p.serve(t, "redis", "tcp", a)
}

func askRedis(t *testing.T, way string) {
	cli, bench := tools.Command(t, "redis-cli"), tools.Command(t, "redis-benchmark")
	p := port(netip.MustParseAddrPort(way))
	stand.Eventually(t, time.Minute, "redis answers", func() error {
		out, err := run(t.Context(), nil, "", cli, "-p", p, "ping")
		if err == nil && strings.TrimSpace(out) != "PONG" {
			err = errors.New(out)
		}
		return err
	})
	value := strings.Repeat("v", 1<<20)
	if out, err := run(t.Context(), nil, value, cli, "-p", p, "-x", "set", "big"); err != nil || strings.TrimSpace(out) != "OK" {
		t.Fatalf("%q, %v", out, err)
	}
	out, err := run(t.Context(), nil, "", cli, "-p", p, "get", "big")
	if err != nil || strings.TrimSpace(out) != value {
		t.Fatalf("got %d bytes back, %v", len(out), err)
	}
	out, err = run(t.Context(), nil, "", bench, "-p", p, "-n", "20000", "-c", "50", "-P", "4", "-t", "set,get", "-q")
	if err != nil {
		t.Fatal(err)
	}
	stand.Figure(t, "redis-benchmark, 50 clients: %s", strings.Join(strings.Fields(strings.ReplaceAll(out, "\r", "\n")), " "))
}

// startSSH runs sshd with keys of its own and returns a login through a way in.
func startSSH(t *testing.T, p *pair) func(t *testing.T, way string) {
	t.Helper()
	sshd, keygen, ssh := tools.Command(t, "sshd"), tools.Command(t, "ssh-keygen"), tools.Command(t, "ssh")
	dir := ownedDir(t, nil)
	for _, name := range []string{"host", "user"} {
		if _, err := run(t.Context(), nil, "", keygen, "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "user.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "authorized"), public, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		// sshd refuses to start as root without the folder of its unprivileged child
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := stand.FreePort(t)
	config := fmt.Sprintf(`ListenAddress %s
HostKey %s/host
AuthorizedKeysFile %s/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
`, a, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "sshd_config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	server(t, nil, dir, sshd, "-D", "-e", "-f", filepath.Join(dir, "sshd_config"))
	p.serve(t, "ssh", "tcp", a)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, way string) {
		login := func(stdin, command string) (string, error) {
			return run(t.Context(), nil, stdin, ssh, "-F", "none", "-p", port(netip.MustParseAddrPort(way)),
				"-i", filepath.Join(dir, "user"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
				"-o", "LogLevel=ERROR", "-o", "BatchMode=yes", me.Username+"@127.0.0.1", command)
		}
		stand.Eventually(t, time.Minute, "ssh answers", func() error {
			_, err := login("", "true")
			return err
		})
		in := strings.Repeat("0123456789abcdef", 1<<16)
		out, err := login(in, "cat")
		if err != nil || out != in {
			t.Fatalf("sent %d bytes through cat, got %d: %v", len(in), len(out), err)
		}
	}
}
