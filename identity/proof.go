package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// A proof shows on a connection that is up already what a handshake shows on a new
// one: the SVID's chain, and a signature that only its key can make. What is
// signed has the shape of TLS 1.3's CertificateVerify (RFC 8446, section 4.4.3):
// 64 spaces, a context, a zero byte, the content. The same key signs both, and
// neither can be passed off as the other, since the contexts differ.

const (
	// proofContext tells these signatures from all others of the same keys.
	proofContext = "isthmus, proof of possession on a live link, version 1"
	// maxProofChain bounds the DER of a chain before it is parsed: more does not
	// get through a QUIC handshake either.
	maxProofChain = 16 << 10
	// minRSABits and maxRSABits are the bounds of crypto/tls: below is weak, above
	// costs the verifier too much.
	minRSABits = 2048
	maxRSABits = 8192
)

// Proof is a chain and a signature by the key of its leaf.
type Proof struct {
	// Chain is DER, certificates one after the other, the leaf first.
	Chain []byte
	// Signature is over a transcript that both ends know. Its algorithm is the one
	// that belongs to the leaf's key: ECDSA P-256 with SHA-256, P-384 with SHA-384,
	// Ed25519, RSA-PSS with SHA-256. There is nothing to negotiate, so nothing to
	// confuse.
	Signature []byte
}

// ErrUnsupportedKey says that proofs are not made with, nor taken from, a key of this kind.
var ErrUnsupportedKey = errors.New("key is not ecdsa p-256 or p-384, ed25519, or rsa of 2048 to 8192 bits")

// Certificate returns the leaf of the current SVID, nil when there is none yet. It
// is the same pointer until the SVID changes, and must not be changed.
func (s *Source) Certificate() *x509.Certificate {
	if st := s.state.Load(); st.svid != nil {
		return st.svid.Certificates[0]
	}
	return nil
}

// Prove signs transcript with the current SVID's key, and returns its leaf as
// Certificate does. An expired SVID proves nothing: a [*PeerError].
func (s *Source) Prove(transcript []byte) (Proof, *x509.Certificate, error) {
	st := s.state.Load()
	if err := st.usable(s.now()); err != nil {
		return Proof{}, nil, err
	}
	var chain []byte
	for _, c := range st.svid.Certificates {
		chain = append(chain, c.Raw...)
	}
	leaf := st.svid.Certificates[0]
	opts, err := signerOpts(leaf.PublicKey)
	if err != nil {
		return Proof{}, nil, err
	}
	signature, err := st.svid.PrivateKey.Sign(rand.Reader, digestOf(proofContent(chain, transcript), opts.HashFunc()), opts)
	if err != nil {
		return Proof{}, nil, fmt.Errorf("sign proof: %w", err)
	}
	return Proof{Chain: chain, Signature: signature}, leaf, nil
}

// VerifyProof checks that the peer holds the key of an SVID of exactly the given
// ID, one that the bundles held now vouch for and that authorize admits. It
// returns the chain, the leaf first. Errors are [*PeerError]; a signature that is
// wrong is [ReasonBadProof], which no honest peer causes.
func (s *Source) VerifyProof(p Proof, transcript []byte, id spiffeid.ID, authorize Authorizer) ([]*x509.Certificate, error) {
	chain, err := s.verifyProof(p, transcript, id, authorize)
	if err != nil {
		return nil, s.refusedProof(err)
	}
	return chain, nil
}

func (s *Source) verifyProof(p Proof, transcript []byte, id spiffeid.ID, authorize Authorizer) ([]*x509.Certificate, *PeerError) {
	if len(p.Chain) > maxProofChain {
		return nil, refusef(id, ReasonBadProof, "chain of %d bytes, at most %d", len(p.Chain), maxProofChain)
	}
	chain, err := x509.ParseCertificates(p.Chain)
	if err != nil {
		return nil, refuse(id, ReasonBadProof, err)
	}
	if len(chain) == 0 {
		return nil, refuse(id, ReasonNoCertificate, nil)
	}
	// Possession first: what a certificate says is nobody's word before it.
	if err := checkSignature(chain[0].PublicKey, proofContent(p.Chain, transcript), p.Signature); err != nil {
		return nil, refuse(id, ReasonBadProof, err)
	}
	proven, refusal := verifyChain(chain, s.state.Load().lookup, s.now())
	if refusal != nil {
		return nil, refusal
	}
	switch {
	case proven != id:
		return nil, refusef(id, ReasonChangedID, "the new certificate is of %s", proven)
	case authorize == nil:
		return nil, refuse(id, ReasonUnauthorized, errors.New("no authorizer is set"))
	}
	if err := authorize(id); err != nil {
		return nil, refuse(id, ReasonUnauthorized, err)
	}
	return chain, nil
}

// proofContent is what is signed. The chain is in it, so that a signature is
// good for one certificate even if two have the same key.
func proofContent(chain, transcript []byte) []byte {
	b := bytes.Repeat([]byte{' '}, 64)
	b = append(b, proofContext...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(chain)))
	b = append(b, chain...)
	return append(b, transcript...)
}

// signerOpts pins the algorithm to the key.
func signerOpts(key crypto.PublicKey) (crypto.SignerOpts, error) {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return crypto.SHA256, nil
		case elliptic.P384():
			return crypto.SHA384, nil
		}
	case ed25519.PublicKey:
		return crypto.Hash(0), nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= minRSABits && bits <= maxRSABits {
			return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}, nil
		}
	}
	return nil, ErrUnsupportedKey
}

// digestOf hashes content; without a hash, as Ed25519 wants it, it is content.
func digestOf(content []byte, h crypto.Hash) []byte {
	if h == 0 {
		return content
	}
	d := h.New()
	d.Write(content)
	return d.Sum(nil)
}

var errSignature = errors.New("signature is wrong")

func checkSignature(key crypto.PublicKey, content, signature []byte) error {
	opts, err := signerOpts(key)
	if err != nil {
		return err
	}
	digest := digestOf(content, opts.HashFunc())
	ok := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, digest, signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, digest, signature)
	case *rsa.PublicKey:
		ok = rsa.VerifyPSS(k, crypto.SHA256, digest, signature, opts.(*rsa.PSSOptions)) == nil
	}
	if !ok {
		return errSignature
	}
	return nil
}
