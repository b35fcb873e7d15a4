package splice_test

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/splice"
)

// BenchmarkTCPToTCP moves bulk through a splice of two loopback connections.
func BenchmarkTCPToTCP(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	pair := func() (net.Conn, net.Conn) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		return c, s
	}
	client, near := pair()
	far, server := pair()
	done := make(chan struct{})
	go func() {
		defer close(done)
		splice.New(splice.Options{}).Run(context.Background(), splice.TCP(near), splice.TCP(far), splice.Counters{}, draining)
	}()
	go func() { _, _ = io.Copy(io.Discard, server) }()
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	_ = client.Close()
	_ = server.Close()
	<-done
}
