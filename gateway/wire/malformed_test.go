package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// service is the field that every header needs, "a.b".
const service = "01 03 612e62"

func TestMalformedHeaders(t *testing.T) {
	long := func(typ string, n int) string {
		return service + typ + hex.EncodeToString([]byte{0x40 | byte(n>>8), byte(n)}) + strings.Repeat("61", n)
	}
	for name, body := range map[string]string{
		"empty":                            "",
		"no service":                       "03 01 61",
		"empty service":                    "01 00",
		"repeated field":                   service + service,
		"fields out of order":              "03 01 61" + service,
		"type not in shortest form":        "4001 03 612e62",
		"length not in shortest form":      "01 4003 612e62",
		"number not in shortest form":      service + "04 02 4001",
		"number with a byte after":         service + "06 02 0100",
		"number of two":                    service + "06 02 0101",
		"zero deadline":                    service + "04 01 00",
		"zero attempt":                     service + "06 01 00",
		"attempt of 256":                   service + "06 02 4100",
		"deadline above a day":             service + "04 04 85265c01",
		"assurance of tomorrow":            service + "07 01 04",
		"field longer than the rest":       service + "03 02 61",
		"field above its bound":            long("03", wire.MaxField+1),
		"unknown odd field":                service + "09 01 61",
		"unknown odd field far away":       service + "4041 01 61",
		"control character in service":     "01 03 610a62",
		"space in port":                    service + "03 01 20",
		"byte above ascii in caller":       service + "05 02 c3a9",
		"control character in traceparent": "01 03 612e62 02 01 7f",
	} {
		t.Run(name, func(t *testing.T) {
			var h wire.Header
			err := wire.ParseHeader(unhex(t, body), &h)
			var malformed *wire.ParseError
			if !errors.As(err, &malformed) && err == nil {
				t.Errorf("parsed: %+v", h)
			}
		})
	}
	t.Run("longer than its bound", func(t *testing.T) {
		err := wire.ReadHeader(bytes.NewReader(unhex(t, "6001")), new(wire.Header))
		if _, ok := errors.AsType[*wire.ParseError](err); !ok {
			t.Errorf("err %v", err)
		}
		if err := wire.ParseHeader(make([]byte, wire.MaxHeader+1), new(wire.Header)); err == nil {
			t.Error("parsed")
		}
	})
}

func TestUnknownEvenFieldsAreSkipped(t *testing.T) {
	var h wire.Header
	if err := wire.ParseHeader(unhex(t, service+"0c 03 010203"+"4042 01 ff"), &h); err != nil {
		t.Fatal(err)
	}
	if h != (wire.Header{Service: "a.b"}) {
		t.Errorf("header %+v", h)
	}
	r, err := wire.ParseReply(0, unhex(t, "06 01 ff"))
	if err != nil || r != (wire.Reply{}) {
		t.Errorf("reply %+v, %v", r, err)
	}
	if _, err := wire.ParseReply(0, unhex(t, "07 01 ff")); err == nil {
		t.Error("an unknown odd field of a reply was skipped")
	}
}

func TestMalformedReplies(t *testing.T) {
	for name, b := range map[string]string{
		"status of tomorrow":           "14 00",
		"status not in shortest form":  "4001 00",
		"zero retry-after":             "05 03 04 01 00",
		"retry-after above its bound":  "05 06 04 04 8009 27c1",
		"control character in message": "05 03 02 01 0a",
		"message that is not utf-8":    "05 03 02 01 ff",
		"longer than its bound":        "05 4401",
		"fields out of order":          "05 06 04 01 01 02 01 61",
	} {
		t.Run(name, func(t *testing.T) {
			r, err := wire.ReadReply(bytes.NewReader(unhex(t, b)))
			if _, ok := errors.AsType[*wire.ParseError](err); !ok {
				t.Errorf("reply %+v, err %v", r, err)
			}
		})
	}
}

