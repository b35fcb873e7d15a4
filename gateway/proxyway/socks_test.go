package proxyway

import (
	"bufio"
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func bytesReader(b []byte) *bufio.Reader { return bufio.NewReaderSize(bytes.NewReader(b), maxHead) }

func TestSOCKSRequests(t *testing.T) {
	name := func(s string) []byte { return append([]byte{3, byte(len(s))}, s...) }
	request := func(command byte, target []byte) []byte {
		return append(append([]byte{5, command, 0}, target...), 0x1F, 0x90)
	}
	n, _, port, err := readRequest(bytesReader(request(1, name("web.shop.mesh"))))
	if err != nil || n != "web.shop.mesh" || port != 8080 {
		t.Errorf("%q %d %v", n, port, err)
	}
	if n, _, _, err := readRequest(bytesReader(request(1, name(strings.Repeat("x", 255))))); err != nil || len(n) != 255 {
		t.Errorf("%d bytes, %v", len(n), err)
	}
	for target, want := range map[string]string{
		"\x01\x7f\x4d\x00\x05": "127.77.0.5", "\x04\xfd\x00\x00\x77" + strings.Repeat("\x00", 11) + "\x05": "fd00:77::5",
		"\x04" + strings.Repeat("\x00", 10) + "\xff\xff\x7f\x4d\x00\x05": "127.77.0.5",
	} {
		if _, a, _, err := readRequest(bytesReader(request(1, []byte(target)))); err != nil || a != netip.MustParseAddr(want) {
			t.Errorf("%s, want %s, %v", a, want, err)
		}
	}
	for command, want := range map[byte]byte{2: replyNoCommand, 3: replyNoCommand, 0: replyNoCommand, 9: replyNoCommand} {
		_, _, _, err := readRequest(bytesReader(request(command, name("web.shop.mesh"))))
		if e, ok := errors.AsType[*replyError](err); !ok || e.code != want {
			t.Errorf("command %d: %v", command, err)
		}
	}
	_, _, _, err = readRequest(bytesReader([]byte{5, 1, 0, 2, 0, 0}))
	if e, ok := errors.AsType[*replyError](err); !ok || e.code != replyNoType {
		t.Errorf("an unknown type: %v", err)
	}
	for what, b := range map[string][]byte{"version": {4, 1, 0, 1, 1, 1, 1, 1, 0, 80}, "reserved": {5, 1, 1, 1, 1, 1, 1, 1, 0, 80}, "empty name": {5, 1, 0, 3, 0, 0, 80}} {
		if _, _, _, err := readRequest(bytesReader(b)); !errors.Is(err, errSOCKS) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSOCKSMethods(t *testing.T) {
	for _, c := range []struct {
		in       string
		password bool
		out      string
		want     *user
		err      error
	}{
		{"\x05\x01\x00", false, "\x05\x00", nil, nil},
		{"\x05\x03\x01\x02\x00", false, "\x05\x00", nil, nil},
		{"\x05\x01\x02", false, "\x05\xff", nil, errUser},
		{"\x05\x00", false, "\x05\xff", nil, errUser},
		{"\x05\x01\x00", true, "\x05\xff", nil, errUser},
		{"\x05\x02\x00\x02\x01\x02ci\x03pwd", true, "\x05\x02", &user{"ci", "pwd"}, nil},
		{"\x05\x01\x02\x05\x02ci\x03pwd", true, "\x05\x02", nil, errSOCKS},
		{"\x05\x01\x02\x01\x00\x03pwd", true, "\x05\x02", nil, errSOCKS},
	} {
		var out bytes.Buffer
		u, err := negotiate(bytesReader([]byte(c.in)), &out, c.password)
		if out.String() != c.out || !errors.Is(err, c.err) || c.err == nil && err != nil || (u == nil) != (c.want == nil) || u != nil && *u != *c.want {
			t.Errorf("%q: said %q, %v, %v", c.in, out.String(), u, err)
		}
	}
}

// FuzzSOCKS: whatever comes, what is read was there, and each cut of it asks for more.
func FuzzSOCKS(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x0dweb.shop.mesh\x00\x50"), false)
	f.Add([]byte("\x05\x01\x02\x01\x02ci\x03pwd\x05\x01\x00\x01\x7f\x4d\x00\x05\x00\x50"), true)
	f.Add([]byte("\x05\x01\x00\x05\x03\x00\x04aaaaaaaaaaaaaaaa\x00\x50"), false)
	f.Fuzz(func(t *testing.T, b []byte, password bool) {
		read := func(b []byte) (used int, err error) {
			r := bytesReader(b)
			if _, err = negotiate(r, &bytes.Buffer{}, password); err == nil {
				_, _, _, err = readRequest(r)
			}
			return len(b) - r.Buffered(), err
		}
		used, err := read(b)
		if err != nil || len(b) > maxHead {
			return
		}
		if _, err := read(b[:used-1]); err == nil {
			t.Fatalf("%q and a byte less are both whole", b[:used])
		}
	})
}
