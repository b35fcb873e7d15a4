package oidc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const audience = "isthmus"

// start is when the tests' clock starts.
func start() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// issuer is an https server with discovery and a key set, and the private keys to
// sign whatever a test wants.
type issuer struct {
	*httptest.Server
	ca string // PEM file

	mu        sync.Mutex
	keys      []jose.JSONWebKey // published
	discovery http.HandlerFunc  // in the place of the document
	jwks      http.HandlerFunc  // in the place of the key set

	discovered, fetched atomic.Int32
}

func newIssuer(t testing.TB, keys ...jose.JSONWebKey) *issuer {
	t.Helper()
	s := &issuer{keys: keys}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		s.discovered.Add(1)
		if h := s.override(&s.discovery); h != nil {
			h(w, r)
			return
		}
		writeJSON(w, map[string]string{"issuer": s.URL, "jwks_uri": s.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		s.fetched.Add(1)
		if h := s.override(&s.jwks); h != nil {
			h(w, r)
			return
		}
		s.mu.Lock()
		set := jose.JSONWebKeySet{Keys: s.keys}
		s.mu.Unlock()
		writeJSON(w, set)
	})
	s.Server = httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(s.ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *issuer) override(h *http.HandlerFunc) http.HandlerFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *h
}

func (s *issuer) set(h *http.HandlerFunc, to http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*h = to
}

func (s *issuer) publish(keys ...jose.JSONWebKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// clock is the verifier's.
type clock struct{ at atomic.Pointer[time.Time] }

func (c *clock) now() time.Time          { return *c.at.Load() }
func (c *clock) advance(d time.Duration) { c.at.Store(new(c.now().Add(d))) }

func newVerifier(t *testing.T, s *issuer, change ...func(*oidc.Config)) (*oidc.Verifier, *clock) {
	t.Helper()
	c := &clock{}
	c.at.Store(new(start()))
	config := oidc.Config{Issuer: s.URL, Audience: audience, CAFile: s.ca}
	for _, f := range change {
		f(&config)
	}
	v, err := oidc.New(oidc.Options{Config: config, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return v, c
}

// pair is a private key and its public half as it is published.
type pair struct {
	private crypto.Signer
	public  jose.JSONWebKey
}

func rsaPair(t testing.TB, kid string, bits int) pair {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return pair{k, jose.JSONWebKey{Key: k.Public(), KeyID: kid, Use: "sig"}}
}

func ecPair(t testing.TB, kid string) pair {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair{k, jose.JSONWebKey{Key: k.Public(), KeyID: kid, Use: "sig"}}
}

func edPair(t testing.TB, kid string) pair {
	t.Helper()
	public, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair{k, jose.JSONWebKey{Key: public, KeyID: kid, Use: "sig"}}
}

// claims are those of a good token, with changes: nil removes one.
func claims(s *issuer, changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": s.URL, "aud": audience, "sub": "alice", "iat": start().Unix(), "exp": start().Add(10 * time.Minute).Unix(),
		"groups": []string{"mesh-ops"},
	}
	for k, v := range changes {
		if v == nil {
			delete(c, k)
			continue
		}
		c[k] = v
	}
	return c
}

// sign makes a token with go-jose, the header extended by extra.
func sign(t testing.TB, key any, alg jose.SignatureAlgorithm, kid string, extra map[string]any, payload any) string {
	t.Helper()
	opts := &jose.SignerOptions{}
	opts.WithType("JWT")
	if kid != "" {
		opts.WithHeader("kid", kid)
	}
	for k, v := range extra {
		opts.WithHeader(jose.HeaderKey(k), v)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	data, ok := payload.([]byte)
	if !ok {
		if data, err = json.Marshal(payload); err != nil {
			t.Fatal(err)
		}
	}
	jws, err := signer.Sign(data)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// signES256 signs any header and payload bytes, also those that go-jose would not.
func signES256(t *testing.T, key *ecdsa.PrivateKey, header, payload string) string {
	t.Helper()
	input := raw64(header) + "." + raw64(payload)
	h := crypto.SHA256.New()
	h.Write([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func raw64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
