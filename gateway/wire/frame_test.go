package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func TestFramesOfUnknownTypeAreSkipped(t *testing.T) {
	var b []byte
	b = append(b, 0x3f, 0x03, 1, 2, 3) // type 63
	b = wire.AppendDrain(b, wire.Drain{Successor: "gw2"})
	b = append(b, 0x3e, 0x00) // type 62, empty
	b = wire.AppendCallback(b)
	r := wire.NewFrameReader(bytes.NewReader(b))
	typ, body, err := r.Next()
	if err != nil || typ != wire.FrameDrain {
		t.Fatalf("%v, %v", typ, err)
	}
	if d, err := wire.ParseDrain(body); err != nil || d.Successor != "gw2" {
		t.Errorf("drain %+v, %v", d, err)
	}
	if typ, _, err = r.Next(); err != nil || typ != wire.FrameCallback {
		t.Fatalf("%v, %v", typ, err)
	}
	if _, _, err = r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestFramesAreBounded(t *testing.T) {
	for name, b := range map[string][]byte{
		"hello":   {0x01, 0x44, 0x01}, // 1,025 bytes
		"report":  binary.BigEndian.AppendUint32([]byte{0x02}, 0x80<<24|(wire.MaxFrame+1)),
		"unknown": binary.BigEndian.AppendUint32([]byte{0x3f}, 0x80<<24|(wire.MaxFrame+1)),
	} {
		_, _, err := wire.NewFrameReader(bytes.NewReader(b)).Next()
		if _, ok := errors.AsType[*wire.ParseError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A frame that announces much and sends little must not cost much.
func TestMemoryOfAFrameFollowsWhatArrives(t *testing.T) {
	b := append([]byte{0x02, 0x80, 0x10, 0x00, 0x00}, make([]byte, 100)...) // a report of 1 MiB
	perRun := testing.Benchmark(func(tb *testing.B) {
		tb.ReportAllocs()
		for tb.Loop() {
			if _, _, err := wire.NewFrameReader(bytes.NewReader(b)).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
				tb.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if perRun > 64<<10 {
		t.Errorf("%d bytes were reserved for 100 that came", perRun)
	}
}

func TestLargestReport(t *testing.T) {
	rows := make([]wire.ServiceReport, wire.MaxReportServices)
	for i := range rows {
		rows[i] = wire.ServiceReport{
			Service: fmt.Sprintf("%060d.%060d", i, i), Port: fmt.Sprintf("%063d", i),
			Ready: 1<<32 - 1, Total: 1<<32 - 1, InFlight: 1<<32 - 1,
		}
	}
	b, err := wire.AppendReport(nil, &wire.Report{Services: rows})
	if err != nil {
		t.Fatal(err)
	}
	typ, body, err := wire.NewFrameReader(bytes.NewReader(b)).Next()
	if err != nil || typ != wire.FrameReport {
		t.Fatalf("%v, %v (%d bytes)", typ, err, len(b))
	}
	r, err := wire.ParseReport(body)
	if err != nil || len(r.Services) != len(rows) || r.Services[4999] != rows[4999] {
		t.Errorf("%d rows, %v", len(r.Services), err)
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		a, b    [2]uint32
		version uint32
		ok      bool
	}{
		{[2]uint32{1, 1}, [2]uint32{1, 1}, 1, true},
		{[2]uint32{1, 3}, [2]uint32{2, 5}, 3, true},
		{[2]uint32{1, 1}, [2]uint32{2, 5}, 0, false},
		{[2]uint32{4, 5}, [2]uint32{1, 3}, 0, false},
	} {
		version, ok := wire.Negotiate(
			&wire.Hello{MinVersion: c.a[0], MaxVersion: c.a[1]}, &wire.Hello{MinVersion: c.b[0], MaxVersion: c.b[1]})
		if ok != c.ok || ok && version != c.version {
			t.Errorf("%v and %v: %d, %v", c.a, c.b, version, ok)
		}
	}
}
