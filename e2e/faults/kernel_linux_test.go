package faults_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/stand"
	"github.com/isthmus-mesh/isthmus/e2e/tools"
	"golang.org/x/sys/unix"
)

// namespaceVariable says that this process has a network of its own.
const namespaceVariable = "ISTHMUS_FAULTS_NAMESPACE"

// TestPathsByKernel is TestPathsByRelay with nothing between the gateways but the
// kernel, whose packet filter drops what it would have delivered. The test runs
// itself in a network namespace, as root or, where users may make namespaces,
// without being it.
func TestPathsByKernel(t *testing.T) {
	nft := tools.Command(t, "nft")
	if os.Getenv(namespaceVariable) == "" {
		t.Parallel()
		inNamespace(t, nft)
		return
	}
	if err := loopbackUp(); err != nil {
		t.Fatal(err)
	}
	filter(t, nft, "")
	w := newWorld(t, options{rate: 100})
	w.cutPaths(t, func(there, back bool) {
		var rules []string
		for _, h := range w.home.Gateways {
			for _, f := range w.first.Gateways {
				if there {
					rules = append(rules, fmt.Sprintf("udp sport %d udp dport %d drop", h.Link.Port(), f.Link.Port()))
				}
				if back {
					rules = append(rules, fmt.Sprintf("udp sport %d udp dport %d drop", f.Link.Port(), h.Link.Port()))
				}
			}
		}
		filter(t, nft, strings.Join(rules, "\n"))
	})
}

// filter replaces the rules for what comes in: a sender is told nothing.
func filter(t *testing.T, nft, rules string) {
	t.Helper()
	cmd := exec.Command(nft, "-f", "-")
	cmd.Stdin = strings.NewReader("table inet faults\ndelete table inet faults\ntable inet faults {\nchain in {\n" +
		"type filter hook input priority 0\n" + rules + "\n}\n}\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// inNamespace runs the test that calls it in a process with a network of its own,
// and logs what that one measured.
func inNamespace(t *testing.T, nft string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := func(path string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), path, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		return cmd
	}
	probe := child(nft, "add", "table", "inet", "faults")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("no packet filter in a namespace of its own here; TestPathsByRelay cuts the same paths: %v: %s", err, out)
	}
	cmd := child(self, "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), namespaceVariable+"=1", "ISTHMUS_BIN="+stand.Binary(t))
	out, err := cmd.CombinedOutput()
	for line := range bytes.Lines(out) {
		if _, figure, ok := strings.Cut(strings.TrimSpace(string(line)), "figure: "); ok {
			t.Logf("figure: %s", figure)
		}
	}
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// loopbackUp is what a new network lacks.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}
