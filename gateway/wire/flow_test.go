package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func TestGoldenBytesOfFlows(t *testing.T) {
	frame, err := wire.AppendFlowFrame(nil, []byte("abc"))
	if err != nil {
		t.Fatal(err)
	}
	empty, err := wire.AppendFlowFrame(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"header":                   {mustHeader(t, wire.Header{Service: "a.b", Flow: true}), "03050103612e62"},
		"datagram on the stream":   {frame, "03616263"},
		"empty one":                {empty, "00"},
		"QUIC datagram":            {append(wire.AppendFlowDatagram(nil, 4), "abc"...), "0304616263"},
		"one of a stream far away": {wire.AppendFlowDatagram(nil, 400_000), "0380061a80"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestMalformedFlows(t *testing.T) {
	if _, err := wire.AppendFlowFrame(nil, make([]byte, wire.MaxDatagram+1)); err == nil {
		t.Error("a datagram beyond the bound was sent")
	}
	for name, b := range map[string]string{"too long": "8000fff8", "not in its shortest form": "4001"} {
		raw, _ := hex.DecodeString(b)
		if _, err := wire.ReadFlowLength(bytes.NewReader(raw)); !isParseError(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := wire.ReadFlowLength(bytes.NewReader(nil)); err != io.EOF { //nolint:errorlint // it must be it
		t.Errorf("the end: %v", err)
	}
	for name, b := range map[string]string{"empty": "", "no stream": "03", "half a stream": "0340"} {
		raw, _ := hex.DecodeString(b)
		if _, _, _, err := wire.ParseFlowDatagram(raw); err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, b := range []string{"01", "0204"} {
		raw, _ := hex.DecodeString(b)
		if _, _, is, err := wire.ParseFlowDatagram(raw); is || err != nil {
			t.Errorf("another kind: %v, %v", is, err)
		}
	}
}

func isParseError(err error) bool {
	_, ok := errors.AsType[*wire.ParseError](err)
	return ok
}

func FuzzFlow(f *testing.F) {
	f.Add(append(wire.AppendFlowDatagram(nil, 44), "payload"...))
	f.Add([]byte("\x03\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		stream, payload, is, err := wire.ParseFlowDatagram(b)
		if is && err == nil && !bytes.Equal(append(wire.AppendFlowDatagram(nil, stream), payload...), b) {
			t.Fatalf("%x is stream %d with %x", b, stream, payload)
		}
		r := bytes.NewReader(b)
		n, err := wire.ReadFlowLength(r)
		if err != nil || n > r.Len() {
			return
		}
		rest := b[len(b)-r.Len():]
		if encoded, err := wire.AppendFlowFrame(nil, rest[:n]); err != nil || !bytes.HasPrefix(b, encoded) {
			t.Fatalf("%x encodes as %x, %v", b, encoded, err)
		}
	})
}
