package sniway_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/cryptobyte"

	"github.com/isthmus-mesh/isthmus/gateway/sniway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// helloOf is the ClientHello of a real client.
func helloOf(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(theirs, config).Handshake() // ends with the pipe
	}()
	var out bytes.Buffer
	header := make([]byte, 5)
	if _, err := io.ReadFull(ours, header); err != nil {
		t.Fatal(err)
	}
	out.Write(header)
	if _, err := io.CopyN(&out, ours, int64(header[3])<<8|int64(header[4])); err != nil {
		t.Fatal(err)
	}
	_, _ = ours.Close(), theirs.Close()
	<-done
	return out.Bytes()
}

// fed is the end of a connection on which parts arrive one by one.
func fed(t testing.TB, parts ...[]byte) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, p := range parts {
			if _, err := theirs.Write(p); err != nil {
				return
			}
		}
		_ = theirs.Close()
	}()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close(); <-done })
	return ours
}

// bytewise cuts b into single bytes.
func bytewise(b []byte) (parts [][]byte) {
	for i := range b {
		parts = append(parts, b[i:i+1])
	}
	return parts
}

// records cuts the handshake message of one record into records of n bytes each.
func records(b []byte, n int) []byte {
	var out []byte
	for message := b[5:]; len(message) > 0; {
		part := message[:min(n, len(message))]
		out = append(append(out, 22, 3, 1, byte(len(part)>>8), byte(len(part))), part...)
		message = message[len(part):]
	}
	return out
}

// echConfigs is a list of one configuration (RFC 9849, section 4).
func echConfigs(t *testing.T, public string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(0xfe0d)
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint8(1)       // config_id
			b.AddUint16(0x0020) // DHKEM(X25519, HKDF-SHA256)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(key.PublicKey().Bytes()) })
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
				b.AddUint16(1) // HKDF-SHA256
				b.AddUint16(1) // AES-128-GCM
			})
			b.AddUint8(0) // maximum_name_length
			b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(public)) })
			b.AddUint16(0) // extensions
		})
	})
	return b.BytesOrPanic()
}

func TestHello(t *testing.T) {
	plain := helloOf(t, &tls.Config{ServerName: "web.shop.mesh"})
	nameless := helloOf(t, &tls.Config{ServerName: "10.0.0.1", InsecureSkipVerify: true})
	old := helloOf(t, &tls.Config{ServerName: "web.shop.mesh", MaxVersion: tls.VersionTLS12})
	hidden := helloOf(t, &tls.Config{ServerName: "web.shop.mesh", EncryptedClientHelloConfigList: echConfigs(t, "public.example.org")})
	more := []byte("early data")
	for name, c := range map[string]struct {
		parts [][]byte
		name  string
		ech   bool
	}{
		"one segment":         {[][]byte{plain}, "web.shop.mesh", false},
		"byte by byte":        {bytewise(plain), "web.shop.mesh", false},
		"in many records":     {[][]byte{records(plain, 7)}, "web.shop.mesh", false},
		"of TLS 1.2":          {[][]byte{old}, "web.shop.mesh", false},
		"without a name":      {[][]byte{nameless}, "", false},
		"with an encrypted":   {[][]byte{hidden}, "public.example.org", true},
		"and what follows it": {[][]byte{append(bytes.Clone(plain), more...)}, "web.shop.mesh", false},
	} {
		got, ech, read, err := sniway.ReadHello(fed(t, c.parts...), time.Now().Add(10*time.Second))
		if err != nil || got != c.name || ech != c.ech || !bytes.Equal(read, bytes.Join(c.parts, nil)) {
			t.Errorf("%s: %q, ech %t, %d of %d bytes, %v", name, got, ech, len(read), len(bytes.Join(c.parts, nil)), err)
		}
	}
}

func TestWhatIsNoHello(t *testing.T) {
	plain := helloOf(t, &tls.Config{ServerName: "web.shop.mesh"})
	long := []byte{1, 0, 0xff, 0xff} // a ClientHello of 64 KiB in records of 1 KiB
	for len(long) < 1<<16 {
		long = append(long, 0)
	}
	for name, c := range map[string]struct {
		parts [][]byte
		want  error
	}{
		"http":               {[][]byte{[]byte("GET / HTTP/1.1\r\nHost: web.shop.mesh\r\n\r\n")}, sniway.ErrNotTLS},
		"ssh":                {[][]byte{[]byte("SSH-2.0-OpenSSH_9.2\r\n")}, sniway.ErrNotTLS},
		"a cut one":          {[][]byte{plain[:len(plain)-1]}, io.EOF},
		"nothing":            {nil, io.EOF},
		"another message":    {[][]byte{{22, 3, 1, 0, 4, 2, 0, 0, 0}}, sniway.ErrHello},
		"an alert":           {[][]byte{{21, 3, 3, 0, 2, 2, 40}}, sniway.ErrHello},
		"garbage of a hello": {[][]byte{append([]byte{22, 3, 1, 0, 44, 1, 0, 0, 40}, bytes.Repeat([]byte{0xff}, 40)...)}, sniway.ErrHello},
		"an endless one":     {[][]byte{records(append(make([]byte, 5), long...), 1024)}, sniway.ErrTooLong},
	} {
		_, _, read, err := sniway.ReadHello(fed(t, c.parts...), time.Now().Add(10*time.Second))
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
		if len(read) > sniway.MaxHello {
			t.Errorf("%s: %d bytes were read", name, len(read))
		}
	}
	ours, theirs := net.Pipe()
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	if _, _, _, err := sniway.ReadHello(ours, time.Now().Add(time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent caller: %v", err)
	}
}

// FuzzReadHello: whatever arrives, what was read is kept as it was, within the bound.
func FuzzReadHello(f *testing.F) {
	f.Add(helloOf(f, &tls.Config{ServerName: "web.shop.mesh"}))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, read, err := sniway.ReadHello(fed(t, b), time.Now().Add(10*time.Second))
		if len(read) > sniway.MaxHello || !bytes.HasPrefix(b, read) || err == nil && len(read) == 0 {
			t.Errorf("%d of %d bytes, %v", len(read), len(b), err)
		}
	})
}
