package hostapi

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	tokenPrefix = "isthmus-ca-1."
	// maxToken bounds a token: 16 roots of 600 bytes in base64.
	maxToken = 32 << 10
	// SecretBytes is the length of a token's secret: nobody guesses 256 bits, so
	// that a plain digest of it is all that the CA needs to keep.
	SecretBytes = 32
)

// ErrToken says that a text is no join token.
var ErrToken = errors.New("no join token")

// Token lets one host join, once.
type Token struct {
	// Address is the CA's host:port.
	Address string `json:"address"`
	// TrustDomain is what the host joins, Roots its roots (DER): the CA is whoever
	// shows an SVID below one of them, and nobody else.
	TrustDomain string   `json:"trust_domain"`
	Roots       [][]byte `json:"roots"`
	// Host is the only name that the token is good for.
	Host   string `json:"host"`
	Secret []byte `json:"secret"`
}

// Encode writes the token as one word.
func (t Token) Encode() (string, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(body), nil
}

// ParseToken reads what Encode wrote; space around it is ignored. Errors wrap
// ErrToken.
func ParseToken(text string) (Token, error) {
	bad := func(rule string) (Token, error) { return Token{}, fmt.Errorf("%w: %s", ErrToken, rule) }
	text = strings.TrimSpace(text)
	encoded, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(text) > maxToken {
		return bad("it must begin with " + tokenPrefix + " and be whole")
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return bad("it is cut or changed")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var t Token
	if err := d.Decode(&t); err != nil {
		return bad("it is cut or changed")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("it is cut or changed")
	}
	if !ValidHost(t.Host) || len(t.Secret) != SecretBytes || t.Address == "" {
		return bad("host, secret or address is wrong")
	}
	if _, err := t.Bundle(); err != nil {
		return bad("its roots are wrong")
	}
	return t, nil
}

// Bundle is the bundle that the token pins.
func (t Token) Bundle() (identity.Bundle, error) {
	td, err := spiffeid.TrustDomainFromString(t.TrustDomain)
	if err != nil {
		return identity.Bundle{}, err
	}
	b := identity.Bundle{TrustDomain: td}
	for _, der := range t.Roots {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return identity.Bundle{}, err
		}
		b.Authorities = append(b.Authorities, cert)
	}
	document, err := b.Marshal()
	if err != nil {
		return identity.Bundle{}, err
	}
	return identity.ParseBundle(td, document) // with its rules on roots
}
