package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Files says where an identity lies that another program keeps on disk:
// spiffe-helper, cert-manager, a Kubernetes secret, a cron job. Either Directory,
// or all of Certificate, Key and Bundle.
type Files struct {
	// Directory holds svid.pem, svid_key.pem and svid_bundle.pem, as spiffe-helper
	// writes them, or tls.crt, tls.key and ca.crt, as cert-manager and Kubernetes do.
	Directory string `yaml:"directory"`
	// Certificate is the SVID in PEM, leaf first, then its intermediates.
	Certificate string `yaml:"certificate"`
	// Key is its private key in PEM (PKCS#8, SEC 1 or PKCS#1); others than owner
	// and group must not be able to read it, nor the group to write it.
	Key string `yaml:"key"`
	// Bundle holds the authorities of the own trust domain, in PEM, and of no other.
	Bundle string `yaml:"bundle"`
	// Federated are the bundles of other trust domains, at most 256.
	Federated []FederatedFile `yaml:"federated"`
}

// FederatedFile is the bundle of another trust domain. It is a SPIFFE bundle
// document, which PEM cannot stand in for: in one PEM file nothing says which
// domain an authority speaks for.
type FederatedFile struct {
	// TrustDomain is the other domain.
	TrustDomain spiffeid.TrustDomain `yaml:"trust_domain"`
	// BundleFile holds its SPIFFE bundle document (JSON).
	BundleFile string `yaml:"bundle_file"`
}

// naming is one convention for the three files of a directory.
type naming struct{ certificate, key, bundle string }

// namings lists the conventions. A directory with files of both is refused, since
// nothing says which of the two somebody still renews.
func namings() [2]naming {
	return [2]naming{
		{"svid.pem", "svid_key.pem", "svid_bundle.pem"}, // spiffe-helper's defaults
		{"tls.crt", "tls.key", "ca.crt"},                // cert-manager, kubernetes.io/tls
	}
}

// FilesProblem is one thing that is wrong with a Files.
type FilesProblem struct {
	Field string // as in the configuration file, "federated[2].bundle_file"
	Value any
	Rule  string
}

// Problems returns everything that is wrong with f; it touches no file.
func (f *Files) Problems() []FilesProblem {
	var all []FilesProblem
	bad := func(field string, value any, rule string) { all = append(all, FilesProblem{field, value, rule}) }
	three := []struct{ field, path string }{{"certificate", f.Certificate}, {"key", f.Key}, {"bundle", f.Bundle}}
	for _, p := range three {
		switch {
		case f.Directory == "" && p.path == "":
			bad(p.field, "", "must be set, or directory instead of all three")
		case f.Directory != "" && p.path != "":
			bad(p.field, p.path, "must not be set beside directory")
		}
	}
	if n := len(f.Federated); n > maxTrustDomains {
		bad("federated", n, fmt.Sprintf("must be at most %d", maxTrustDomains))
	}
	seen := make(map[spiffeid.TrustDomain]bool)
	for i, b := range f.Federated {
		at := fmt.Sprintf("federated[%d].", i)
		switch {
		case b.TrustDomain.IsZero():
			bad(at+"trust_domain", "", "must be set")
		case seen[b.TrustDomain]:
			bad(at+"trust_domain", b.TrustDomain.Name(), "must not be listed twice")
		}
		seen[b.TrustDomain] = true
		if b.BundleFile == "" {
			bad(at+"bundle_file", "", "must be set")
		}
	}
	return all
}

// Validate joins the problems.
func (f *Files) Validate() error {
	var errs []error
	for _, p := range f.Problems() {
		errs = append(errs, fmt.Errorf("%s: %q: %s", p.Field, fmt.Sprint(p.Value), p.Rule))
	}
	return errors.Join(errs...)
}

// String names where the files lie, for logs and errors.
func (f *Files) String() string {
	if f.Directory != "" {
		return f.Directory
	}
	return f.Certificate
}

// locate names the three files. A directory is looked into each time: a helper
// may come to life, or be replaced by another one, while the process runs.
func (f *Files) locate() (naming, error) {
	if f.Directory == "" {
		return naming{f.Certificate, f.Key, f.Bundle}, nil
	}
	var found []naming
	known := namings()
	for _, n := range known {
		in := naming{filepath.Join(f.Directory, n.certificate), filepath.Join(f.Directory, n.key), filepath.Join(f.Directory, n.bundle)}
		if _, err := os.Stat(in.certificate); err == nil {
			found = append(found, in)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return naming{}, err
		}
	}
	switch len(found) {
	case 0:
		return naming{}, fmt.Errorf("%w: %s holds neither %s nor %s", ErrFilesMissing, f.Directory, known[0].certificate, known[1].certificate)
	case 1:
		return found[0], nil
	default:
		return naming{}, fmt.Errorf("%w: %s holds both %s and %s: name certificate, key and bundle instead of the directory",
			ErrFilesMalformed, f.Directory, known[0].certificate, known[1].certificate)
	}
}
