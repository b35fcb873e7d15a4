package wire_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// TestEveryCut gives each parser every prefix of a message: each must say that
// bytes are missing, and none may take a part for the whole.
func TestEveryCut(t *testing.T) {
	h := fullHeader()
	header := mustHeader(t, h)
	reply := wire.AppendReply(nil, wire.Reply{Status: wire.Denied, Message: "no", RetryAfter: time.Second})
	frame := mustHello(t, fullHello())
	report := mustReport(t, fullReport())
	probe := wire.AppendProbe(nil, &wire.Probe{Seq: 1, Sent: time.Second})
	for _, c := range []struct {
		name  string
		whole []byte
		parse func([]byte) error
	}{
		{"header", header, func(b []byte) error {
			r := iotest.OneByteReader(bytes.NewReader(b))
			if _, err := wire.ReadKind(r); err != nil {
				return err
			}
			return wire.ReadHeader(r, new(wire.Header))
		}},
		{"reply", reply, func(b []byte) error {
			_, err := wire.ReadReply(iotest.OneByteReader(bytes.NewReader(b)))
			return err
		}},
		{"frame", frame, func(b []byte) error {
			_, _, err := wire.NewFrameReader(iotest.OneByteReader(bytes.NewReader(b))).Next()
			return err
		}},
		{"report", report[2:], func(b []byte) error {
			_, err := wire.ParseReport(b)
			return err
		}},
		{"proof", mustProof(t, fullProof()), func(b []byte) error {
			_, _, err := wire.NewFrameReader(iotest.OneByteReader(bytes.NewReader(b))).Next()
			return err
		}},
		{"probe", probe, func(b []byte) error {
			_, err := wire.ParseProbe(b, new(wire.Probe))
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.parse(c.whole); err != nil {
				t.Fatalf("whole: %v", err)
			}
			for i := range c.whole {
				err := c.parse(c.whole[:i])
				if err == nil {
					t.Errorf("cut at %d: parsed", i)
				}
				var malformed *wire.ParseError
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &malformed) {
					t.Errorf("cut at %d: %v", i, err)
				}
				if i > 0 && errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("cut at %d passes for an orderly end: %v", i, err)
				}
			}
		})
	}
}

// TestReadersTakeNotAByteMore: payload follows header and reply in one flight.
func TestReadersTakeNotAByteMore(t *testing.T) {
	const payload = "payload"
	r := bytes.NewReader(append(mustHeader(t, fullHeader()), payload...))
	kind, err := wire.ReadKind(r)
	if err != nil || kind != wire.KindStream {
		t.Fatalf("kind %v, %v", kind, err)
	}
	var h wire.Header
	if err := wire.ReadHeader(r, &h); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != payload {
		t.Errorf("after the header: %q", rest)
	}
	if h != fullHeader() {
		t.Errorf("header %+v", h)
	}

	r = bytes.NewReader(append(wire.AppendReply(nil, wire.Reply{Status: wire.Idle, Message: "x"}), payload...))
	if _, err := wire.ReadReply(r); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != payload {
		t.Errorf("after the reply: %q", rest)
	}
}

func TestReadersPassOnErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, read := range map[string]func(io.Reader) error{
		"kind":   func(r io.Reader) error { _, err := wire.ReadKind(r); return err },
		"header": func(r io.Reader) error { return wire.ReadHeader(r, new(wire.Header)) },
		"reply":  func(r io.Reader) error { _, err := wire.ReadReply(r); return err },
		"frame":  func(r io.Reader) error { _, _, err := wire.NewFrameReader(r).Next(); return err },
	} {
		if err := read(iotest.ErrReader(broken)); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
