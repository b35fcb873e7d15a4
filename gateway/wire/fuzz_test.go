package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// Each target holds two promises: no input makes a parser panic or reserve what
// is not there, and whatever parses encodes back to the same bytes (there is one
// encoding), apart from unknown fields that may be skipped.

// skipped reports whether a TLV list holds a field that this version skips.
func skipped(b []byte, known ...uint64) bool {
	for len(b) > 0 {
		typ, n := varint(b)
		length, m := varint(b[n:])
		b = b[n+m+int(length):]
		found := false
		for _, k := range known {
			found = found || k == typ
		}
		if !found {
			return true
		}
	}
	return false
}

// varint is a second, plain reader of numbers; the input has parsed before.
func varint(b []byte) (v uint64, n int) {
	n = 1 << (b[0] >> 6)
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, n
}

func FuzzHeader(f *testing.F) {
	f.Add(mustHeader(f, fullHeader())[3:])
	f.Add(mustHeader(f, wire.Header{Service: "a.b"})[2:])
	f.Add([]byte("\x01\x03a.b\x08\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, again wire.Header
		if wire.ParseHeader(b, &h) != nil {
			return
		}
		encoded := mustHeader(t, h)
		if !skipped(b, 1, 2, 3, 4, 5, 6, 7, 8) {
			if _, n := varint(encoded[1:]); !bytes.Equal(encoded[1+n:], b) {
				t.Fatalf("%x encodes as %x", b, encoded)
			}
		}
		r := bytes.NewReader(encoded[1:])
		if err := wire.ReadHeader(r, &again); err != nil || again != h || r.Len() != 0 {
			t.Fatalf("%+v came back as %+v, %v", h, again, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte{0, 0})
	f.Add(wire.AppendReply(nil, wire.Reply{Status: wire.Overloaded, Message: "busy", RetryAfter: 2e9}))
	f.Fuzz(func(t *testing.T, b []byte) {
		rd := bytes.NewReader(b)
		r, err := wire.ReadReply(rd)
		if err != nil {
			return
		}
		used := b[:len(b)-rd.Len()]
		_, n := varint(used[1:])
		if encoded := wire.AppendReply(nil, r); !skipped(used[1+n:], 2, 4) && !bytes.Equal(encoded, used) {
			t.Fatalf("%x encodes as %x", used, encoded)
		}
	})
}

func FuzzFrames(f *testing.F) {
	f.Add(append(mustHello(f, fullHello()), mustReport(f, fullReport())...))
	f.Add(wire.AppendCallback(wire.AppendDrain(nil, wire.Drain{Successor: "gw2"})))
	f.Add([]byte{0x3f, 2, 1, 1, 3, 0})
	f.Add(wire.AppendRate(nil, wire.Rate{BytesPerSecond: 125e6}))
	f.Add(mustLoad(f, fullLoad()))
	f.Add(mustLoad(f, gradedLoad()))
	f.Add(append(mustChallenge(f, fullChallenge()), mustProof(f, fullProof())...))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames := wire.NewFrameReader(bytes.NewReader(b))
		for {
			typ, body, err := frames.Next()
			if err != nil {
				return
			}
			var encoded []byte
			known := []uint64{}
			switch typ {
			case wire.FrameHello:
				h, err := wire.ParseHello(body)
				if err != nil {
					return
				}
				encoded, known = mustHello(t, h), []uint64{1, 2, 3, 5, 7, 9, 11, 13}
			case wire.FrameDrain:
				d, err := wire.ParseDrain(body)
				if err != nil {
					return
				}
				encoded, known = wire.AppendDrain(nil, d), []uint64{2}
			case wire.FrameReport:
				r, err := wire.ParseReport(body)
				if err != nil {
					return
				}
				encoded = mustReport(t, r)
			case wire.FrameLoad:
				l, err := wire.ParseLoad(body)
				if err != nil {
					return
				}
				encoded = mustLoad(t, l)
				_, again, err := wire.NewFrameReader(bytes.NewReader(encoded)).Next()
				if err != nil {
					t.Fatal(err)
				}
				if back, err := wire.ParseLoad(again); err != nil || !reflect.DeepEqual(back, l) {
					t.Fatalf("%+v came back as %+v, %v", l, back, err)
				}
				if len(again) < len(body) {
					continue // fields that this version skips
				}
			case wire.FrameRate:
				r, err := wire.ParseRate(body)
				if err != nil {
					return
				}
				encoded, known = wire.AppendRate(nil, r), []uint64{2}
			case wire.FrameChallenge:
				c, err := wire.ParseChallenge(body)
				if err != nil {
					return
				}
				encoded, known = mustChallenge(t, c), []uint64{1, 3, 5}
			case wire.FrameProof:
				p, err := wire.ParseProof(body)
				if err != nil {
					return
				}
				encoded, known = mustProof(t, p), []uint64{1, 3, 5, 7}
			case wire.FrameCallback:
				continue
			default:
				t.Fatalf("frame of unknown type %d was returned", typ)
			}
			_, n := varint(encoded[1:])
			if !bytes.Equal(encoded[1+n:], body) && (typ == wire.FrameReport || !skipped(body, known...)) {
				t.Fatalf("%s %x encodes as %x", typ, body, encoded)
			}
		}
	})
}

func FuzzProbe(f *testing.F) {
	f.Add(wire.AppendProbe(nil, &wire.Probe{Seq: 7, Heard: 6, Sent: 2e9, Echo: 1e9, Delay: 15e7, Quiet: 8e7}))
	f.Add([]byte{2, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var p wire.Probe
		if is, err := wire.ParseProbe(b, &p); err != nil || !is {
			return
		}
		if encoded := wire.AppendProbe(nil, &p); !bytes.Equal(encoded, b) {
			t.Fatalf("%x encodes as %x", b, encoded)
		}
	})
}
