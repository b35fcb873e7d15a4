package wire_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func TestRates(t *testing.T) {
	for _, want := range []uint64{0, 1, 125e6, wire.MaxRate} {
		typ, body, err := wire.NewFrameReader(bytes.NewReader(wire.AppendRate(nil, wire.Rate{BytesPerSecond: want}))).Next()
		if err != nil || typ != wire.FrameRate {
			t.Fatal(typ, err)
		}
		if r, err := wire.ParseRate(body); err != nil || r.BytesPerSecond != want {
			t.Errorf("%d came back as %+v, %v", want, r, err)
		}
	}
	for _, b := range []string{"02 01 00", "03 01 01", "02 08 ffffffffffffffff"} {
		if r, err := wire.ParseRate(unhex(t, b)); err == nil {
			t.Errorf("%s is accepted as %+v", b, r)
		}
	}
	if r, err := wire.ParseRate(unhex(t, "02 01 05 04 01 09")); err != nil || r.BytesPerSecond != 5 {
		t.Errorf("a field of a later version: %+v, %v", r, err)
	}
}

func TestProcessingTravelsWithALoad(t *testing.T) {
	for processing, want := range map[time.Duration]time.Duration{
		12345 * time.Microsecond: 12345 * time.Microsecond, 1500 * time.Nanosecond: time.Microsecond,
		2 * wire.MaxProcessing: wire.MaxProcessing, -1: 0, 0: 0,
	} {
		b := mustLoad(t, wire.Load{Offers: []wire.ServiceLoad{{Service: "a.b", Processing: processing}}})
		_, body, err := wire.NewFrameReader(bytes.NewReader(b)).Next()
		if err != nil {
			t.Fatal(err)
		}
		if l, err := wire.ParseLoad(body); err != nil || l.Offers[0].Processing != want {
			t.Errorf("%v came back as %+v, %v", processing, l, err)
		}
	}
}
