package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/oidc"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Identity is both ends of the mTLS listener; *identity.Source is one.
type Identity interface {
	ServerTLS(alpn []string, authorize identity.Authorizer) *tls.Config
	VerifyPeer(certs []*x509.Certificate) (spiffeid.ID, error)
}

// TokenVerifier judges bearer tokens; *oidc.Verifier is one. Its refusals are
// *oidc.TokenErrors.
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (*oidc.Claims, error)
	Issuer() string
}

// tokenName is the principal of the token file.
const tokenName = "token"

// credential says for how long what a principal has shown holds: a watch
// outlives the request's first moment by hours.
type credential struct {
	until time.Time    // zero: as long as the connection
	still func() error // nil: nothing to ask
}

// spent reports whether the credential no longer holds.
func (c credential) spent(now time.Time) bool {
	return !c.until.IsZero() && !now.Before(c.until) || c.still != nil && c.still() != nil
}

type credentialKey struct{}

// refusal is an answer to a request whose sender is not let in.
type refusal struct {
	status int
	code   Code
	detail string
	// challenge is the WWW-Authenticate header.
	challenge string
}

// authenticator tells who makes a request.
type authenticator struct {
	token     [sha256.Size]byte // hashed, see bearer
	hasToken  bool
	tokenRole Role
	bindings  []RoleConfig
	roles     []Role // of bindings
	tokens    TokenVerifier
	identity  Identity
}

func newAuthenticator(opts *Options) (*authenticator, error) {
	config := opts.Auth.WithDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	a := &authenticator{
		token: sha256.Sum256([]byte(opts.Token)), hasToken: opts.Token != "", bindings: config.Roles,
		tokens: opts.Tokens, identity: opts.Identity,
	}
	a.tokenRole, _ = ParseRole(config.TokenRole) // Validate has read it
	for _, b := range config.Roles {
		r, _ := ParseRole(b.Role)
		a.roles = append(a.roles, r)
	}
	return a, nil
}

// roleOfID is the highest role that a SPIFFE ID has.
func (a *authenticator) roleOfID(id spiffeid.ID) Role {
	role := NoRole
	for i, b := range a.bindings {
		if slices.ContainsFunc(b.IDs, func(p policy.IDPattern) bool { return p.Match(id) }) {
			role = max(role, a.roles[i])
		}
	}
	return role
}

// roleOfClaims is the highest role that a token's subject has.
func (a *authenticator) roleOfClaims(c *oidc.Claims) Role {
	role := NoRole
	for i, b := range a.bindings {
		has := func(value string) bool { return slices.Contains(b.Claims, value) }
		if slices.Contains(b.Subjects, c.Subject) || slices.ContainsFunc(c.Roles, has) {
			role = max(role, a.roles[i])
		}
	}
	return role
}

// authorize is the mTLS listener's: who has no role is not even let in.
func (a *authenticator) authorize(id spiffeid.ID) error {
	if a.roleOfID(id) == NoRole {
		return errors.New("no role of federation.api.auth.roles fits " + id.String())
	}
	return nil
}

// who tells who makes a request, or why it is nobody.
func (a *authenticator) who(way Way, r *http.Request) (Principal, credential, *refusal) {
	switch way {
	case Socket:
		return localPrincipal(r.RemoteAddr), credential{}, nil
	case MTLS:
		p, cred, no := a.certificate(r)
		if no != nil || len(r.Header.Values("Authorization")) == 0 {
			return p, cred, no
		}
		// Someone behind a program that holds an SVID: the token says who, and what
		// he may do; the program's own role opens the door and no more.
		return a.bearer(way, r)
	default:
		return a.bearer(way, r)
	}
}

// certificate is the principal of an mTLS connection, whose certificate is judged
// again: the connection may be older than a revocation.
func (a *authenticator) certificate(r *http.Request) (Principal, credential, *refusal) {
	no := &refusal{status: http.StatusUnauthorized, code: CodeUnauthorized, detail: "the certificate is not, or no longer, one of this API's clients"}
	if r.TLS == nil || a.identity == nil || len(r.TLS.PeerCertificates) == 0 {
		return Principal{}, credential{}, no
	}
	certs := r.TLS.PeerCertificates
	id, err := a.identity.VerifyPeer(certs)
	if err != nil {
		return Principal{}, credential{}, no
	}
	role := a.roleOfID(id)
	return Principal{Name: id.String(), Role: role, Way: MTLS}, credential{
		until: certs[0].NotAfter,
		still: func() error {
			_, err := a.identity.VerifyPeer(certs)
			return err
		},
	}, nil
}

// bearer is the principal of a token: the one of the token file, or one that the
// issuer has signed.
func (a *authenticator) bearer(way Way, r *http.Request) (Principal, credential, *refusal) {
	nobody := func(detail, challenge string) (Principal, credential, *refusal) {
		return Principal{}, credential{}, &refusal{http.StatusUnauthorized, CodeUnauthorized, detail, challenge}
	}
	const challenge = `Bearer realm="isthmus"`
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return nobody("one header is needed: Authorization: Bearer TOKEN, with the token of the data directory's api.token or one of the configured issuer", challenge)
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nobody("the scheme must be Bearer: Authorization: Bearer TOKEN", challenge)
	}
	// Hashed first: the comparison takes the same time for every length.
	got := sha256.Sum256([]byte(token))
	if way == Loopback && a.hasToken && subtle.ConstantTimeCompare(got[:], a.token[:]) == 1 {
		return Principal{Name: tokenName, Role: a.tokenRole, Way: way}, credential{}, nil
	}
	if a.tokens == nil {
		return nobody("the token is not that of the data directory's api.token", challenge+`, error="invalid_token"`)
	}
	claims, err := a.tokens.Verify(r.Context(), token)
	if err == nil {
		return Principal{Name: a.tokens.Issuer() + "#" + claims.Subject, Role: a.roleOfClaims(claims), Way: way},
			credential{until: claims.Expires}, nil
	}
	if refused, ok := errors.AsType[*oidc.TokenError](err); ok && refused.Reason != oidc.NoKeys {
		return nobody("the token is refused: "+string(refused.Reason), challenge+`, error="invalid_token", error_description="`+string(refused.Reason)+`"`)
	}
	return Principal{}, credential{}, &refusal{
		status: http.StatusServiceUnavailable, code: CodeIssuerUnavailable,
		detail: "the issuer's keys are not known, so no token of his can be judged",
	}
}

// localPrincipal is whoever may open the socket: its mode has decided that he is
// the operator, and the kernel says who it is.
func localPrincipal(remote string) Principal {
	return Principal{Name: remote, Role: Admin, Way: Socket}
}
