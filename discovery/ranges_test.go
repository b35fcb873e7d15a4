package discovery_test

import (
	"net/netip"
	"testing"

	"github.com/isthmus-mesh/isthmus/discovery"
)

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		allow   []string
		address string
		want    discovery.Refusal
	}{
		{nil, "10.0.0.1", discovery.None},
		{nil, "8.8.8.8", discovery.None},
		{nil, "2001:db8::1", discovery.None},
		{nil, "fd00::1", discovery.None},
		{nil, "0.0.0.0", discovery.Unspecified},
		{nil, "0.1.2.3", discovery.Unspecified},
		{nil, "::", discovery.Unspecified},
		{nil, "127.0.0.1", discovery.Loopback},
		{nil, "127.8.9.1", discovery.Loopback},
		{nil, "::1", discovery.Loopback},
		{nil, "169.254.1.1", discovery.LinkLocal},
		{nil, "fe80::1", discovery.LinkLocal},
		{nil, "fe80::1%eth0", discovery.LinkLocal},
		{nil, "169.254.169.254", discovery.Metadata},
		{nil, "169.254.170.2", discovery.Metadata},
		{nil, "fd00:ec2::254", discovery.Metadata},
		{nil, "fd20:ce::254", discovery.Metadata},
		{nil, "168.63.129.16", discovery.Metadata},
		{nil, "100.100.100.200", discovery.Metadata},
		{nil, "224.0.0.1", discovery.Multicast},
		{nil, "255.255.255.255", discovery.Multicast},
		{nil, "ff02::1", discovery.Multicast},
		{nil, "::ffff:10.0.0.1", discovery.Mapped},
		{nil, "::ffff:127.0.0.1", discovery.Mapped},
		{nil, "64:ff9b::a9fe:a9fe", discovery.Metadata},
		{nil, "64:ff9b::7f00:1", discovery.Loopback},
		{nil, "64:ff9b::808:808", discovery.None},

		{[]string{"10.0.0.0/8"}, "10.1.2.3", discovery.None},
		{[]string{"10.0.0.0/8"}, "11.1.2.3", discovery.Outside},
		{[]string{"10.0.0.0/8"}, "2001:db8::1", discovery.Outside},
		{[]string{"10.0.0.0/8"}, "127.0.0.1", discovery.Loopback},
		// A wide range opens nothing special ...
		{[]string{"0.0.0.0/0", "::/0"}, "127.0.0.1", discovery.Loopback},
		{[]string{"0.0.0.0/0", "::/0"}, "169.254.169.254", discovery.Metadata},
		{[]string{"0.0.0.0/0", "::/0"}, "::1", discovery.Loopback},
		{[]string{"0.0.0.0/0", "::/0"}, "::ffff:10.0.0.1", discovery.Mapped},
		{[]string{"0.0.0.0/0", "::/0"}, "64:ff9b::a9fe:a9fe", discovery.Metadata},
		{[]string{"0.0.0.0/0"}, "10.0.0.1", discovery.None},
		// ... one inside of the special range does.
		{[]string{"127.0.0.0/8"}, "127.0.0.1", discovery.None},
		{[]string{"127.0.0.1/32"}, "127.0.0.1", discovery.None},
		{[]string{"127.0.0.1/32"}, "127.0.0.2", discovery.Loopback},
		{[]string{"127.0.0.0/8"}, "10.0.0.1", discovery.Outside},
		{[]string{"169.254.0.0/16"}, "169.254.1.1", discovery.None},
		{[]string{"169.254.0.0/16"}, "169.254.169.254", discovery.Metadata},
		{[]string{"169.254.169.254/32"}, "169.254.169.254", discovery.None},
		{[]string{"::ffff:0:0/96"}, "::ffff:10.0.0.1", discovery.None},
		{[]string{"::ffff:0:0/96"}, "::ffff:127.0.0.1", discovery.Loopback},
		{[]string{"::ffff:0:0/96", "127.0.0.0/8"}, "::ffff:127.0.0.1", discovery.None},
	} {
		var allow []netip.Prefix
		for _, p := range c.allow {
			allow = append(allow, netip.MustParsePrefix(p))
		}
		if got := discovery.NewRanges(allow...).Check(netip.MustParseAddr(c.address)); got != c.want {
			t.Errorf("%s with %v: got %q, want %q", c.address, c.allow, got, c.want)
		}
	}
}
