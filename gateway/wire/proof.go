package wire

import "bytes"

// BindingSize is the length of a [Binding].
const BindingSize = 32

// Binding stands for one TLS connection and one direction: keying material that
// both of its ends export (RFC 8446, section 7.5) under [ProofExporter] with the
// prover's [Role] as the context. Nobody between the ends can have two connections
// with the same one, and it tells nothing of the connection's keys.
type Binding [BindingSize]byte

// ProofExporter is the exporter's label. RFC 5705, section 4: labels that are not
// registered begin with EXPERIMENTAL.
const ProofExporter = "EXPERIMENTAL isthmus link re-authentication 1"

// Role is an end of a link.
type Role uint8

// The roles.
const (
	// Dialer opened the link.
	Dialer Role = 1
	// Acceptor was dialed.
	Acceptor Role = 2
)

// Other returns the other end's role.
func (r Role) Other() Role {
	if r == Dialer {
		return Acceptor
	}
	return Dialer
}

// Context is the context of [ProofExporter] for proofs by the end with this role.
func (r Role) Context() []byte { return []byte{byte(r)} }

// Proof says that its sender holds the key of a new certificate, here and now: the
// signature covers a [ProofTranscript].
//
// One proof covers all connections of a link, since one signature is what a
// rotation should cost, and it lists them by their bindings, not by their numbers:
// connections come and go while a proof travels, and a connection that was dialed
// anew has the number of the one before it. What is in the list and at the other
// end is re-authenticated. What is not in the list keeps its deadline; it is
// younger than the proof, and was authenticated by its own handshake.
type Proof struct {
	// Counter numbers the proofs of this end of the link, from 1.
	Counter uint64
	// Bindings are those of the link's connections, ascending; at least one, at
	// most [MaxBindings].
	Bindings []Binding
	// Chain is the X.509-SVID: DER certificates one after the other, the leaf
	// first; at most [MaxChain] bytes.
	Chain []byte
	// Signature is by the leaf's key, over the transcript; at most [MaxSignature]
	// bytes. Its algorithm follows from the key.
	Signature []byte
}

// Types of a proof's fields.
const (
	proofCounter   = 1
	proofBindings  = 3
	proofChain     = 5
	proofSignature = 7
)

// ascending reports whether bindings are in order and each is there once.
func ascending(all []Binding) bool {
	for i := 1; i < len(all); i++ {
		if bytes.Compare(all[i-1][:], all[i][:]) >= 0 {
			return false
		}
	}
	return true
}

// joined is the bindings as one value.
func joined(all []Binding) []byte {
	b := make([]byte, 0, len(all)*BindingSize)
	for i := range all {
		b = append(b, all[i][:]...)
	}
	return b
}

// AppendProof appends a proof frame. Errors are of type [*FieldError].
func AppendProof(b []byte, p *Proof) ([]byte, error) {
	switch {
	case p.Counter == 0 || p.Counter > maxVarint:
		return b, &FieldError{Field: "counter", Rule: "must be 1 or above, and within its limit"}
	case len(p.Bindings) == 0 || len(p.Bindings) > MaxBindings || !ascending(p.Bindings):
		return b, &FieldError{Field: "bindings", Length: len(p.Bindings), Rule: "must be 1 to 2024, ascending"}
	case len(p.Chain) == 0 || len(p.Chain) > MaxChain:
		return b, &FieldError{Field: "chain", Length: len(p.Chain), Rule: "must be 1 to 16384 bytes"}
	case len(p.Signature) == 0 || len(p.Signature) > MaxSignature:
		return b, &FieldError{Field: "signature", Length: len(p.Signature), Rule: "must be 1 to 1024 bytes"}
	}
	body := appendNumber(nil, proofCounter, p.Counter)
	body = appendText(body, proofBindings, string(joined(p.Bindings)))
	body = appendText(body, proofChain, string(p.Chain))
	body = appendText(body, proofSignature, string(p.Signature))
	return appendFrame(b, FrameProof, body), nil
}

// ParseProof parses the body of a proof frame. Whether the chain consists of
// certificates is not looked at.
func ParseProof(b []byte) (Proof, error) {
	if len(b) > MaxProof {
		return Proof{}, malformed("proof", "is longer than its limit")
	}
	var p Proof
	f := fields{rest: string(b), limit: max(MaxChain, MaxBindings*BindingSize)}
	for {
		typ, value, ok, err := f.next()
		if err != nil {
			return Proof{}, err
		}
		if !ok {
			break
		}
		switch typ {
		case proofCounter:
			p.Counter, err = number("counter", value, maxVarint)
		case proofBindings:
			p.Bindings, err = parseBindings(value)
		case proofChain:
			if len(value) > MaxChain {
				err = malformed("chain", "is longer than 16 KiB")
			}
			p.Chain = []byte(value)
		case proofSignature:
			if len(value) > MaxSignature {
				err = malformed("signature", "is longer than 1024 bytes")
			}
			p.Signature = []byte(value)
		default:
			err = unknown(typ)
		}
		if err != nil {
			return Proof{}, err
		}
	}
	if p.Counter == 0 || len(p.Bindings) == 0 || len(p.Chain) == 0 || len(p.Signature) == 0 {
		return Proof{}, malformed("proof", "lacks a required field")
	}
	return p, nil
}

func parseBindings(value string) ([]Binding, error) {
	if len(value)%BindingSize != 0 || len(value) > MaxBindings*BindingSize {
		return nil, malformed("bindings", "must be 1 to 2024, of 32 bytes each")
	}
	all := make([]Binding, len(value)/BindingSize)
	for i := range all {
		copy(all[i][:], value[i*BindingSize:])
	}
	if !ascending(all) {
		return nil, malformed("bindings", "are out of order or repeated")
	}
	return all, nil
}

// ProofTranscript is what the signature of a proof covers, beside the chain
// itself: who proves what to whom, on which connections, asked by which nonce.
type ProofTranscript struct {
	// Prover is the role of who signs. Both ends export the same secrets: without
	// it a proof could be sent back to who made it.
	Prover Role
	// ProverID and VerifierID are the SPIFFE IDs of both ends. An exporter covers
	// the handshake up to the server's Finished, so not the client's certificate.
	ProverID, VerifierID string
	// Link is the link's ID.
	Link ID
	// Nonce is the verifier's latest: the signature is younger than it.
	Nonce Nonce
	// Counter and Bindings are the proof's.
	Counter  uint64
	Bindings []Binding
}

// Append appends the transcript. No two transcripts have the same bytes.
func (t *ProofTranscript) Append(b []byte) []byte {
	b = append(b, byte(t.Prover))
	for _, s := range [...]string{t.ProverID, t.VerifierID} {
		b = appendVarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, t.Link[:]...)
	b = append(b, t.Nonce[:]...)
	b = appendVarint(b, t.Counter)
	b = appendVarint(b, uint64(len(t.Bindings)))
	return append(b, joined(t.Bindings)...)
}
