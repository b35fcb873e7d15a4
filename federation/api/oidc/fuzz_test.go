package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
)

// No token makes the verifier crash, and none is taken that the issuer has not
// signed byte by byte.
func FuzzVerify(f *testing.F) {
	key := ecPair(f, "1")
	s := newIssuer(f, key.public)
	v, err := oidc.New(oidc.Options{Config: oidc.Config{Issuer: s.URL, Audience: audience, CAFile: s.ca}, Now: start})
	if err != nil {
		f.Fatal(err)
	}
	good := sign(f, key.private, jose.ES256, "1", nil, claims(s, nil))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(raw64(`{"alg":"ES256","kid":"1","kid":"1"}`) + ".e30.AA")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(context.Background(), token)
		if err == nil {
			if token != good {
				t.Fatalf("taken: %q", token)
			}
			return
		}
		if c != nil {
			t.Fatal("claims beside an error")
		}
		if _, ok := errors.AsType[*oidc.TokenError](err); !ok {
			t.Fatalf("%v is no *TokenError", err)
		}
	})
}

// What the strict reader takes, encoding/json reads the same way.
func FuzzStrictJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"a":2}`, `{"a":{"b":[1,{"c":null}]}}`, `[]`, `{"a":1}x`, `{"\u0061":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		strict, err := oidc.DecodeStrict(data)
		if err != nil {
			return
		}
		var loose map[string]json.RawMessage
		if err := json.Unmarshal(data, &loose); err != nil {
			t.Fatalf("strict takes what encoding/json does not: %v", err)
		}
		if len(loose) != len(strict) {
			t.Fatalf("%d members, loosely %d", len(strict), len(loose))
		}
	})
}
