package gcp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"

	"cloud.google.com/go/auth"
	adc "cloud.google.com/go/auth/credentials"
)

// scopeReadOnly would do for Compute Engine, but Service Directory knows no
// narrower one; what may be done is for the role to say.
const scopePlatform = "https://www.googleapis.com/auth/cloud-platform"

// maxCredentials bounds a file of credentials.
const maxCredentials = 1 << 20

// credentialTypes are the files that are taken.
var credentialTypes = []adc.CredType{
	adc.ServiceAccount, adc.AuthorizedUser, adc.ImpersonatedServiceAccount, adc.ExternalAccount, adc.ExternalAccountAuthorizedUser,
}

// keyring gives access tokens: of the configured file, which is read again when
// it has changed, or of Application Default Credentials.
type keyring struct {
	path string
	// client talks to token endpoints.
	client *http.Client

	mu    sync.Mutex
	creds *auth.Credentials
	hash  [sha256.Size]byte
	quota string
	err   error
}

// reload looks at the file, or for default credentials as long as there are
// none. It is called once a round.
func (k *keyring) reload(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.path == "" {
		if k.creds == nil {
			k.take(ctx, func() (*auth.Credentials, error) { return adc.DetectDefault(k.options()) })
		}
		return
	}
	data, err := readBounded(k.path)
	hash := sha256.Sum256(data)
	switch {
	case err != nil:
		// The file is being replaced, or gone: what was read of it still holds.
		if k.creds == nil {
			k.err = fmt.Errorf("read the credentials: %w", err)
		}
	case hash != k.hash || k.creds == nil:
		k.hash = hash
		k.take(ctx, func() (*auth.Credentials, error) { return k.parse(data) })
	}
}

func (k *keyring) take(ctx context.Context, get func() (*auth.Credentials, error)) {
	k.creds, k.err = get()
	if k.err != nil {
		k.creds = nil
		return
	}
	if quota, err := k.creds.QuotaProjectID(ctx); err == nil {
		k.quota = quota
	}
}

func (k *keyring) options() *adc.DetectOptions {
	return &adc.DetectOptions{
		Scopes: []string{scopePlatform}, Client: k.client,
		DisableAsyncRefresh: true, // a refresh in the background has no deadline
	}
}

// parse takes the kinds of files that are known, each as what it says it is.
func (k *keyring) parse(data []byte) (*auth.Credentials, error) {
	var head struct {
		Type adc.CredType `json:"type"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, errors.New("the file of credentials is no JSON object") // its text stays out of logs
	}
	if !slices.Contains(credentialTypes, head.Type) {
		return nil, fmt.Errorf("the file of credentials has the type %q, known are %q", head.Type, credentialTypes)
	}
	return adc.NewCredentialsFromJSON(head.Type, data, k.options())
}

// token is for one request; quota is the project that is billed for it, if the
// credentials name one.
func (k *keyring) token(ctx context.Context) (creds *auth.Credentials, token *auth.Token, quota string, err error) {
	k.mu.Lock()
	creds, quota, err = k.creds, k.quota, k.err
	k.mu.Unlock()
	if creds == nil {
		return nil, nil, "", &credentialError{cmp.Or(err, errors.New("there are none"))}
	}
	token, err = creds.Token(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, nil, "", ctx.Err() // this read ends; the credentials may be good
	}
	if err != nil {
		return nil, nil, "", &credentialError{err}
	}
	return creds, token, quota, nil
}

// refused takes note that a token was not accepted though it should be valid
// still: the next round asks for another.
func (k *keyring) refused(creds *auth.Credentials) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.creds == creds {
		k.creds, k.err = nil, errors.New("the last one was refused")
	}
}

// tokenFault says what a token endpoint answered: its code alone.
func tokenFault(err error) string {
	e, ok := errors.AsType[*auth.Error](err)
	if !ok {
		return err.Error()
	}
	var body struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(e.Body, &body) == nil && body.Error != "" && len(body.Error) <= maxMessage {
		return fmt.Sprintf("the token endpoint refuses: %q", body.Error)
	}
	if e.Response != nil {
		return fmt.Sprintf("the token endpoint answers with status %d", e.Response.StatusCode)
	}
	return "the token endpoint gives no token"
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(f, maxCredentials+1))
	if err == nil && n > maxCredentials {
		err = fmt.Errorf("%s has more than %d bytes", path, maxCredentials)
	}
	return b.Bytes(), err
}
