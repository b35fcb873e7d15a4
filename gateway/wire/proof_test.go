package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

func nonce() (n wire.Nonce) {
	for i := range n {
		n[i] = byte(0x30 + i)
	}
	return n
}

func binding(first byte) (b wire.Binding) {
	b[0], b[31] = first, 0xff
	return b
}

func fullChallenge() wire.Challenge {
	return wire.Challenge{Nonce: nonce(), Answers: 3, Verdict: wire.Revoked}
}

func fullProof() wire.Proof {
	return wire.Proof{
		Counter: 3, Bindings: []wire.Binding{binding(0x0a), binding(0x0b)},
		Chain: []byte("leaf, intermediate"), Signature: []byte("signed"),
	}
}

func mustChallenge(t testing.TB, c wire.Challenge) []byte {
	t.Helper()
	b, err := wire.AppendChallenge(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustProof(t testing.TB, p wire.Proof) []byte {
	t.Helper()
	b, err := wire.AppendProof(nil, &p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	hexNonce    = "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f"
	hexBindings = "0a000000000000000000000000000000000000000000000000000000000000ff" +
		"0b000000000000000000000000000000000000000000000000000000000000ff"
)

func TestGoldenBytesOfReauthentication(t *testing.T) {
	transcript := wire.ProofTranscript{
		Prover: wire.Acceptor, ProverID: "spiffe://a.test/g", VerifierID: "spiffe://b.test/h",
		Link: linkID, Nonce: nonce(), Counter: 3, Bindings: fullProof().Bindings,
	}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"first challenge", mustChallenge(t, wire.Challenge{Nonce: nonce()}), "05 22" + "01 20" + hexNonce},
		{"answer that accepts", mustChallenge(t, wire.Challenge{Nonce: nonce(), Answers: 3}), "05 25" + "01 20" + hexNonce + "03 01 03"},
		{"answer that refuses", mustChallenge(t, fullChallenge()), "05 28" + "01 20" + hexNonce + "03 01 03" + "05 01 0a"},
		{
			"proof", mustProof(t, fullProof()),
			"06 4062" + "01 01 03" + "03 4040" + hexBindings +
				"05 12" + hex.EncodeToString([]byte("leaf, intermediate")) + "07 06" + hex.EncodeToString([]byte("signed")),
		},
		{
			"transcript", transcript.Append(nil),
			"02" + "11" + hex.EncodeToString([]byte("spiffe://a.test/g")) + "11" + hex.EncodeToString([]byte("spiffe://b.test/h")) +
				"200102030405060708090a0b0c0d0e0f" + hexNonce + "03" + "02" + hexBindings,
		},
		{"exporter", []byte(wire.ProofExporter), hex.EncodeToString([]byte("EXPERIMENTAL isthmus link re-authentication 1"))},
		{"contexts of the exporter", append(wire.Dialer.Context(), wire.Acceptor.Context()...), "01 02"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := strings.ReplaceAll(c.want, " ", "")
			if got := hex.EncodeToString(c.got); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	if wire.Dialer.Other() != wire.Acceptor || wire.Acceptor.Other() != wire.Dialer {
		t.Error("an end is its own other end")
	}
	if wire.FeatureReauth != 1 {
		t.Error("the feature's bit has moved")
	}
}

// Whatever differs between two proofs must show in what is signed.
func TestTranscriptsDiffer(t *testing.T) {
	base := func() wire.ProofTranscript {
		return wire.ProofTranscript{
			Prover: wire.Dialer, ProverID: "spiffe://a.test/g", VerifierID: "spiffe://b.test/h",
			Link: linkID, Nonce: nonce(), Counter: 3, Bindings: fullProof().Bindings,
		}
	}
	seen := make(map[string]string)
	for name, change := range map[string]func(*wire.ProofTranscript){
		"nothing":      func(*wire.ProofTranscript) {},
		"the role":     func(p *wire.ProofTranscript) { p.Prover = wire.Acceptor },
		"the prover":   func(p *wire.ProofTranscript) { p.ProverID = "spiffe://a.test/f" },
		"the verifier": func(p *wire.ProofTranscript) { p.VerifierID = "spiffe://b.test/g" },
		"where one id ends": func(p *wire.ProofTranscript) {
			p.ProverID, p.VerifierID = p.ProverID+"s", p.VerifierID[1:]
		},
		"the link":       func(p *wire.ProofTranscript) { p.Link = instance },
		"the nonce":      func(p *wire.ProofTranscript) { p.Nonce[31]++ },
		"the counter":    func(p *wire.ProofTranscript) { p.Counter++ },
		"a connection":   func(p *wire.ProofTranscript) { p.Bindings = p.Bindings[:1] },
		"the other one":  func(p *wire.ProofTranscript) { p.Bindings = p.Bindings[1:] },
		"no connections": func(p *wire.ProofTranscript) { p.Bindings = nil },
	} {
		p := base()
		change(&p)
		b := string(p.Append(nil))
		if other, ok := seen[b]; ok {
			t.Errorf("%s and %s give the same transcript", name, other)
		}
		seen[b] = name
	}
}

func TestReauthenticationRoundTrip(t *testing.T) {
	b := append(mustChallenge(t, fullChallenge()), mustProof(t, fullProof())...)
	frames := wire.NewFrameReader(bytes.NewReader(b))
	typ, body, err := frames.Next()
	if err != nil || typ != wire.FrameChallenge || typ.String() != "challenge" {
		t.Fatalf("%v, %v", typ, err)
	}
	if c, err := wire.ParseChallenge(body); err != nil || c != fullChallenge() {
		t.Errorf("%+v, %v", c, err)
	}
	typ, body, err = frames.Next()
	if err != nil || typ != wire.FrameProof || typ.String() != "proof" {
		t.Fatalf("%v, %v", typ, err)
	}
	p, err := wire.ParseProof(body)
	if err != nil || !bytes.Equal(mustProof(t, p), mustProof(t, fullProof())) {
		t.Errorf("%+v, %v", p, err)
	}
	if _, _, err = frames.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// The largest proof goes through, and nothing larger.
func TestLargestProof(t *testing.T) {
	p := wire.Proof{
		Counter: 1<<62 - 1, Bindings: make([]wire.Binding, wire.MaxBindings),
		Chain: make([]byte, wire.MaxChain), Signature: make([]byte, wire.MaxSignature),
	}
	for i := range p.Bindings {
		p.Bindings[i][30], p.Bindings[i][31] = byte(i>>8), byte(i)
	}
	typ, body, err := wire.NewFrameReader(bytes.NewReader(mustProof(t, p))).Next()
	if err != nil || typ != wire.FrameProof {
		t.Fatalf("%v, %v", typ, err)
	}
	back, err := wire.ParseProof(body)
	if err != nil || back.Counter != p.Counter || len(back.Bindings) != wire.MaxBindings || len(back.Chain) != wire.MaxChain {
		t.Errorf("%v", err)
	}
	for name, change := range map[string]func(*wire.Proof){
		"no counter":             func(p *wire.Proof) { p.Counter = 0 },
		"counter above a varint": func(p *wire.Proof) { p.Counter++ },
		"no bindings":            func(p *wire.Proof) { p.Bindings = nil },
		"repeated binding":       func(p *wire.Proof) { p.Bindings = append([]wire.Binding{{}}, p.Bindings[:2]...) },
		"too many bindings":      func(p *wire.Proof) { p.Bindings = append(p.Bindings, wire.Binding{1}) },
		"no chain":               func(p *wire.Proof) { p.Chain = nil },
		"long chain":             func(p *wire.Proof) { p.Chain = make([]byte, wire.MaxChain+1) },
		"no signature":           func(p *wire.Proof) { p.Signature = nil },
		"long signature":         func(p *wire.Proof) { p.Signature = make([]byte, wire.MaxSignature+1) },
	} {
		bad := p
		bad.Bindings = append([]wire.Binding(nil), p.Bindings...)
		change(&bad)
		b, err := wire.AppendProof([]byte("before"), &bad)
		if _, ok := errors.AsType[*wire.FieldError](err); !ok || string(b) != "before" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for name, c := range map[string]wire.Challenge{
		"no nonce":              {Answers: 1},
		"verdict on nothing":    {Nonce: nonce(), Verdict: wire.Revoked},
		"verdict out of set":    {Nonce: nonce(), Answers: 1, Verdict: 200},
		"answer above a varint": {Nonce: nonce(), Answers: 1 << 62},
	} {
		if _, err := wire.AppendChallenge(nil, &c); err == nil {
			t.Errorf("challenge with %s was encoded", name)
		}
	}
}

func TestMalformedChallenges(t *testing.T) {
	for name, body := range map[string]string{
		"empty":               "",
		"zero nonce":          "01 20" + strings.Repeat("00", 32),
		"short nonce":         "01 1f" + hexNonce[2:],
		"long nonce":          "01 21" + hexNonce + "00",
		"no nonce":            "03 01 03",
		"zero answer":         "01 20" + hexNonce + "03 01 00",
		"verdict on nothing":  "01 20" + hexNonce + "05 01 0a",
		"verdict ok":          "01 20" + hexNonce + "03 01 03 05 01 00",
		"verdict of tomorrow": "01 20" + hexNonce + "03 01 03 05 01 14",
		"fields out of order": "03 01 03 01 20" + hexNonce,
		"unknown odd field":   "01 20" + hexNonce + "07 01 01",
		"too long":            "01 20" + hexNonce + "08 4400" + strings.Repeat("00", 1024),
	} {
		if c, err := wire.ParseChallenge(unhex(t, body)); err == nil {
			t.Errorf("%s parsed: %+v", name, c)
		}
	}
}

func TestMalformedProofs(t *testing.T) {
	const counter, chain, signature = "01 01 03", "05 01 63", "07 01 73"
	const bindings = "03 4040" + hexBindings
	good := counter + bindings + chain + signature
	if _, err := wire.ParseProof(unhex(t, good)); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ParseProof(unhex(t, good+"08 01 ff")); err != nil {
		t.Errorf("an unknown even field was not skipped: %v", err)
	}
	var tooMany strings.Builder
	for i := range wire.MaxBindings + 1 {
		fmt.Fprintf(&tooMany, "%064x", i+1)
	}
	for name, body := range map[string]string{
		"empty":                 "",
		"no counter":            bindings + chain + signature,
		"zero counter":          "01 01 00" + bindings + chain + signature,
		"no bindings":           counter + chain + signature,
		"half a binding":        counter + "03 10" + hexBindings[:32] + chain + signature,
		"bindings out of order": counter + "03 4040" + hexBindings[64:] + hexBindings[:64] + chain + signature,
		"repeated binding":      counter + "03 4040" + hexBindings[:64] + hexBindings[:64] + chain + signature,
		"too many bindings":     counter + "03 8000fd20" + tooMany.String() + chain + signature,
		"no chain":              counter + bindings + signature,
		"chain above its bound": counter + bindings + "05 80004001" + strings.Repeat("00", 16<<10+1) + signature,
		"no signature":          counter + bindings + chain,
		"signature too long":    counter + bindings + chain + "07 4401" + strings.Repeat("00", 1025),
		"unknown odd field":     good + "09 01 01",
		"bytes after":           good + "00",
	} {
		if p, err := wire.ParseProof(unhex(t, body)); err == nil {
			t.Errorf("%s parsed: %+v", name, p)
		}
	}
	_, _, err := wire.NewFrameReader(bytes.NewReader([]byte{0x06, 0x80, 0x02, 0x00, 0x00})).Next()
	if _, ok := errors.AsType[*wire.ParseError](err); !ok {
		t.Errorf("a frame above the bound of proofs: %v", err)
	}
}
