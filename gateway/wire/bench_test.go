package wire_test

import (
	"bytes"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func BenchmarkAppendHeader(b *testing.B) {
	h := fullHeader()
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.AppendHeader(buf, &h); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadHeader(b *testing.B) {
	encoded := mustHeader(b, fullHeader())
	r := bytes.NewReader(nil)
	var h wire.Header
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(encoded)
		if _, err := wire.ReadKind(r); err != nil {
			b.Fatal(err)
		}
		if err := wire.ReadHeader(r, &h); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadReply(b *testing.B) {
	encoded := wire.AppendReply(nil, wire.Reply{})
	r := bytes.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(encoded)
		if _, err := wire.ReadReply(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProbe(b *testing.B) {
	p := wire.Probe{Seq: 7000, Heard: 6999, Sent: 2e12, Echo: 2e12, Delay: 15e7, Quiet: 8e7}
	buf := make([]byte, 0, wire.MaxProbe)
	b.ReportAllocs()
	for b.Loop() {
		buf = wire.AppendProbe(buf[:0], &p)
		if _, err := wire.ParseProbe(buf, &p); err != nil {
			b.Fatal(err)
		}
	}
}

// The decoder's share of opening a stream: one copy for all strings.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations cannot be counted under the race detector")
	}
	encoded := mustHeader(t, fullHeader())
	r := bytes.NewReader(nil)
	var h wire.Header
	if n := testing.AllocsPerRun(100, func() {
		r.Reset(encoded)
		_, _ = wire.ReadKind(r)
		_ = wire.ReadHeader(r, &h)
	}); n > 1 {
		t.Errorf("reading a header allocates %v times, want 1", n)
	}
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { _, _ = wire.AppendHeader(buf, &h) }); n > 0 {
		t.Errorf("appending a header allocates %v times", n)
	}
	ok := wire.AppendReply(nil, wire.Reply{})
	if n := testing.AllocsPerRun(100, func() {
		r.Reset(ok)
		_, _ = wire.ReadReply(r)
	}); n > 0 {
		t.Errorf("reading an ok allocates %v times", n)
	}
}
