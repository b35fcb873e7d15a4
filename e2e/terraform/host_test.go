package terraform_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
)

const patience = 90 * time.Second // for what must come; no measure

// billing answers with its cluster's name.
func billing(t *testing.T, cluster string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, cluster) }))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// network is three numbers of loopback addresses that nobody uses.
func network(t *testing.T, hosts ...int) string {
	t.Helper()
	for n := range 200 {
		three := fmt.Sprintf("127.%d.%d", 32+n, 1+os.Getpid()%250)
		free := true
		for _, host := range hosts {
			for _, port := range []int{7080, 7443, 7480, 7481, 7482, 7483} {
				free = free && unused(fmt.Sprintf("%s.%d:%d", three, host, port))
			}
		}
		if free {
			return three
		}
	}
	t.Skip("needs loopback addresses other than 127.0.0.1, which this system has not")
	return ""
}

// unused reports whether nothing listens at an address, neither TCP nor UDP.
func unused(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	_ = l.Close()
	p, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	_ = p.Close()
	return true
}

// base is a folder with a short name, since sockets lie below it.
func base(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "isthmus-tf-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// processes are those whose command line names a folder.
func processes(t *testing.T, dir string) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(all) == 0 {
		t.Skip("needs /proc")
	}
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(line), dir+"/") {
			continue // it has ended, or is another's
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killed ends what a failed test leaves.
func killed(t *testing.T, dir string) {
	t.Cleanup(func() {
		for _, pid := range processes(t, dir) {
			t.Errorf("process %d of %s was left", pid, dir)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

// logs are shown if the test fails; they go with the folder.
func logs(t *testing.T, dir string) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		all, _ := filepath.Glob(filepath.Join(dir, "*", "log", "*.log"))
		for _, path := range all {
			data, _ := os.ReadFile(path)
			lines := strings.Split(strings.TrimSpace(string(data)), "\n")
			t.Logf("--- end of %s:\n%s", path, strings.Join(lines[max(0, len(lines)-15):], "\n"))
		}
	})
}

func pid(t *testing.T, dir, role string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "run", role+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// call asks a gateway for billing.
func call(ctx context.Context, gateway string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+gateway+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = "billing.default.mesh"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

func answeredBy(t *testing.T, gateway, want string) {
	t.Helper()
	stand.Eventually(t, patience, "billing answered by "+want, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		got, err := call(ctx, gateway)
		if err == nil && got != want {
			err = fmt.Errorf("answered by %q", got)
		}
		return err
	})
}
