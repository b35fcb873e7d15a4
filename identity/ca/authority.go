package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// backdate is how far NotBefore lies in the past, so that hosts whose clocks are
// up to this much behind take a fresh certificate at once.
const backdate = 2 * time.Minute

// root is one authority with its key. It is immutable.
type root struct {
	cert *x509.Certificate
	key  crypto.Signer
	// created and activates are kept, and not read off the certificate, because
	// that one is backdated.
	created   time.Time
	activates time.Time // signs from then on
}

// roots are the authorities of the trust domain in order of creation, with the
// number of the bundle that they make. It is immutable.
type roots struct {
	list     []root
	sequence uint64
}

// certificates are the bundle.
func (r roots) certificates() []*x509.Certificate {
	certs := make([]*x509.Certificate, 0, len(r.list))
	for _, a := range r.list {
		certs = append(certs, a.cert)
	}
	return certs
}

// signer returns the root that signs now: the newest that is active, or the oldest
// that is valid when the clock was set back before all of them.
func (r roots) signer(now time.Time) (root, error) {
	for _, a := range slices.Backward(r.list) {
		if !now.Before(a.activates) && now.Before(a.cert.NotAfter) {
			return a, nil
		}
	}
	for _, a := range r.list {
		if now.Before(a.cert.NotAfter) {
			return a, nil
		}
	}
	return root{}, errors.New("every root has expired")
}

// advance is the whole rotation of roots: it drops expired ones, prepares the next
// one when the newest is past half of its life, and says when to look again. A
// prepared root is published at once and signs a quarter of its life later, so that
// everybody has the bundle by then; sooner only if the one before cannot sign for a
// full SVID any more. create makes a root that is valid from now on.
func (r roots) advance(now time.Time, cfg Config, create func(activates time.Time) (root, error)) (next roots, lookAgain time.Time, err error) {
	next = roots{sequence: r.sequence}
	for _, a := range r.list {
		if now.Before(a.cert.NotAfter) {
			next.list = append(next.list, a)
		}
	}
	activates, due := now, true
	if n := len(next.list); n > 0 {
		newest := next.list[n-1]
		due = !now.Before(halfLife(newest))
		lastSigning := newest.cert.NotAfter.Add(-cfg.SVIDTTL)
		activates = now.Add(cfg.CATTL / rootToSVID)
		if lastSigning.Before(activates) {
			activates = lastSigning
		}
	}
	if due {
		a, err := create(activates)
		if err != nil {
			return r, now, err
		}
		next.list = append(next.list, a)
	}
	if len(next.list) != len(r.list) || due {
		next.sequence = identity.NextSequence(r.sequence, next.certificates())
	}
	lookAgain = halfLife(next.list[len(next.list)-1])
	for _, a := range next.list {
		if a.cert.NotAfter.Before(lookAgain) {
			lookAgain = a.cert.NotAfter
		}
	}
	return next, lookAgain, nil
}

func halfLife(a root) time.Time {
	return a.created.Add(a.cert.NotAfter.Sub(a.created) / 2)
}

// newRoot makes a self-signed root as the X509-SVID specification wants it: a CA
// that may sign certificates, with the trust domain as its one URI SAN, and no room
// for a CA below it.
func newRoot(td spiffeid.TrustDomain, now, activates time.Time, life time.Duration) (root, error) {
	key, err := newKey()
	if err != nil {
		return root{}, err
	}
	serial, err := newSerial()
	if err != nil {
		return root{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"isthmus"}, CommonName: td.Name(), SerialNumber: serial.Text(16)},
		URIs:         []*url.URL{td.ID().URL()},
		NotBefore:    now.Add(-backdate),
		// Whole seconds, rounded up, so that the life is never cut.
		NotAfter:              now.Add(life + time.Second - 1).Truncate(time.Second),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return root{}, fmt.Errorf("sign root: %w", err)
	}
	return root{cert: cert, key: key, created: now, activates: activates}, nil
}

// mint issues an SVID with a key of its own.
func (r roots) mint(id spiffeid.ID, now time.Time, ttl time.Duration) (*x509svid.SVID, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := r.certify(id, key.Public(), now, ttl)
	if err != nil {
		return nil, err
	}
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{cert}, PrivateKey: key}, nil
}

// certify signs an SVID for a key: exactly one URI SAN, no CA, for signatures, as
// TLS server and client. It never outlives its root.
func (r roots) certify(id spiffeid.ID, public crypto.PublicKey, now time.Time, ttl time.Duration) (*x509.Certificate, error) {
	signer, err := r.signer(now)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	notAfter := now.Add(ttl)
	if notAfter.After(signer.cert.NotAfter) {
		notAfter = signer.cert.NotAfter
	}
	cert, err := sign(&x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"isthmus"}},
		URIs:                  []*url.URL{id.URL()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, signer.cert, public, signer.key)
	if err != nil {
		return nil, fmt.Errorf("sign svid of %s: %w", id, err)
	}
	return cert, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newKey makes a P-256 key, the one that every SPIFFE implementation supports.
func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newSerial makes a random serial number of 127 bits: positive, and within the 20
// octets of RFC 5280.
func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}
