package stand

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/isthmus-mesh/isthmus/e2e/tools"
)

// OwnAddress is an address of this machine that is not loopback, since Kubernetes'
// EndpointSlices take no other. What goes to it does not leave the machine. Without one
// the test is skipped, or fails in a strict run.
func OwnAddress(t testing.TB) netip.Addr {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			return p.Addr()
		}
	}
	const why = "this machine has no address but loopback, which EndpointSlices do not take"
	if tools.Strict(os.Getenv) {
		t.Fatal(why)
	}
	t.Skip(why)
	return netip.Addr{}
}
