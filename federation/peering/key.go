package peering

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
)

// key is what a token's secret is worth: all MACs are made with it. The inviter
// keeps it, and never the secret.
type key [sha256.Size]byte

// derive is HKDF-SHA256 (RFC 5869) of the secret, salted by the token's ID; its
// info is a label and the hash of everything that the token says, so that a token
// in which anything was changed has another key.
func (t *Token) derive() (k key, err error) {
	said := sha256.Sum256(t.payload())
	b, err := hkdf.Key(sha256.New, t.Secret[:], t.ID[:], "isthmus-join/1 key"+string(said[:]), len(k))
	if err != nil {
		return k, fmt.Errorf("derive key: %w", err)
	}
	copy(k[:], b)
	return k, nil
}

// role says what a MAC is of, so that none can stand for another.
type role string

const (
	roleRequest role = "isthmus-join/1 request"
	roleAnswer  role = "isthmus-join/1 answer"
	roleReturn  role = "isthmus-join/1 return"
)

// mac is HMAC-SHA256 over role, NUL, the hash of the binding and the hash of the
// body. The binding is what the message belongs to: the exporter of its
// connection and, in an answer, the request.
func (k key) mac(r role, binding, body []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, k[:])
	_, _ = h.Write(append([]byte(r), 0)) // a hash takes everything
	for _, part := range [][]byte{binding, body} {
		hashed := sha256.Sum256(part)
		_, _ = h.Write(hashed[:])
	}
	h.Sum(sum[:0])
	return sum
}

// exporterLabel is for ExportKeyingMaterial (RFC 8446, section 7.5).
const exporterLabel = "EXPORTER-isthmus-join-1"

// exporter is the secret that only both ends of this connection have.
func exporter(cs *tls.ConnectionState) ([]byte, error) {
	if !cs.HandshakeComplete || cs.Version != tls.VersionTLS13 {
		return nil, errors.New("exporter: handshake is not complete")
	}
	return cs.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
}
