package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/isthmus-mesh/isthmus/internal/durable"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	stateName = "roots.state"
	stateKind = "isthmus-ca-roots 1"
	lockName  = "lock"
	// maxStateBytes is far above the size of any state: roots number three at most
	// in normal rotation, with about 1 KiB each.
	maxStateBytes = 1 << 20
	maxRoots      = 16
)

// The write points of a CA.
const (
	rootsPoint     durable.Point = "ca-roots"
	hostsPoint     durable.Point = "ca-hosts"
	federatedPoint durable.Point = "ca-federated"
	bundlePoint    durable.Point = "ca-bundle"
)

// ErrState is the error for a state file that cannot be used. It stops the start,
// since new roots would cut off everybody who trusts the old ones; an operator who
// wants that moves the file away.
var ErrState = errors.New("ca state is unusable")

// ErrInUse is the error for a directory that another process serves.
var ErrInUse = keep.ErrLocked

// stateFile is the JSON in the state file. []byte is base64 in JSON.
type stateFile struct {
	TrustDomain string      `json:"trust_domain"`
	Sequence    uint64      `json:"sequence"`
	Roots       []stateRoot `json:"roots"`
}

type stateRoot struct {
	Certificate []byte    `json:"certificate"` // DER
	Key         []byte    `json:"key"`         // PKCS#8
	Created     time.Time `json:"created"`
	Activates   time.Time `json:"activates"`
}

// prepareDir makes the directory of the keys, or checks that nobody else can write
// there.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("dir: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("dir: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("dir: %s: mode is %#o, others must not write there", dir, perm)
	}
	return nil
}

// loadRoots reads the state; without a file there are no roots yet.
// damage says that one of the file's two copies was damaged.
func loadRoots(dir string, td spiffeid.TrustDomain) (r roots, damage, err error) {
	path := filepath.Join(dir, stateName)
	body, damage, err := keep.Load(rootsPoint, path, stateKind, maxStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return roots{}, nil, nil
	}
	if err != nil {
		return roots{}, nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if r, err = parseRoots(body, td); err != nil {
		return roots{}, nil, fmt.Errorf("%w: %s: %w", ErrState, path, err)
	}
	return r, damage, nil
}

func parseRoots(body []byte, td spiffeid.TrustDomain) (roots, error) {
	var file stateFile
	if err := json.Unmarshal(body, &file); err != nil {
		return roots{}, fmt.Errorf("%w: %w", keep.ErrCorrupt, err)
	}
	if file.TrustDomain != td.Name() {
		return roots{}, fmt.Errorf("it is of trust domain %q, not of %s", file.TrustDomain, td)
	}
	if len(file.Roots) == 0 || len(file.Roots) > maxRoots {
		return roots{}, fmt.Errorf("%w: %d roots, want 1 to %d", keep.ErrCorrupt, len(file.Roots), maxRoots)
	}
	r := roots{sequence: file.Sequence}
	for i, sr := range file.Roots {
		a, err := sr.parse()
		if err != nil {
			return roots{}, fmt.Errorf("%w: root %d: %w", keep.ErrCorrupt, i, err)
		}
		r.list = append(r.list, a)
	}
	return r, nil
}

func (sr stateRoot) parse() (root, error) {
	cert, err := x509.ParseCertificate(sr.Certificate)
	if err != nil {
		return root{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(sr.Key)
	if err != nil {
		return root{}, err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return root{}, fmt.Errorf("key is a %T", parsed)
	}
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || !public.Equal(cert.PublicKey) {
		return root{}, errors.New("key does not belong to the certificate")
	}
	if !cert.IsCA {
		return root{}, errors.New("certificate is not a ca")
	}
	return root{cert: cert, key: key, created: sr.Created, activates: sr.Activates}, nil
}

// save writes the state; only then may the roots be used.
func (r roots) save(dir string, td spiffeid.TrustDomain) error {
	data, err := r.marshal(td)
	if err != nil {
		return err
	}
	if err := keep.Save(rootsPoint, filepath.Join(dir, stateName), stateKind, data); err != nil {
		return fmt.Errorf("ca state: %w", err)
	}
	return nil
}

func (r roots) marshal(td spiffeid.TrustDomain) ([]byte, error) {
	file := stateFile{TrustDomain: td.Name(), Sequence: r.sequence}
	for _, a := range r.list {
		key, err := x509.MarshalPKCS8PrivateKey(a.key)
		if err != nil {
			return nil, err
		}
		file.Roots = append(file.Roots, stateRoot{
			Certificate: a.cert.Raw, Key: key, Created: a.created.UTC(), Activates: a.activates.UTC(),
		})
	}
	return json.Marshal(file)
}

// document is the bundle as it travels.
func (r roots) document(td spiffeid.TrustDomain, hint time.Duration) ([]byte, error) {
	return identity.Bundle{
		TrustDomain: td, Authorities: r.certificates(),
		Sequence: r.sequence, HasSequence: true, RefreshHint: hint,
	}.Marshal()
}