func TestMalformedHellos(t *testing.T) {
	good := mustHello(t, fullHello())[2:]
	if _, err := wire.ParseHello(good); err != nil {
		t.Fatal(err)
	}
	replace := func(old, with string) []byte {
		s := hex.EncodeToString(good)
		old, with = strings.ReplaceAll(old, " ", ""), strings.ReplaceAll(with, " ", "")
		if strings.Count(s, old) != 1 {
			t.Fatalf("%s is not there once", old)
		}
		return unhex(t, strings.Replace(s, old, with, 1))
	}
	for name, b := range map[string][]byte{
		"version that goes back":   replace("01 01 01 02", "01 01 04 02"),
		"no version":               replace("01 01 01 02", "02"),
		"no cluster":               replace("05 04 65617374", ""),
		"no gateway":               replace("07 03 677731", ""),
		"no instance":              replace("09 10 100102030405060708090a0b0c0d0e0f", ""),
		"zero instance":            replace("100102030405060708090a0b0c0d0e0f", "00000000000000000000000000000000"),
		"short instance":           replace("09 10 100102030405060708090a0b0c0d0e0f", "09 01 10"),
		"no link":                  replace("0b 10 200102030405060708090a0b0c0d0e0f", ""),
		"connection above its set": replace("0d 01 09", "0d 02 47e8"),
		"space in cluster":         replace("65617374", "65612074"),
		"unknown odd field":        append(bytes.Clone(good), 0x0f, 1, 1),
		"too long":                 append(bytes.Clone(good), make([]byte, 1<<10)...),
	} {
		t.Run(name, func(t *testing.T) {
			if h, err := wire.ParseHello(b); err == nil {
				t.Errorf("parsed: %+v", h)
			}
		})
	}
}

func TestMalformedReports(t *testing.T) {
	for name, b := range map[string]string{
		"more rows announced than bytes": "05 01 61 00 01 01 00",
		"row above the bound":            "5389" + strings.Repeat("00", 6*5001),
		"bytes after the last row":       "01 01 61 00 01 01 00 00",
		"bytes after no row":             "00 00",
		"repeated row":                   "02 01 61 00 01 01 00 01 61 00 01 01 00",
		"rows out of order":              "02 01 62 00 01 01 00 01 61 00 01 01 00",
		"more ready than total":          "01 01 61 00 02 01 00",
		"count above 32 bits":            "01 01 61 00 00 00 c000000100000000",
		"empty service":                  "01 00 00 01 01 00 00",
		"control character":              "01 01 07 00 01 01 00",
		"service above its bound":        "01 4080" + strings.Repeat("61", 128) + "00 01 01 00",
		"port above its bound":           "01 01 61 4040" + strings.Repeat("61", 64) + "01 01 00",
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := wire.ParseReport(unhex(t, b)); err == nil {
				t.Errorf("parsed: %+v", r)
			}
		})
	}
}

func TestMalformedProbes(t *testing.T) {
	for name, b := range map[string]string{
		"zero sequence number": "01 00 00 00 00 00 00 00",
		"bytes after":          "01 01 00 00 00 00 00 00 00",
		"time above its bound": "01 01 00 00 cb34e25a0d1a0000 00 00 00",
		"too long":             "01" + strings.Repeat("01", 65),
	} {
		t.Run(name, func(t *testing.T) {
			var p wire.Probe
			if is, err := wire.ParseProbe(unhex(t, b), &p); err == nil || !is {
				t.Errorf("parsed: %v %+v, %v", is, p, err)
			}
		})
	}
	if is, err := wire.ParseProbe(unhex(t, "02 ffff"), new(wire.Probe)); is || err != nil {
		t.Errorf("another kind of datagram: %v, %v", is, err)
	}
}

