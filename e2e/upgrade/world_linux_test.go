package upgrade_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

const within = time.Minute

// gateway is one that is upgraded: its program lies at a path of its own.
type gateway struct {
	*stand.Gateway
	t       *testing.T
	program string
	config  string
	newest  int // the process that serves
	group   int
}

// own gives a gateway a program of its own, before it is started.
func own(t *testing.T, s *stand.Stand, c *stand.Cluster) *gateway {
	t.Helper()
	g := &gateway{Gateway: c.Gateways[0], t: t, program: filepath.Join(s.Dir, c.Name, "isthmus"), config: filepath.Join(s.Dir, c.Name, c.Gateways[0].Name+".yaml")}
	if err := os.MkdirAll(filepath.Dir(g.program), 0o700); err != nil {
		t.Fatal(err)
	}
	g.install()
	g.Path = g.program
	g.Section()["drain_timeout"] = "10m"
	return g
}

// install puts the program in place, as a package manager does: another file.
func (g *gateway) install() {
	g.t.Helper()
	data, err := os.ReadFile(stand.Binary(g.t))
	if err != nil {
		g.t.Fatal(err)
	}
	g.replace(data)
}

func (g *gateway) replace(data []byte) {
	g.t.Helper()
	next := g.program + ".new"
	err := os.WriteFile(next, data, 0o700)
	if err == nil {
		err = os.Rename(next, g.program)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// started is to be called when the stand has started.
func (g *gateway) started() {
	g.newest, g.group = g.PID(), g.PID()
	g.t.Cleanup(func() { _ = syscall.Kill(-g.group, syscall.SIGKILL) }) // successors, too
}

// ask runs isthmus upgrade.
func (g *gateway) ask(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), within)
	defer cancel()
	out, err := exec.CommandContext(ctx, stand.Binary(g.t), append([]string{"upgrade", "--config", g.config}, args...)...).CombinedOutput()
	return string(out), err
}

var served = regexp.MustCompile(`process (\d+) serves \(generation (\d+)\), process (\d+) finishes`)

// upgrade replaces the process: by the command, or by the signal.
func (g *gateway) upgrade(bySignal bool) {
	g.t.Helper()
	g.install()
	before, generation := g.newest, g.metric("isthmus_gateway_generation")
	if bySignal {
		if err := syscall.Kill(before, syscall.SIGUSR2); err != nil {
			g.t.Fatal(err)
		}
	} else {
		out, err := g.ask()
		m := served.FindStringSubmatch(out)
		if err != nil || m == nil || m[3] != strconv.Itoa(before) || m[2] != fmt.Sprint(generation+1) {
			g.t.Fatalf("upgrade: %v: %s", err, out)
		}
	}
	stand.Eventually(g.t, within, "the successor answers", func() error {
		if now := g.metric("isthmus_gateway_generation"); now != generation+1 {
			return fmt.Errorf("generation %v", now)
		}
		return nil
	})
	pid, err := pidOf(g.Admin)
	if err != nil || pid == before {
		g.t.Fatalf("process %d of %d: %v", pid, before, err)
	}
	g.newest = pid
}

// metric is a sample of the process that answers now; 0 while none does.
func (g *gateway) metric(name string) float64 {
	body, err := stand.Get("http://" + g.Admin.String() + "/metrics")
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(body)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(string(m[1]), 64)
	return v
}

// pidOf is the newest process that has the listener: the one that was started last of
// those that hold the same socket.
func pidOf(at netip.AddrPort) (int, error) {
	inode, err := listening(at)
	if err != nil {
		return 0, err
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	newest, since := 0, uint64(0)
	for _, l := range links {
		if target, err := os.Readlink(l); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(l))))
		if started, err := startOf(pid); err == nil && (started > since || started == since && pid > newest) {
			newest, since = pid, started
		}
	}
	if newest == 0 {
		return 0, errors.New("nobody listens")
	}
	return newest, nil
}

// listening is the inode of the socket that listens at an IPv4 address.
func listening(at netip.AddrPort) (string, error) {
	data, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return "", err
	}
	a := at.Addr().As4()
	want := fmt.Sprintf("%02X%02X%02X%02X:%04X", a[3], a[2], a[1], a[0], at.Port())
	for line := range bytes.Lines(data) {
		if f := bytes.Fields(line); len(f) > 9 && string(f[1]) == want && string(f[3]) == "0A" {
			return string(f[9]), nil
		}
	}
	return "", fmt.Errorf("nobody listens at %s", at)
}

// startOf is when a process was started, in ticks.
func startOf(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(f) < 20 {
		return 0, errors.New("short stat")
	}
	return strconv.ParseUint(string(f[19]), 10, 64)
}

// alive reports whether a process runs; one that has ended and is nobody's is not.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	return len(f) > 0 && string(f[0]) != "Z"
}

// kept are connections and requests that go on until they are ended.
type kept struct {
	t     *testing.T
	mu    sync.Mutex
	lines []io.ReadWriteCloser
}

func (k *kept) dial(at netip.AddrPort) {
	k.t.Helper()
	conn, err := net.DialTimeout("tcp", at.String(), within)
	if err != nil {
		k.t.Fatal(err)
	}
	k.add(conn)
}

// request is one whose body and answer go on.
func (k *kept) request(at netip.AddrPort) {
	k.t.Helper()
	in, out := io.Pipe()
	resp, err := stand.Send(context.WithoutCancel(k.t.Context()), at, "/echo", in)
	if err != nil {
		k.t.Fatal(err)
	}
	k.add(&exchange{Reader: resp.Body, PipeWriter: out, body: resp.Body})
}

type exchange struct {
	io.Reader
	*io.PipeWriter
	body io.Closer
}

func (e *exchange) Close() error { return errors.Join(e.PipeWriter.Close(), e.body.Close()) }

func (k *kept) add(c io.ReadWriteCloser) {
	k.mu.Lock()
	k.lines = append(k.lines, c)
	k.mu.Unlock()
}

// beat sends something on each and wants it back.
func (k *kept) beat(text string) (cut int) {
	k.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i, c := range k.lines {
		wg.Go(func() {
			_, err := io.WriteString(c, text)
			got := make([]byte, len(text))
			if err == nil {
				_, err = io.ReadFull(c, got)
			}
			if err != nil || string(got) != text {
				mu.Lock()
				defer mu.Unlock()
				if cut++; cut <= 3 {
					k.t.Logf("stream %d at %q: %q, %v", i, text, got, err)
				}
			}
		})
	}
	wg.Wait()
	return cut
}

func (k *kept) close() {
	for _, c := range k.lines {
		_ = c.Close()
	}
	k.lines = nil
}

func callWeb(ctx context.Context, way netip.AddrPort) error {
	resp, err := stand.Send(ctx, way, "/", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != "web" {
		err = fmt.Errorf("%q", body)
	}
	return err
}

// callEcho is a new connection for one exchange.
func callEcho(ctx context.Context, way netip.AddrPort) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", way.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := io.WriteString(conn, "hello"); err != nil {
		return err
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello" {
		return fmt.Errorf("%q: %w", b, err)
	}
	return nil
}
