package identitytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// NotBefore and NotAfter bound the life of everything that is minted here.
var (
	NotBefore = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	NotAfter  = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
)

// CA is a certificate authority of one trust domain, in memory.
type CA struct {
	td     spiffeid.TrustDomain
	cert   *x509.Certificate
	key    crypto.Signer
	parent *CA // nil for a root
	serial *atomic.Int64
}

// NewCA makes a root CA for a trust domain such as "a.test".
func NewCA(trustDomain string) *CA {
	td := spiffeid.RequireTrustDomainFromString(trustDomain)
	ca := &CA{td: td, key: newKey(), serial: new(atomic.Int64)}
	template := caTemplate(td, ca.nextSerial())
	ca.cert = must(sign(template, template, ca.key.Public(), ca.key))
	return ca
}

// Intermediate makes a CA below ca that carries the SPIFFE ID of the given trust
// domain, which is ca's own in everything but a negative test. SVIDs minted by it
// bring its certificate along.
func (ca *CA) Intermediate(trustDomain string) *CA {
	td := spiffeid.RequireTrustDomainFromString(trustDomain)
	sub := &CA{td: td, key: newKey(), parent: ca, serial: ca.serial}
	sub.cert = must(sign(caTemplate(td, ca.nextSerial()), ca.cert, sub.key.Public(), ca.key))
	return sub
}

// TrustDomain returns the trust domain that ca speaks for.
func (ca *CA) TrustDomain() spiffeid.TrustDomain { return ca.td }

// ID returns the SPIFFE ID of the trust domain with the given path ("/gw").
func (ca *CA) ID(path string) spiffeid.ID { return spiffeid.RequireFromPath(ca.td, path) }

// Certificate returns the CA's certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Bundle returns the trust bundle: the root that ca hangs from.
func (ca *CA) Bundle() *x509bundle.Bundle {
	return x509bundle.FromX509Authorities(ca.td, []*x509.Certificate{ca.root().cert})
}

// BundleJSON returns the trust bundle as a SPIFFE bundle document with the given
// sequence number.
func (ca *CA) BundleJSON(sequence uint64) []byte {
	return BundleJSON(ca.td, sequence, ca.root().cert)
}

// BundleJSON writes a SPIFFE bundle document.
func BundleJSON(td spiffeid.TrustDomain, sequence uint64, authorities ...*x509.Certificate) []byte {
	return must(identity.Bundle{
		TrustDomain: td, Authorities: authorities,
		Sequence: sequence, HasSequence: true, RefreshHint: time.Minute,
	}.Marshal())
}

// Source returns a static identity with an SVID of the given ID, which trusts
// ca's own bundle and the given ones.
func (ca *CA) Source(id spiffeid.ID, bundles ...*x509bundle.Bundle) *identity.Source {
	return identity.NewStatic(ca.SVID(id), append([]*x509bundle.Bundle{ca.Bundle()}, bundles...)...)
}

// SVID mints a good SVID. The ID may be of any trust domain: whether it is then
// trusted is what tests ask.
func (ca *CA) SVID(id spiffeid.ID) *x509svid.SVID {
	return ca.Mint(Leaf{URIs: []string{id.String()}})
}

func (ca *CA) root() *CA {
	for ca.parent != nil {
		ca = ca.parent
	}
	return ca
}

// chain returns the intermediates that a leaf of ca must bring along.
func (ca *CA) chain() []*x509.Certificate {
	var chain []*x509.Certificate
	for c := ca; c.parent != nil; c = c.parent {
		chain = append(chain, c.cert)
	}
	return chain
}

func (ca *CA) nextSerial() *big.Int { return big.NewInt(ca.serial.Add(1)) }

func caTemplate(td spiffeid.TrustDomain, serial *big.Int) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial,
		// Roots of one domain differ in name, or chain building would try each.
		Subject:               pkix.Name{CommonName: td.Name() + " test ca " + must(newName())},
		URIs:                  []*url.URL{td.ID().URL()},
		NotBefore:             NotBefore,
		NotAfter:              NotAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func newName() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<32))
	if err != nil {
		return "", err
	}
	return n.Text(36), nil
}

func newKey() crypto.Signer {
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