func TestWhatBreaksABoundIsNotSent(t *testing.T) {
	for name, h := range map[string]wire.Header{
		"no service":        {},
		"long caller":       {Service: "a.b", Caller: strings.Repeat("x", wire.MaxField+1)},
		"newline in port":   {Service: "a.b", Port: "x\ny"},
		"unknown assurance": {Service: "a.b", Assurance: 9},
		"header too long": {
			Service: strings.Repeat("s", wire.MaxField), Port: strings.Repeat("p", wire.MaxField),
			Caller: strings.Repeat("c", wire.MaxField), TraceParent: strings.Repeat("t", wire.MaxField),
		},
	} {
		b, err := wire.AppendHeader([]byte("before"), &h)
		if _, ok := errors.AsType[*wire.FieldError](err); !ok {
			t.Errorf("%s: err %v", name, err)
		}
		if string(b) != "before" {
			t.Errorf("%s: left %q", name, b)
		}
	}
	for name, change := range map[string]func(*wire.Hello){
		"no version":       func(h *wire.Hello) { h.MinVersion = 0 },
		"versions go back": func(h *wire.Hello) { h.MinVersion, h.MaxVersion = 2, 1 },
		"no cluster":       func(h *wire.Hello) { h.Cluster = "" },
		"long gateway":     func(h *wire.Hello) { h.Gateway = strings.Repeat("g", 64) },
		"no instance":      func(h *wire.Hello) { h.Instance = wire.ID{} },
		"connection":       func(h *wire.Hello) { h.Connection = 2024 },
		"features":         func(h *wire.Hello) { h.Features = 1 << 62 },
	} {
		h := fullHello()
		change(&h)
		if _, err := wire.AppendHello(nil, &h); err == nil {
			t.Errorf("hello with %s was encoded", name)
		}
	}
	for name, rows := range map[string][]wire.ServiceReport{
		"too many":              make([]wire.ServiceReport, wire.MaxReportServices+1),
		"out of order":          {{Service: "b"}, {Service: "a"}},
		"repeated":              {{Service: "a"}, {Service: "a"}},
		"more ready than total": {{Service: "a", Ready: 1}},
	} {
		if _, err := wire.AppendReport(nil, &wire.Report{Services: rows}); err == nil {
			t.Errorf("report with %s was encoded", name)
		}
	}
}

// An answer must always go out, so it is clipped and not refused.
func TestRepliesAreClipped(t *testing.T) {
	for _, c := range []struct {
		name     string
		in, want wire.Reply
	}{
		{"unknown status", wire.Reply{Status: 99}, wire.Reply{Status: wire.Internal}},
		{"long message", wire.Reply{Message: strings.Repeat("m", 600)}, wire.Reply{Message: strings.Repeat("m", 512)}},
		{"cut inside a rune", wire.Reply{Message: "m" + strings.Repeat("é", 300)}, wire.Reply{Message: "m" + strings.Repeat("é", 255)}},
		{"control character", wire.Reply{Message: "a\x1bb"}, wire.Reply{}},
		{"long wait", wire.Reply{RetryAfter: time.Hour}, wire.Reply{RetryAfter: wire.MaxRetryAfter}},
		{"negative wait", wire.Reply{RetryAfter: -1}, wire.Reply{}},
		{"short wait", wire.Reply{RetryAfter: 1}, wire.Reply{RetryAfter: time.Millisecond}},
	} {
		got, err := wire.ReadReply(bytes.NewReader(wire.AppendReply(nil, c.in)))
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

func TestDeadlinesAreRoundedUpAndClipped(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{
		0: 0, -time.Second: 0, 1: time.Millisecond, 1500 * time.Microsecond: 2 * time.Millisecond,
		time.Second: time.Second, 48 * time.Hour: wire.MaxDeadline,
	} {
		b := mustHeader(t, wire.Header{Service: "a.b", Deadline: in})
		var h wire.Header
		if err := wire.ParseHeader(b[2:], &h); err != nil || h.Deadline != want {
			t.Errorf("%v became %v, %v", in, h.Deadline, err)
		}
	}
}
