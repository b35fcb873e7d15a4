package release_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// machine runs a script of testdata in a copy of this machine's file system that is
// gone afterwards: what is installed there is installed for real. It has its own
// processes; /pkg holds files.
func machine(t *testing.T, script string, files ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: packages are installed in a mount namespace, which only root can make")
	}
	unshare := tools.Command(t, "unshare")
	scripts, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), unshare, append([]string{
		"--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
		"sh", "-e", filepath.Join(scripts, "machine.sh"), t.TempDir(), filepath.Join(scripts, script),
	}, files...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func TestDebianPackagesInstallRunUpgradeAndLeave(t *testing.T) {
	b := release(t)
	tools.Command(t, "dpkg")
	const deb = "1.2.3~rc.4_amd64.deb"
	out := machine(t, "debian.sh", b.file(t, "isthmus_"+deb), b.file(t, "isthmus-source_"+deb),
		filepath.Join(b.clone, "deploy", "packages", "ca.yaml"))
	for _, want := range []string{
		"isthmus v" + version, "built by deploy/release", "ran: cluster east", "reloaded", "kept: the changed file", "gone",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
}

func TestRPMPackagesInstallAndLeave(t *testing.T) {
	b := release(t)
	tools.Command(t, "rpm")
	const rpm = "1.2.3~rc.4-1.x86_64.rpm"
	out := machine(t, "redhat.sh", b.file(t, "isthmus-"+rpm), b.file(t, "isthmus-source-"+rpm))
	for _, want := range []string{"isthmus v" + version, "Apache-2.0", "digests OK", "kept: the changed file", "gone"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
}

func TestUnitsAreHardened(t *testing.T) {
	analyze := tools.Command(t, "systemd-analyze")
	units, err := filepath.Glob("../../deploy/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("units: %v, %v", units, err)
	}
	for _, unit := range units {
		// The threshold is in tenths.
		out, err := exec.CommandContext(t.Context(), analyze, "security", "--no-pager", "--offline=yes", "--threshold=15", unit).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Logf("figure: %s", strings.TrimSpace(lines[len(lines)-1]))
	}
}
