package gcptest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// TokenFault is what the token endpoint does.
type TokenFault int

// The faults of the token endpoint.
const (
	// Granted is none: a token of an hour.
	Granted TokenFault = iota
	// InvalidGrant is the answer to a key that was deleted or has expired.
	InvalidGrant
	// TokenDown is 503.
	TokenDown
	// ShortLived gives tokens that last as good as nothing.
	ShortLived
)

// key is the service account's; making one takes long enough to do it once.
var key = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// tokens is a token endpoint for one service account.
type tokens struct {
	t    testing.TB
	url  string
	file string

	mu    sync.Mutex
	fault TokenFault
	given map[string]time.Time
	asked int
}

func newTokens(t testing.TB, url string) *tokens {
	k := &tokens{t: t, url: url, given: map[string]time.Time{}, file: filepath.Join(t.TempDir(), "credentials.json")}
	k.write("first")
	return k
}

// write makes the file of credentials anew; id is the key's.
func (k *tokens) write(id string) {
	private, err := key()
	if err != nil {
		k.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		k.t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	data, err := json.Marshal(object{
		"type": "service_account", "project_id": "shop-prod", "private_key_id": id, "private_key": string(text),
		"client_email": "isthmus@shop-prod.iam.gserviceaccount.com", "client_id": "1", "token_uri": k.url,
	})
	if err != nil {
		k.t.Fatal(err)
	}
	// As whoever rotates a file should: a new one takes its place.
	if err := os.WriteFile(k.file+".new", data, 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(k.file+".new", k.file); err != nil {
		k.t.Fatal(err)
	}
}

// CredentialsFile holds credentials for URL: a service account's key.
func (s *Server) CredentialsFile() string { return s.tokens.file }

// RotateCredentials writes the file anew, with a key of that id.
func (s *Server) RotateCredentials(id string) { s.tokens.write(id) }

// Tokens makes the token endpoint do that; what was given before ends, if fault is
// no Granted.
func (s *Server) Tokens(fault TokenFault) {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	if s.tokens.fault = fault; fault != Granted {
		clear(s.tokens.given)
	}
}

// TokensAsked counts the requests to the token endpoint.
func (s *Server) TokensAsked() int {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	return s.tokens.asked
}

func (k *tokens) valid(header string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Before(k.given[strings.TrimPrefix(header, "Bearer ")])
}

func (k *tokens) serve(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if err := k.check(r); err != nil {
		k.t.Errorf("the token endpoint was asked wrongly: %v", err)
	}
	w.Header().Set("Content-Type", "application/json")
	life := time.Hour
	switch k.fault {
	case Granted:
	case InvalidGrant:
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(object{"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
		return
	case TokenDown:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case ShortLived:
		life = time.Second
	}
	token := fmt.Sprintf("ya29.%s", rand.Text())
	k.given[token] = time.Now().Add(life)
	_ = json.NewEncoder(w).Encode(object{"access_token": token, "token_type": "Bearer", "expires_in": int(life.Seconds())})
}

// check verifies the assertion of the service account.
func (k *tokens) check(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return err
	}
	if g := r.PostForm.Get("grant_type"); g != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return fmt.Errorf("grant type %q", g)
	}
	signed, err := jwt.ParseSigned(r.PostForm.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return err
	}
	private, err := key()
	if err != nil {
		return err
	}
	var claims jwt.Claims
	if err := signed.Claims(private.Public(), &claims); err != nil {
		return err
	}
	return claims.Validate(jwt.Expected{Issuer: "isthmus@shop-prod.iam.gserviceaccount.com", AnyAudience: jwt.Audience{k.url}, Time: time.Now()})
}
