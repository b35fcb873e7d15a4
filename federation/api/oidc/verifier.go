package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// MaxToken bounds a token: 200 groups and a signature fit.
	MaxToken = 12 << 10
	// maxKid bounds a key's name.
	maxKid = 256
	// minRSABits is NIST's least, maxRSABits crypto/tls's most: a signature of more
	// costs the verifier too much.
	minRSABits = 2048
	maxRSABits = 8192
)

// Verifier judges tokens of one issuer. It is safe for concurrent use.
type Verifier struct {
	config Config
	algs   []jose.SignatureAlgorithm
	keys   *keySet
	now    func() time.Time
}

// Options configure a Verifier.
type Options struct {
	Config Config
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// New checks the configuration, reads its CA file, and asks nobody yet.
func New(opts Options) (*Verifier, error) {
	c := opts.Config.WithDefaults()
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	v := &Verifier{config: c, now: opts.Now}
	if v.now == nil {
		v.now = time.Now
	}
	for _, a := range c.Algorithms {
		v.algs = append(v.algs, jose.SignatureAlgorithm(a))
	}
	client, err := newClient(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("oidc: %w", err)
	}
	v.keys = newKeySet(c.Issuer, client, v.now)
	return v, nil
}

// Issuer is the configured one.
func (v *Verifier) Issuer() string { return v.config.Issuer }

// Verify returns what a token says, or a *TokenError. It may fetch the issuer's
// keys, for as long as ctx lasts and fetchTimeout at most.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	claims, err := v.verify(ctx, token)
	if err != nil { // typed: nil must not become a non-nil error
		return nil, err
	}
	return claims, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (*Claims, *TokenError) {
	if len(token) > MaxToken {
		return nil, refuse(TooLarge)
	}
	head, err := parseHead(token)
	if err != nil {
		return nil, err
	}
	// Before any key is looked for: what is no candidate must cost nothing.
	if !slices.Contains(v.config.Algorithms, head.alg) {
		return nil, refuse(BadAlgorithm)
	}
	jws, perr := jose.ParseSignedCompact(token, v.algs)
	if perr != nil {
		return nil, &TokenError{Reason: Malformed, Err: perr}
	}
	key, err := v.keys.find(ctx, head.kid, head.alg)
	if err != nil {
		return nil, err
	}
	payload, verr := jws.Verify(key)
	if verr != nil {
		return nil, refuse(BadSignature)
	}
	return judge(&v.config, v.now(), payload)
}

// head is what counts of a token's header.
type head struct{ alg, kid string }

// parseHead reads the header, strictly, before anything else is done.
func parseHead(token string) (head, *TokenError) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return head{}, refusef(Malformed, "has %d parts, a signed token has 3", len(parts))
	}
	// Strict: go-jose skips line ends and ignores loose bits, so that one token
	// would have several spellings.
	var decoded [3][]byte
	for i, p := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(p); err != nil || strings.ContainsAny(p, "\r\n") {
			return head{}, refusef(Malformed, "part %d is not base64url", i+1)
		}
	}
	var set map[string]json.RawMessage
	if err := decodeStrict(decoded[0], &set); err != nil {
		return head{}, refusef(Malformed, "header %w", err)
	}
	var h head
	if !text(set["alg"], &h.alg) {
		return head{}, refuse(BadAlgorithm)
	}
	for _, name := range []string{"crit", "b64"} {
		if _, there := set[name]; there {
			return head{}, refuse(Critical)
		}
	}
	if raw, there := set["kid"]; there && (!text(raw, &h.kid) || h.kid == "" || len(h.kid) > maxKid) {
		return head{}, refusef(Malformed, "kid must be 1 to %d characters", maxKid)
	}
	if _, there := set["cty"]; there {
		return head{}, refusef(BadType, "a token in a token is not taken")
	}
	if raw, there := set["typ"]; there {
		var typ string
		if !text(raw, &typ) {
			return head{}, refuse(BadType)
		}
		typ = strings.ToLower(strings.TrimPrefix(strings.ToLower(typ), "application/"))
		if typ != "jwt" && typ != "at+jwt" {
			return head{}, refuse(BadType)
		}
	}
	return h, nil
}

// fits says whether a key may check signatures of an algorithm: the key decides,
// and never a token, what it is used for.
func fits(key jose.JSONWebKey, alg string) bool {
	if key.Use != "" && key.Use != "sig" || key.Algorithm != "" && key.Algorithm != alg {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return (alg[:2] == "RS" || alg[:2] == "PS") && k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits
	case *ecdsa.PublicKey:
		return map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[alg] == k.Params().Name
	case ed25519.PublicKey:
		return alg == "EdDSA"
	default:
		return false
	}
}
