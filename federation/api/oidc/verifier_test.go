package oidc_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
)

// reasonOf is why a token was refused; "" where it was taken.
func reasonOf(t *testing.T, v *oidc.Verifier, token string) oidc.Reason {
	t.Helper()
	c, err := v.Verify(t.Context(), token)
	if err == nil {
		if c.Subject == "" || c.Expires.IsZero() {
			t.Errorf("a token is taken without subject or end: %+v", c)
		}
		return ""
	}
	refused, ok := errors.AsType[*oidc.TokenError](err)
	if !ok {
		t.Fatalf("%v is no *TokenError", err)
	}
	return refused.Reason
}

func TestGoodTokensOfEveryAlgorithm(t *testing.T) {
	rsaKey, ec, ed := rsaPair(t, "r", 2048), ecPair(t, "e"), edPair(t, "d")
	s := newIssuer(t, rsaKey.public, ec.public, ed.public)
	v, _ := newVerifier(t, s)
	for _, c := range []struct {
		key pair
		alg jose.SignatureAlgorithm
		kid string
	}{{rsaKey, jose.RS256, "r"}, {rsaKey, jose.PS256, "r"}, {ec, jose.ES256, "e"}, {ed, jose.EdDSA, "d"}} {
		got, err := v.Verify(t.Context(), sign(t, c.key.private, c.alg, c.kid, nil, claims(s, nil)))
		if err != nil {
			t.Errorf("%s: %v", c.alg, err)
			continue
		}
		want := start().Add(10 * time.Minute)
		if got.Subject != "alice" || !slices.Equal(got.Roles, []string{"mesh-ops"}) || !got.Expires.Equal(want) {
			t.Errorf("%s: %+v", c.alg, got)
		}
	}
	if n := s.fetched.Load(); n != 1 {
		t.Errorf("keys were fetched %d times, want once", n)
	}
}

