package oidc_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
)

func TestKeyRotation(t *testing.T) {
	first, second := ecPair(t, "1"), ecPair(t, "2")
	s := newIssuer(t, first.public)
	v, clock := newVerifier(t, s)
	oldToken, newToken := sign(t, first.private, jose.ES256, "1", nil, claims(s, nil)), sign(t, second.private, jose.ES256, "2", nil, claims(s, nil))
	if got := reasonOf(t, v, oldToken); got != "" {
		t.Fatal(got)
	}
	s.publish(first.public, second.public)
	if got := reasonOf(t, v, newToken); got != oidc.UnknownKey {
		t.Fatalf("a new key is known as %q without the issuer being asked again", got)
	}
	clock.advance(11 * time.Second)
	if got := reasonOf(t, v, newToken); got != "" {
		t.Fatalf("a new key is refused as %q once the issuer may be asked", got)
	}
	if got := reasonOf(t, v, oldToken); got != "" {
		t.Fatalf("the old key is refused as %q while it is published", got)
	}
	s.publish(second.public)
	clock.advance(14 * time.Minute)
	fresh := sign(t, first.private, jose.ES256, "1", nil, claims(s, map[string]any{"exp": start().Add(time.Hour).Unix()}))
	if got := reasonOf(t, v, fresh); got != "" {
		t.Fatalf("keys were read again too early: %q", got)
	}
	clock.advance(2 * time.Minute)
	if got := reasonOf(t, v, fresh); got != oidc.UnknownKey {
		t.Fatalf("a withdrawn key is answered by %q", got)
	}
}

func TestDiscoveryDownCachedKeysHold(t *testing.T) {
	key := ecPair(t, "1")
	s := newIssuer(t, key.public)
	v, clock := newVerifier(t, s)
	token := func() string {
		now := clock.now()
		return sign(t, key.private, jose.ES256, "1", nil, claims(s, map[string]any{"iat": now.Unix(), "exp": now.Add(time.Minute).Unix()}))
	}
	if got := reasonOf(t, v, token()); got != "" {
		t.Fatal(got)
	}
	down := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	s.set(&s.discovery, down)
	for _, after := range []time.Duration{time.Hour, 22 * time.Hour} {
		clock.advance(after)
		if got := reasonOf(t, v, token()); got != "" {
			t.Fatalf("after %v of an issuer that is down: %q", after, got)
		}
	}
	clock.advance(2 * time.Hour)
	if got := reasonOf(t, v, token()); got != oidc.NoKeys {
		t.Fatalf("keys of more than a day ago are used: %q", got)
	}
	s.set(&s.discovery, nil)
	clock.advance(time.Minute)
	if got := reasonOf(t, v, token()); got != "" {
		t.Fatalf("the issuer is back: %q", got)
	}
}

