package identity

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const (
	// maxPEMBytes bounds a certificate, key or bundle file; 64 authorities with
	// 4,096-bit keys take about 150 KiB.
	maxPEMBytes = 1 << 20
	// What a file must not allow. Kubernetes gives a secret's files to a group and
	// lets it read them, helpers share a group with those that they serve; nobody
	// else may read a key. Who can write a bundle decides whom we trust.
	forbiddenKeyMode    fs.FileMode = 0o027
	forbiddenPublicMode fs.FileMode = 0o002
)

// Refusals of identity files; each is wrapped with path, value and rule.
var (
	// ErrFilesMissing: a file is not there.
	ErrFilesMissing = errors.New("identity file is missing")
	// ErrFilesMode: a file is open to more users than it may be.
	ErrFilesMode = keep.ErrMode
	// ErrFilesMalformed: not the PEM that it should be, or cut off in the middle,
	// as it looks while it is being written.
	ErrFilesMalformed = errors.New("malformed identity file")
	// ErrKeyMismatch: key and certificate do not belong together, as it is when one
	// of them has been written anew and the other has not yet.
	ErrKeyMismatch = errors.New("private key does not fit the certificate")
)

// fileSet is what the files held at one look: not parsed, perhaps half written.
type fileSet struct {
	paths                    naming
	certificate, key, bundle []byte
	federated                []federatedDocument
	err                      error // why there is no usable set
	// sum tells two looks apart, and a set that was judged from one that was not.
	sum [sha256.Size]byte
}

type federatedDocument struct {
	FederatedFile
	document []byte
	err      error
}

// read looks at all files once.
func (f *Files) read() fileSet {
	var set fileSet
	sum := sha256.New()
	note := func(path string, data []byte, err error) {
		fmt.Fprintf(sum, "%s\x00%d\x00%v\x00", path, len(data), err)
		sum.Write(data)
	}
	var err error
	set.paths, err = f.locate()
	note(f.Directory, nil, err)
	set.err = err
	if err == nil {
		for _, file := range []struct {
			path      string
			forbidden fs.FileMode
			into      *[]byte
		}{
			{set.paths.certificate, forbiddenPublicMode, &set.certificate},
			{set.paths.key, forbiddenKeyMode, &set.key},
			{set.paths.bundle, forbiddenPublicMode, &set.bundle},
		} {
			var err error
			*file.into, err = readFile(file.path, maxPEMBytes, file.forbidden)
			note(file.path, *file.into, err)
			set.err = errors.Join(set.err, err)
		}
	}
	for _, b := range f.Federated {
		data, err := readFile(b.BundleFile, MaxBundleBytes, forbiddenPublicMode)
		note(b.BundleFile, data, err)
		set.federated = append(set.federated, federatedDocument{b, data, err})
	}
	sum.Sum(set.sum[:0])
	return set
}

func readFile(path string, limit int64, forbidden fs.FileMode) ([]byte, error) {
	data, err := keep.ReadShared(path, limit, forbidden)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrFilesMissing, err)
	}
	return data, err
}

// offer parses the set. The error says what keeps it from being one, with the
// file and the rule; a federated document that is bad is none, it only is unread.
func (set fileSet) offer() (offer, error) {
	if set.err != nil {
		return offer{}, set.err
	}
	svid, err := parseSVID(set.paths, set.certificate, set.key)
	if err != nil {
		return offer{}, err
	}
	authorities, err := parsePEM(set.paths.bundle, set.bundle)
	if err != nil {
		return offer{}, err
	}
	own := svid.ID.TrustDomain()
	o := offer{
		origin: OriginFiles, where: set.paths.certificate, svids: []*x509svid.SVID{svid},
		bundles: map[spiffeid.TrustDomain]Bundle{own: {TrustDomain: own, Authorities: authorities}},
		unread:  make(map[spiffeid.TrustDomain]error),
	}
	for _, f := range set.federated {
		bundle, err := f.parse(own)
		if err != nil {
			o.unread[f.TrustDomain] = err
			continue
		}
		o.bundles[f.TrustDomain] = bundle
	}
	return o, nil
}

func (f federatedDocument) parse(own spiffeid.TrustDomain) (Bundle, error) {
	if f.err != nil {
		return Bundle{}, f.err
	}
	if f.TrustDomain == own {
		return Bundle{}, fmt.Errorf("%s: %s is the own trust domain, whose authorities are in the bundle file", f.BundleFile, own)
	}
	b, err := ParseBundle(f.TrustDomain, f.document)
	if err != nil {
		return Bundle{}, fmt.Errorf("%s: %w", f.BundleFile, err)
	}
	return b, nil
}

// parseSVID reads certificate and key and checks that they belong together.
func parseSVID(paths naming, certificate, key []byte) (*x509svid.SVID, error) {
	chain, err := parsePEM(paths.certificate, certificate)
	if err != nil {
		return nil, err
	}
	id, err := leafID(chain[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", paths.certificate, ErrFilesMalformed, err)
	}
	private, err := parseKey(key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", paths.key, ErrFilesMalformed, err)
	}
	public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%s: %w %s", paths.key, ErrKeyMismatch, paths.certificate)
	}
	return &x509svid.SVID{ID: id, Certificates: chain, PrivateKey: private}, nil
}

// parsePEM reads certificates, at least one. A rest that is no whole block is an
// error: it is what a file looks like that somebody is writing.
func parsePEM(path string, data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			if rest := bytes.TrimSpace(rest); len(rest) > 0 {
				return nil, fmt.Errorf("%s: %w: %d bytes after certificate %d are no whole pem block", path, ErrFilesMalformed, len(rest), len(certs))
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: %w: it holds a block %q, must hold CERTIFICATE only", path, ErrFilesMalformed, block.Type)
		}
		if len(certs) == maxAuthorities {
			return nil, fmt.Errorf("%s: %w: more than %d certificates", path, ErrTooLarge, maxAuthorities)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: certificate %d: %w", path, ErrFilesMalformed, len(certs), err)
		}
		certs, data = append(certs, cert), rest
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s: %w: it holds no certificate", path, ErrFilesMalformed)
	}
	return certs, nil
}

// parseKey reads the first private key. cert-manager writes PKCS#1 and SEC 1
// unless told otherwise, SPIFFE's tools PKCS#8; openssl puts a block with the
// curve's name before a SEC 1 key. Errors never show what the file holds.
func parseKey(data []byte) (crypto.Signer, error) {
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, errors.New("it holds no whole private key block")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PARAMETERS":
			data = rest
			continue
		default:
			return nil, errors.New("it holds a pem block that is no private key, or an encrypted one")
		}
		if err != nil {
			return nil, errors.New("its private key cannot be parsed")
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, errors.New("its private key cannot sign")
		}
		return signer, nil
	}
}