func TestClaims(t *testing.T) {
	ec := ecPair(t, "e")
	s := newIssuer(t, ec.public)
	v, _ := newVerifier(t, s)
	unix := func(d time.Duration) int64 { return start().Add(d).Unix() }
	many := make([]string, 17)
	for i := range many {
		many[i] = audience
	}
	for name, c := range map[string]struct {
		changes map[string]any
		want    oidc.Reason
	}{
		"good":                           {nil, ""},
		"issuer of another":              {map[string]any{"iss": "https://evil.test"}, oidc.WrongIssuer},
		"issuer with a slash":            {map[string]any{"iss": s.URL + "/"}, oidc.WrongIssuer},
		"issuer in upper case":           {map[string]any{"iss": "HTTPS" + s.URL[5:]}, oidc.WrongIssuer},
		"issuer missing":                 {map[string]any{"iss": nil}, oidc.WrongIssuer},
		"issuer a list":                  {map[string]any{"iss": []string{s.URL}}, oidc.WrongIssuer},
		"audience of another":            {map[string]any{"aud": "consul"}, oidc.WrongAudience},
		"audience missing":               {map[string]any{"aud": nil}, oidc.WrongAudience},
		"audience empty":                 {map[string]any{"aud": ""}, oidc.WrongAudience},
		"audience in upper case":         {map[string]any{"aud": "ISTHMUS"}, oidc.WrongAudience},
		"audience a prefix":              {map[string]any{"aud": "isthmus2"}, oidc.WrongAudience},
		"audience a list with ours":      {map[string]any{"aud": []string{"consul", audience}}, ""},
		"audience a list without ours":   {map[string]any{"aud": []string{"consul", "vault"}}, oidc.WrongAudience},
		"audience an empty list":         {map[string]any{"aud": []string{}}, oidc.WrongAudience},
		"audience a list with a number":  {map[string]any{"aud": []any{audience, 1}}, oidc.WrongAudience},
		"audience a long list":           {map[string]any{"aud": many}, oidc.WrongAudience},
		"audience an object":             {map[string]any{"aud": map[string]any{audience: true}}, oidc.WrongAudience},
		"expired":                        {map[string]any{"iat": unix(-30 * time.Minute), "exp": unix(-2 * time.Minute)}, oidc.Expired},
		"expired within the leeway":      {map[string]any{"iat": unix(-30 * time.Minute), "exp": unix(-59 * time.Second)}, ""},
		"expired at the leeway":          {map[string]any{"iat": unix(-30 * time.Minute), "exp": unix(-60 * time.Second)}, oidc.Expired},
		"exp missing":                    {map[string]any{"exp": nil}, oidc.BadClaims},
		"exp a string":                   {map[string]any{"exp": "1900000000"}, oidc.BadClaims},
		"exp negative":                   {map[string]any{"exp": -1}, oidc.BadClaims},
		"exp beyond all times":           {map[string]any{"exp": 1e300}, oidc.BadClaims},
		"exp null":                       {map[string]any{"exp": []any{}}, oidc.BadClaims},
		"iat missing":                    {map[string]any{"iat": nil}, oidc.BadClaims},
		"iat in the future":              {map[string]any{"iat": unix(2 * time.Minute)}, oidc.NotYet},
		"iat a little in the future":     {map[string]any{"iat": unix(30 * time.Second)}, ""},
		"nbf in the future":              {map[string]any{"nbf": unix(2 * time.Minute)}, oidc.NotYet},
		"nbf within the leeway":          {map[string]any{"nbf": unix(59 * time.Second)}, ""},
		"nbf a string":                   {map[string]any{"nbf": "0"}, oidc.BadClaims},
		"fractions":                      {map[string]any{"exp": float64(unix(time.Minute)) + 0.5}, ""},
		"lives too long":                 {map[string]any{"exp": unix(2 * time.Hour)}, oidc.TooLong},
		"lives as long as it may":        {map[string]any{"exp": unix(time.Hour)}, ""},
		"subject missing":                {map[string]any{"sub": nil}, oidc.BadClaims},
		"subject empty":                  {map[string]any{"sub": ""}, oidc.BadClaims},
		"subject with a line end":        {map[string]any{"sub": "a\nb"}, oidc.BadClaims},
		"subject too long":               {map[string]any{"sub": string(make([]byte, 256))}, oidc.BadClaims},
		"role claim a string":            {map[string]any{"groups": "mesh-ops"}, ""},
		"role claim missing":             {map[string]any{"groups": nil}, ""},
		"role claim of numbers":          {map[string]any{"groups": []int{1}}, oidc.BadClaims},
		"role claim an object":           {map[string]any{"groups": map[string]any{"admin": true}}, oidc.BadClaims},
		"claims that nobody knows":       {map[string]any{"nested": map[string]any{"a": []any{map[string]any{}}}}, ""},
		"claims in another case":         {map[string]any{"iss": nil, "ISS": s.URL}, oidc.WrongIssuer},
		"a role claim in another case":   {map[string]any{"groups": nil, "Groups": []int{1}}, ""},
		"a second issuer in other case":  {map[string]any{"Iss": "https://evil.test"}, ""},
		"azp and nonce are nobody's":     {map[string]any{"azp": "x", "nonce": "y"}, ""},
		"nested deeper than is sensible": {map[string]any{"deep": deep(20)}, oidc.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reasonOf(t, v, sign(t, ec.private, jose.ES256, "e", nil, claims(s, c.changes))); got != c.want {
				t.Errorf("refused as %q, want %q", got, c.want)
			}
		})
	}
}

func deep(n int) any {
	if n == 0 {
		return 1
	}
	return []any{deep(n - 1)}
}

func TestConfigNamesFieldValueAndRule(t *testing.T) {
	good := oidc.Config{Issuer: "https://id.example.org/realms/mesh", Audience: "isthmus"}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*oidc.Config){
		"issuer":        func(c *oidc.Config) { c.Issuer = "http://id.example.org" },
		"audience":      func(c *oidc.Config) { c.Audience = "" },
		"algorithms[1]": func(c *oidc.Config) { c.Algorithms = []string{"RS256", "HS256"} },
		"algorithms[0]": func(c *oidc.Config) { c.Algorithms = []string{"none"} },
		"role_claim":    func(c *oidc.Config) { c.RoleClaim = "aud" },
		"max_lifetime":  func(c *oidc.Config) { c.MaxLifetime = 25 * time.Hour },
		"ca_file":       func(c *oidc.Config) { c.CAFile = "ca.pem" },
	} {
		c := good
		change(&c)
		fe, ok := errors.AsType[*catalog.FieldError](c.Validate())
		if !ok || fe.Field != field || fe.Rule == "" {
			t.Errorf("%s: %v", field, c.Validate())
		}
	}
	for _, bad := range []string{"", "id.example.org", "https://", "https://u@id.example.org", "https://id.example.org?x=1", "https://id.example.org#", "ftp://id.example.org", "http://localhost"} {
		c := good
		c.Issuer = bad
		if c.Validate() == nil {
			t.Errorf("issuer %q is taken", bad)
		}
	}
}
