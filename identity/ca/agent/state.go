package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/ca/hostapi"
	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/isthmus-mesh/isthmus/internal/durable"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const (
	stateName = "agent.state"
	stateKind = "isthmus-ca-agent 1"
	// maxStateBytes holds the answer of the CA and an SVID for each entry.
	maxStateBytes = 2 * hostapi.MaxAnswer
	// statePoint is the write point.
	statePoint durable.Point = "ca-agent"
)

// state is what the host was given, and the JSON in its file. []byte is base64.
type state struct {
	Host        string `json:"host"`
	TrustDomain string `json:"trust_domain"`
	Address     string `json:"address"`
	Key         []byte `json:"key"`                   // PKCS#8
	Certificate []byte `json:"certificate,omitempty"` // DER; nil before the host has joined
	// Config is the CA's last word on entries and bundles, SVIDs are by ID.
	Config hostapi.Config    `json:"config"`
	SVIDs  map[string]signed `json:"svids,omitempty"`

	key   *ecdsa.PrivateKey
	leaf  *x509.Certificate
	renew time.Time // of leaf
}

// signed is an SVID of a workload.
type signed struct {
	Certificate []byte    `json:"certificate"` // DER
	Key         []byte    `json:"key"`         // PKCS#8
	NotAfter    time.Time `json:"not_after"`
	Renew       time.Time `json:"renew"`
}

func (a *Agent) path() string { return filepath.Join(a.cfg.Dir, stateName) }

// load reads what the host was given before. A file that cannot be used is an
// error, and leaves nothing.
func (a *Agent) load() error {
	body, damage, err := keep.Load(statePoint, a.path(), stateKind, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if damage != nil {
		a.metrics.damaged.Inc()
		a.log.Error("what the host was given was damaged, its second copy serves", "path", a.path(), "err", damage)
	}
	var s state
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("%w: %w", keep.ErrCorrupt, err)
	}
	if s.key, err = parseKey(s.Key); err != nil {
		return fmt.Errorf("%w: key: %w", keep.ErrCorrupt, err)
	}
	if s.Certificate != nil {
		if s.leaf, err = x509.ParseCertificate(s.Certificate); err != nil {
			return fmt.Errorf("%w: certificate: %w", keep.ErrCorrupt, err)
		}
		s.renew = a.now() // at the next chance: how far its life had got is not known
	}
	a.state = s
	return nil
}

// save writes the state. The caller holds mu, or is the only one who knows a.
func (a *Agent) save() error {
	body, err := json.Marshal(a.state)
	if err == nil {
		err = keep.Save(statePoint, a.path(), stateKind, body)
	}
	if err != nil {
		a.metrics.writeErrors.Inc()
		return fmt.Errorf("agent state: %w", err)
	}
	return nil
}

// prepareKey makes the host's key for a token, unless there is one from an
// attempt before.
func (a *Agent) prepareKey(t hostapi.Token) error {
	if a.state.key != nil && a.state.Certificate == nil && a.state.Host == t.Host && a.state.TrustDomain == t.TrustDomain {
		a.state.Address = t.Address
		return nil
	}
	key, der, err := newKey()
	if err != nil {
		return err
	}
	a.state = state{Host: t.Host, TrustDomain: t.TrustDomain, Address: t.Address, Key: der, key: key}
	return a.save()
}

// takeHost takes the host's SVID: of its own key and name, below the bundle.
func (a *Agent) takeHost(der []byte, bundle identity.Bundle) error {
	leaf, err := a.check(der, a.state.key, hostapi.HostPath+a.state.Host, bundle.Authorities)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state.Certificate, a.state.leaf, a.state.renew = der, leaf, a.renewAt(leaf)
	if a.state.Config.Bundle == nil {
		a.state.Config.Bundle = concat(bundle.Authorities)
	}
	return a.save()
}

// check verifies a certificate that the CA has signed for a key of ours, and for
// the ID with the path.
func (a *Agent) check(der []byte, key *ecdsa.PrivateKey, path string, roots []*x509.Certificate) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("certificate is of another key")
	}
	td, err := spiffeid.TrustDomainFromString(a.state.TrustDomain)
	if err != nil {
		return nil, err
	}
	id, _, err := x509svid.Verify([]*x509.Certificate{leaf}, x509bundle.FromX509Authorities(td, roots), x509svid.WithTime(a.now()))
	if err != nil {
		return nil, err
	}
	if id.Path() != path {
		return nil, fmt.Errorf("certificate is of %s, want %s", id, path)
	}
	return leaf, nil
}

// connect gives the host its identity, and a client that shows it. The caller is
// the only one who knows a, or holds mu.
func (a *Agent) connect() error {
	svid := &x509svid.SVID{Certificates: []*x509.Certificate{a.state.leaf}, PrivateKey: a.state.key}
	id, err := x509svid.IDFromCert(a.state.leaf)
	if err != nil {
		return err
	}
	svid.ID = id
	roots, err := x509.ParseCertificates(a.state.Config.Bundle)
	if err != nil || len(roots) == 0 {
		return errors.Join(errors.New("no roots are held"), err)
	}
	bundle := x509bundle.FromX509Authorities(id.TrustDomain(), roots)
	if a.source == nil {
		a.source = identity.NewStatic(svid, bundle)
	} else if err := a.source.ReplaceStatic(svid, bundle); err != nil {
		return err
	}
	address := a.state.Address
	if a.cfg.Address != "" {
		address = a.cfg.Address
	}
	// A connection keeps the SVID of its handshake, so that each SVID has
	// connections of its own.
	a.ca.close()
	a.ca = hostClient(address, a.source)
	return nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return key, der, err
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key is a %T", parsed)
	}
	return key, nil
}

// newCSR asks for a certificate of a key; which names it gets is the CA's matter.
func newCSR(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

func concat(certs []*x509.Certificate) []byte {
	var der []byte
	for _, c := range certs {
		der = append(der, c.Raw...)
	}
	return der
}
