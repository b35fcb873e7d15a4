package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func fullLoad() wire.Load {
	return wire.Load{
		Seq: 7, Heard: 5,
		Offers: []wire.ServiceLoad{{
			Service: "a.default", Port: "http", Capacity: 100, InFlight: 40, Spare: 30, Granted: 10, Lease: 3 * time.Second,
		}},
		Wants: []wire.ServiceLoad{{Service: "b.default", Want: 5}},
	}
}

// gradedLoad is fullLoad with priorities.
func gradedLoad() wire.Load {
	l := fullLoad()
	o := &l.Offers[0]
	o.SpareDefault, o.SpareCritical, o.GrantedDefault, o.GrantedCritical = 7, 20, 5, 9
	l.Wants[0].WantCritical, l.Wants[0].WantLow = 3, 1
	return l
}

func mustLoad(t testing.TB, l wire.Load) []byte {
	t.Helper()
	b, err := wire.AppendLoad(nil, &l)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLargestLoad(t *testing.T) {
	var l wire.Load
	for i := range wire.MaxReportServices {
		row := wire.ServiceLoad{
			Service: fmt.Sprintf("%060d.%060d", i, i), Port: fmt.Sprintf("%063d", i), Capacity: wire.MaxCalls,
			InFlight: wire.MaxCalls, Lease: wire.MaxLease, Processing: wire.MaxProcessing, ZonesOut: strings.Repeat("z", wire.MaxZonesOut),
		}
		offer, want, third := row, row, uint64(wire.MaxCalls/3)
		offer.Spare, offer.SpareDefault, offer.SpareCritical = third, third, third
		offer.Granted, offer.GrantedDefault, offer.GrantedCritical = third, third, third
		want.Want, want.WantCritical, want.WantLow = wire.MaxCalls, wire.MaxCalls/2, wire.MaxCalls/2
		l.Offers, l.Wants = append(l.Offers, offer), append(l.Wants, want)
	}
	typ, body, err := wire.NewFrameReader(bytes.NewReader(mustLoad(t, l))).Next()
	if err != nil || typ != wire.FrameLoad {
		t.Fatal(typ, err)
	}
	if back, err := wire.ParseLoad(body); err != nil || !reflect.DeepEqual(back, l) {
		t.Fatalf("%d and %d rows came back, %v", len(back.Offers), len(back.Wants), err)
	}
	l.Wants = append(l.Wants, wire.ServiceLoad{Service: "z.z"})
	if _, err := wire.AppendLoad(nil, &l); err == nil {
		t.Error("a row too many was sent")
	}
}

func TestALoadIsRefusedWhereItContradictsItself(t *testing.T) {
	for name, row := range map[string]wire.ServiceLoad{
		"no service":            {Capacity: 1},
		"grant above the spare": {Service: "a.b", Capacity: 9, Spare: 3, Granted: 4, Lease: time.Second},
		"spare above capacity":  {Service: "a.b", Capacity: 2, Spare: 3},
		"grant without a lease": {Service: "a.b", Capacity: 9, Spare: 3, Granted: 3},
		"lease of an hour":      {Service: "a.b", Capacity: 9, Spare: 3, Granted: 3, Lease: time.Hour},
		"default grant above":   {Service: "a.b", Capacity: 9, Spare: 3, SpareDefault: 1, Granted: 3, GrantedDefault: 2, Lease: time.Second},
		"critical grant above":  {Service: "a.b", Capacity: 9, Spare: 3, SpareCritical: 1, Granted: 2, GrantedCritical: 3, Lease: time.Second},
		"critical spare above":  {Service: "a.b", Capacity: 9, Spare: 3, SpareDefault: 3, SpareCritical: 4},
		"critical, no lease":    {Service: "a.b", Capacity: 9, SpareCritical: 3, GrantedCritical: 3},
		"critical above all":    {Service: "a.b", Want: 3, WantCritical: 4},
		"low above all":         {Service: "a.b", Want: 3, WantCritical: 2, WantLow: 2},
		"too many calls":        {Service: "a.b", Want: wire.MaxCalls + 1},
		"too many zones":        {Service: "a.b", ZonesOut: strings.Repeat("z", wire.MaxZonesOut+1)},
		"zones of no name":      {Service: "a.b", ZonesOut: "a\nb"},
	} {
		_, err := wire.AppendLoad(nil, &wire.Load{Offers: []wire.ServiceLoad{row}})
		if _, ok := errors.AsType[*wire.FieldError](err); !ok {
			t.Errorf("%s was sent: %v", name, err)
		}
	}
	for name, body := range map[string]string{
		"empty":                        "",
		"rows that are not there":      "00 00 05 00",
		"bytes at the end":             "00 00 00 00 00",
		"a row without a service":      "00 00 01 04 03 02 6162 00",
		"a grant above the spare":      "00 00 01 0e 01 03 612e62 04 01 09 08 01 01 0a 01 02 00",
		"a row twice":                  "00 00 02 05 01 03 612e62 05 01 03 612e62 00",
		"a field that must be known":   "00 00 01 08 01 03 612e62 05 01 01 00",
		"a space in a name":            "00 00 01 05 01 03 612062 00",
		"a row longer than what comes": "00 00 01 09 01 03 612e62 00",
	} {
		if l, err := wire.ParseLoad(unhex(t, body)); err == nil {
			t.Errorf("%s was taken: %+v", name, l)
		}
	}
}

// What a later version says of a service's load is skipped, and the rest stands.
func TestALaterFieldOfALoadIsSkipped(t *testing.T) {
	l, err := wire.ParseLoad(unhex(t, "00 00 01 0b 01 03 612e62 04 01 09 3e 01 07 00"))
	if err != nil || len(l.Offers) != 1 || l.Offers[0] != (wire.ServiceLoad{Service: "a.b", Capacity: 9}) {
		t.Errorf("%+v, %v", l, err)
	}
}
