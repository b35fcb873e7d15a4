package tunnel

import (
	"net"
	"testing"
)

func TestResolverMatchesTheSocket(t *testing.T) {
	for local, want := range map[string]string{
		"127.0.0.1": "ip4", "0.0.0.0": "ip4", "::": "ip", "::1": "ip6",
	} {
		if got := family(&net.UDPAddr{IP: net.ParseIP(local)}); got != want {
			t.Errorf("%s: %s, want %s", local, got, want)
		}
	}
	v4 := resolver{"ip4"}
	for hostport, want := range map[string]string{"127.0.0.1:7443": "127.0.0.1:7443", "localhost:7443": "127.0.0.1:7443"} {
		addr, err := v4.resolve(t.Context(), hostport)
		if err != nil || addr.String() != want {
			t.Errorf("%s: %v, %v", hostport, addr, err)
		}
	}
	for _, bad := range []string{"", "localhost", "localhost:x", "localhost:70000", "[::1]:7443"} {
		if addr, err := v4.resolve(t.Context(), bad); err == nil {
			t.Errorf("%q: %v", bad, addr)
		}
	}
}
