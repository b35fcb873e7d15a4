package virtual_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/virtual"
	"golang.org/x/sys/unix"
)

// TestOwn runs itself in a network of its own: as root it adds a route there, as anybody
// else it is told what to do.
func TestOwn(t *testing.T) {
	const child = "ISTHMUS_OWN_CHILD"
	if os.Getenv(child) == "" {
		if os.Getuid() != 0 {
			t.Skip("a network namespace needs root")
		}
		for _, who := range []string{"root", "nobody"} {
			cmd := exec.Command(os.Args[0], "-test.run=^TestOwn$", "-test.v") //nolint:gosec // this test itself
			cmd.Env = append(os.Environ(), child+"="+who)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", who, err, out)
			}
		}
		return
	}
	up(t)
	if os.Getenv(child) == "nobody" {
		if err := syscall.Setuid(65534); err != nil {
			t.Fatal(err)
		}
		err := virtual.Own(netip.MustParsePrefix("198.18.0.0/15"))
		if !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), "ip route add local 198.18.0.0/15 dev lo") {
			t.Errorf("without the right: %v", err)
		}
		if err := virtual.Own(netip.MustParsePrefix("127.77.0.0/16")); err != nil {
			t.Errorf("of loopback: %v", err)
		}
		return
	}
	for prefix, address := range map[string]string{"198.18.0.0/15": "198.19.1.2:0", "fd00:77::/64": "[fd00:77::9:1]:0"} {
		p := netip.MustParsePrefix(prefix)
		for range 2 { // the second finds the route
			if err := virtual.Own(p); err != nil {
				t.Fatalf("%s: %v", prefix, err)
			}
		}
		l, err := virtual.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatalf("%s cannot be reached: %v", l.Addr(), err)
		}
		_, _ = c.Close(), l.Close()
	}
}

// up brings the loopback device of a new network up.
func up(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
