package wire_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// The bytes below are the protocol: a change here breaks links between versions.

var (
	instance = wire.ID{0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	linkID   = wire.ID{0x20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
)

func fullHeader() wire.Header {
	return wire.Header{
		Service: "billing.default", Port: "http", Caller: "spiffe://a.test/web", Assurance: wire.AssuranceMTLS,
		TraceParent: "00-1-2-01", Deadline: 1500 * time.Millisecond, Attempt: 2, Priority: wire.PriorityLow,
		Hash: 1234567890123456789, Subset: "version=v2",
	}
}

func fullHello() wire.Hello {
	return wire.Hello{
		MinVersion: 1, MaxVersion: 3, Cluster: "east", Gateway: "gw1",
		Instance: instance, Link: linkID, Connection: 9, Features: 0x4000,
	}
}

func fullReport() wire.Report {
	return wire.Report{Services: []wire.ServiceReport{
		{Service: "a.default", Ready: 2, Total: 3, InFlight: 70},
		{Service: "a.default", Port: "http", Ready: 1, Total: 1},
	}}
}

func mustHeader(t testing.TB, h wire.Header) []byte {
	t.Helper()
	b, err := wire.AppendHeader(nil, &h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustHello(t testing.TB, h wire.Hello) []byte {
	t.Helper()
	b, err := wire.AppendHello(nil, &h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustReport(t testing.TB, r wire.Report) []byte {
	t.Helper()
	b, err := wire.AppendReport(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenBytes(t *testing.T) {
	probe := wire.Probe{
		Seq: 7, Heard: 6, Got: 5, Sent: 2 * time.Second, Echo: time.Second,
		Delay: 150 * time.Millisecond, Quiet: 80 * time.Millisecond,
	}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{
			"smallest header", mustHeader(t, wire.Header{Service: "a.b"}),
			"01 05" + "01 03 612e62",
		},
		{
			"full header", mustHeader(t, fullHeader()),
			"01 405a" +
				"01 0f 62696c6c696e672e64656661756c74" +
				"02 09 30302d312d322d3031" +
				"03 04 68747470" +
				"04 02 45dc" +
				"05 13 7370696666653a2f2f612e746573742f776562" +
				"06 01 02" +
				"07 01 03" +
				"08 01 02" +
				"0a 08 d12210f47de98115" +
				"0d 0a 76657273696f6e3d7632",
		},
		{"ok", wire.AppendReply(nil, wire.Reply{}), "00 00"},
		{
			"refusal", wire.AppendReply(nil, wire.Reply{Status: wire.Overloaded, Message: "busy", RetryAfter: 2 * time.Second}),
			"05 0a" + "02 04 62757379" + "04 02 47d0",
		},
		{
			"hello", mustHello(t, fullHello()),
			"01 3e" +
				"01 01 01" + "02 04 80004000" + "03 01 03" +
				"05 04 65617374" + "07 03 677731" +
				"09 10 100102030405060708090a0b0c0d0e0f" +
				"0b 10 200102030405060708090a0b0c0d0e0f" +
				"0d 01 09",
		},
		{"drain", wire.AppendDrain(nil, wire.Drain{}), "03 00"},
		{"drain with successor", wire.AppendDrain(nil, wire.Drain{Successor: "gw2"}), "03 05" + "02 03 677732"},
		{"callback", wire.AppendCallback(nil), "04 00"},
		{
			"report", mustReport(t, fullReport()),
			"02 22" + "02" +
				"09 612e64656661756c74 00 02 03 4046" +
				"09 612e64656661756c74 04 68747470 01 01 00",
		},
		{
			"load", mustLoad(t, fullLoad()),
			"07 36" + "07 05" + "01" +
				"22" + "01 09 612e64656661756c74" + "03 04 68747470" + "04 02 4064" + "06 01 28" + "08 01 1e" + "0a 01 0a" + "0c 02 4bb8" +
				"01" +
				"0e" + "01 09 622e64656661756c74" + "0e 01 05",
		},
		{
			"graded load", mustLoad(t, gradedLoad()),
			"07 40 48 07 05" +
				"01 2e 01 09 612e64656661756c74 03 04 68747470 04 02 4064 06 01 28 08 01 1e 0a 01 0a 0c 02 4bb8 14 01 07 16 01 14 18 01 05 1a 01 09" +
				"01 14 01 09 622e64656661756c74 0e 01 05 1c 01 03 1e 01 01",
		},
		{"empty load", mustLoad(t, wire.Load{}), "07 04 00 00 00 00"},
		{"empty report", mustReport(t, wire.Report{}), "02 01 00"},
		{
			"probe", wire.AppendProbe(nil, &probe),
			"01 07 06 05 801e8480 800f4240 800249f0 4050",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := strings.ReplaceAll(c.want, " ", "")
			if got := hex.EncodeToString(c.got); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestStatusesAreAClosedSetWithFixedNumbers(t *testing.T) {
	want := []string{
		"ok", "refused", "unreachable", "denied", "unknown_service", "overloaded", "reset", "idle", "draining",
		"protocol", "revoked", "no_endpoint", "unknown_port", "deadline_exceeded", "canceled", "link_dead",
		"wrong_peer", "version", "replaced", "internal",
	}
	all := wire.Statuses()
	if len(all) != len(want) {
		t.Fatalf("%d statuses, want %d", len(all), len(want))
	}
	for i, s := range all {
		if s.String() != want[i] || int(s) != i || !s.Valid() {
			t.Errorf("status %d is %q, want %q", i, s, want[i])
		}
		if parsed, ok := wire.ParseStatus(want[i]); !ok || parsed != s {
			t.Errorf("ParseStatus(%q) = %v, %v", want[i], parsed, ok)
		}
		if back, ok := wire.StatusFromCode(s.Code()); !ok || back != s {
			t.Errorf("StatusFromCode(%d) = %v, %v", s.Code(), back, ok)
		}
	}
	if _, ok := wire.StatusFromCode(uint64(len(want))); ok {
		t.Error("a code above the set was taken")
	}
	if _, ok := wire.StatusFromCode(0x100); ok {
		t.Error("a code of HTTP/3 was taken for a status")
	}
	if wire.Status(200).String() != "status_200" || wire.Status(200).Valid() || wire.Status(200).Undelivered() {
		t.Error("an unknown status passes for a known one")
	}
	if _, ok := wire.ParseStatus(""); ok {
		t.Error("an empty word was taken for a status")
	}
}

// A refusal may be replayed elsewhere only if the far gateway certainly passed
// nothing on.
func TestUndelivered(t *testing.T) {
	want := map[wire.Status]bool{
		wire.Refused: true, wire.Unreachable: true, wire.Denied: true, wire.UnknownService: true, wire.Overloaded: true,
		wire.Draining: true, wire.NoEndpoint: true, wire.UnknownPort: true, wire.Version: true, wire.WrongPeer: true,
	}
	for _, s := range wire.Statuses() {
		if s.Undelivered() != want[s] {
			t.Errorf("%s: Undelivered = %v", s, s.Undelivered())
		}
	}
}