// Whatever an issuer, or somebody in its place, answers: no keys, and no crash.
func TestHostileIssuers(t *testing.T) {
	key, other := ecPair(t, "1"), ecPair(t, "1")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{other.public}})
	}))
	t.Cleanup(elsewhere.Close)
	symmetric := jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "1"}
	private := jose.JSONWebKey{Key: key.private, KeyID: "1"}
	doc := func(change func(m map[string]any)) func(*issuer) http.HandlerFunc {
		return func(s *issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				m := map[string]any{"issuer": s.URL, "jwks_uri": s.URL + "/keys"}
				change(m)
				writeJSON(w, m)
			}
		}
	}
	constant := func(h http.HandlerFunc) func(*issuer) http.HandlerFunc {
		return func(*issuer) http.HandlerFunc { return h }
	}
	bytesOf := func(n int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[],"x":"` + strings.Repeat("x", n) + `"}`))
		}
	}
	keysOf := func(keys ...jose.JSONWebKey) func(*issuer) http.HandlerFunc {
		return constant(func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, jose.JSONWebKeySet{Keys: keys}) })
	}
	many := make([]jose.JSONWebKey, 65)
	for i := range many {
		many[i] = key.public
	}
	for name, c := range map[string]struct {
		discovery, jwks func(*issuer) http.HandlerFunc
	}{
		"discovery of another issuer":      {discovery: doc(func(m map[string]any) { m["issuer"] = "https://evil.test" })},
		"discovery without issuer":         {discovery: doc(func(m map[string]any) { delete(m, "issuer") })},
		"discovery without keys":           {discovery: doc(func(m map[string]any) { delete(m, "jwks_uri") })},
		"discovery to plain http":          {discovery: doc(func(m map[string]any) { m["jwks_uri"] = elsewhere.URL })},
		"discovery to a file":              {discovery: doc(func(m map[string]any) { m["jwks_uri"] = "file:///etc/passwd" })},
		"discovery with a user in the URL": {discovery: doc(func(m map[string]any) { m["jwks_uri"] = "https://a:b@id.test/keys" })},
		"discovery redirects":              {discovery: constant(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })},
		"discovery oversize":               {discovery: constant(bytesOf(200 << 10))},
		"discovery no JSON":                {discovery: constant(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })},
		"discovery empty":                  {discovery: constant(func(http.ResponseWriter, *http.Request) {})},
		"discovery fails":                  {discovery: constant(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })},
		"key set redirects": {jwks: constant(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusMovedPermanently)
		})},
		"key set oversize":           {jwks: constant(bytesOf(300 << 10))},
		"key set empty":              {jwks: keysOf()},
		"key set of too many keys":   {jwks: keysOf(many...)},
		"key set of a shared secret": {jwks: keysOf(symmetric)},
		"key set of a private key":   {jwks: keysOf(private)},
		"key set no JSON":            {jwks: constant(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{")) })},
		"key set of a number":        {jwks: constant(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[1,null,{}]}`)) })},
		"key set of a point off the curve": {jwks: constant(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"AQ","y":"AQ"}]}`))
		})},
		"key set of an answer without keys": {jwks: constant(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`null`)) })},
	} {
		t.Run(name, func(t *testing.T) {
			s := newIssuer(t, key.public)
			if c.discovery != nil {
				s.set(&s.discovery, c.discovery(s))
			}
			if c.jwks != nil {
				s.set(&s.jwks, c.jwks(s))
			}
			v, _ := newVerifier(t, s)
			for _, signer := range []pair{key, other} {
				if got := reasonOf(t, v, sign(t, signer.private, jose.ES256, "1", nil, claims(s, nil))); got != oidc.NoKeys {
					t.Errorf("answered by %q, want %q", got, oidc.NoKeys)
				}
			}
			if n := s.discovered.Load(); n != 1 {
				t.Errorf("the issuer was asked %d times while the clock stood still", n)
			}
		})
	}
}

func TestIssuerWithAnotherCertificateIsNotBelieved(t *testing.T) {
	key := ecPair(t, "1")
	s, other := newIssuer(t, key.public), newIssuer(t, key.public)
	_ = other
	v, err := oidc.New(oidc.Options{Config: oidc.Config{Issuer: s.URL, Audience: audience}, Now: start})
	if err != nil {
		t.Fatal(err)
	}
	if got := reasonOf(t, v, sign(t, key.private, jose.ES256, "1", nil, claims(s, nil))); got != oidc.NoKeys {
		t.Errorf("an issuer that no root of the system vouches for: %q", got)
	}
}

// A burst of requests at the start asks the issuer once.
func TestOneQuestionForABurst(t *testing.T) {
	key := ecPair(t, "1")
	s := newIssuer(t, key.public)
	v, _ := newVerifier(t, s)
	token := sign(t, key.private, jose.ES256, "1", nil, claims(s, nil))
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := v.Verify(context.WithoutCancel(t.Context()), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.fetched.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

// Someone whose request has ended does not go on waiting for a slow issuer.
func TestSlowIssuerHoldsNobody(t *testing.T) {
	key := ecPair(t, "1")
	s := newIssuer(t, key.public)
	asked, release := make(chan struct{}), make(chan struct{})
	s.set(&s.discovery, func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-release
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	v, _ := newVerifier(t, s)
	token := sign(t, key.private, jose.ES256, "1", nil, claims(s, nil))
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = v.Verify(context.WithoutCancel(t.Context()), token) })
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(ctx, token); err == nil {
		t.Error("taken without keys")
	}
	close(release)
	wg.Wait()
}
