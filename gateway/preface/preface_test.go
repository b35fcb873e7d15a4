package preface_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/isthmus-mesh/isthmus/gateway/preface"
)

// conn is a connection that brings bytes.
type conn struct {
	net.Conn
	io.Reader
}

func (c conn) Read(p []byte) (int, error)    { return c.Reader.Read(p) }
func (conn) SetReadDeadline(time.Time) error { return nil }

func read(o preface.Options, sent []byte) (netip.Addr, []byte, error) {
	return preface.New(o).Read(conn{Reader: bytes.NewReader(sent)})
}

// header is what the library of a balancer would write.
func header(t testing.TB, version byte, from string, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	a := netip.MustParseAddr(from)
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 4000)), net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 443)))
	if len(tlvs) > 0 {
		if err := h.SetTLVs(tlvs); err != nil {
			t.Fatal(err)
		}
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeaders(t *testing.T) {
	ten := preface.Options{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}
	tlv := proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("web.shop.mesh")}
	odd := proxyproto.TLV{Type: 0xEE, Value: bytes.Repeat([]byte("x"), 3000)}
	local := []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
	for name, c := range map[string]struct {
		options preface.Options
		sent    []byte
		from    string
		want    error
	}{
		"version 2":               {ten, header(t, 2, "10.1.2.3"), "10.1.2.3", nil},
		"version 2, IPv6":         {ten, header(t, 2, "fd00::1"), "fd00::1", nil},
		"version 2, with TLVs":    {ten, header(t, 2, "10.1.2.3", tlv, odd), "10.1.2.3", nil},
		"version 2, another":      {ten, header(t, 2, "192.0.2.1"), "", preface.ErrSource},
		"version 2, of anybody":   {preface.Options{}, header(t, 2, "192.0.2.1"), "192.0.2.1", nil},
		"a check of the balancer": {ten, local, "", nil},
		"version 1":               {ten, header(t, 1, "10.1.2.3"), "", preface.ErrVersion},
		"version 1, taken":        {preface.Options{V1: true}, header(t, 1, "10.1.2.3"), "10.1.2.3", nil},
		"none":                    {ten, []byte("GET / HTTP/1.1\r\n\r\n"), "", preface.ErrHeader},
		"nothing":                 {ten, nil, "", preface.ErrHeader},
		"a cut one":               {ten, header(t, 2, "10.1.2.3")[:20], "", preface.ErrHeader},
		"a long one":              {ten, append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"), bytes.Repeat([]byte("x"), 70000)...), "", preface.ErrHeader},
		"another version":         {ten, []byte("\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c123456789012"), "", preface.ErrHeader},
		"datagrams":               {ten, []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c\x0a\x01\x02\x03\x0a\x01\x02\x04\x00\x01\x00\x02"), "", preface.ErrHeader},
	} {
		from, rest, err := read(c.options, append(bytes.Clone(c.sent), "hello"...))
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			if name != "nothing" || !errors.Is(err, preface.ErrHeader) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			continue
		}
		if err != nil {
			continue
		}
		if from.IsValid() != (c.from != "") || from.IsValid() && from.String() != c.from || string(rest) != "hello" {
			t.Errorf("%s: %s, %q", name, from, rest)
		}
	}
}

// FuzzRead: what is taken names an address of the sources, and what follows it is whole.
func FuzzRead(f *testing.F) {
	f.Add(header(f, 2, "10.1.2.3"))
	f.Add(header(f, 2, "fd00::1", proxyproto.TLV{Type: 1, Value: []byte("h2")}))
	f.Add(header(f, 1, "10.1.2.3"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	o := preface.Options{V1: true, Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > 4000 {
			return
		}
		from, rest, err := read(o, sent)
		if err != nil {
			return
		}
		if from.IsValid() && !strings.HasPrefix(from.String(), "10.") || !bytes.HasSuffix(sent, rest) {
			t.Fatalf("%q: %s, %q", sent, from, rest)
		}
	})
}
