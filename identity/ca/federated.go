package ca

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// federatedPoll is how often the files of federated bundles are looked at. A
	// stat per file costs microseconds, and a removed trust must not linger.
	federatedPoll = time.Second
	federatedName = "federated.state"
	federatedKind = "isthmus-ca-federated 1"
	// maxFederatedBytes holds maxFederated documents of the largest size in base64.
	maxFederatedBytes = maxFederated * identity.MaxBundleBytes * 3 / 2
)

// federation keeps the last good bundle of each federated trust domain. It is used
// by one goroutine; what it hands out is immutable.
type federation struct {
	dir   string
	files []*federatedFile
}

// federatedFile is one configured file and what was read from it.
type federatedFile struct {
	Federated
	seen     *keep.Mark // of the last look, good or bad; nil before the first
	good     identity.Bundle
	document []byte // good as it was read
	updated  time.Time
}

// loadFederation starts from the documents that were good when the CA last ran, so
// that their sequence numbers hold over a restart. A bad memory is reported and
// forgotten: the files themselves are there.
func loadFederation(dir string, configured []Federated, now time.Time) (f *federation, damage, err error) {
	f = &federation{dir: dir}
	body, damage, err := keep.Load(federatedPoint, filepath.Join(dir, federatedName), federatedKind, maxFederatedBytes)
	documents := make(map[string][]byte)
	if err == nil {
		documents, err = parseFederated(body)
	} else if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, c := range configured {
		file := &federatedFile{Federated: c}
		if doc := documents[c.TrustDomain.Name()]; doc != nil {
			good, perr := identity.ParseBundle(c.TrustDomain, doc)
			if perr == nil {
				file.good, file.document, file.updated = good, doc, now
			}
			err = errors.Join(err, perr)
		}
		f.files = append(f.files, file)
	}
	return f, damage, err
}

func parseFederated(body []byte) (map[string][]byte, error) {
	var documents map[string][]byte
	if err := json.Unmarshal(body, &documents); err != nil {
		return nil, fmt.Errorf("%w: %w", keep.ErrCorrupt, err)
	}
	return documents, nil
}

func (f *federation) save() error {
	documents := make(map[string][]byte)
	for _, file := range f.files {
		if file.document != nil {
			documents[file.TrustDomain.Name()] = file.document
		}
	}
	body, err := json.Marshal(documents)
	if err != nil {
		return err
	}
	return keep.Save(federatedPoint, filepath.Join(f.dir, federatedName), federatedKind, body)
}

// reading is what became of one file that was looked at.
type reading struct {
	file    *federatedFile
	changed bool
	err     error
}

// reload reads the files that changed since the last time. A file that is missing,
// bad, empty or older leaves the last good bundle in force.
func (f *federation) reload(now time.Time) []reading {
	var out []reading
	for _, file := range f.files {
		mark := keep.MarkOf(file.BundleFile)
		if mark.Same(file.seen) {
			continue
		}
		// Marked before it is read: a change in between is then seen next time.
		file.seen = mark
		changed, err := file.read(now)
		out = append(out, reading{file, changed, err})
	}
	return out
}

func (file *federatedFile) read(now time.Time) (changed bool, err error) {
	r, err := os.Open(file.BundleFile)
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }()
	doc, err := keep.ReadBounded(r, identity.MaxBundleBytes)
	if err != nil {
		return false, fmt.Errorf("%s: %w", file.BundleFile, err)
	}
	offered, err := identity.ParseBundle(file.TrustDomain, doc)
	if err == nil {
		err = identity.CheckSuccessor(file.good, offered)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", file.BundleFile, err)
	}
	if string(doc) == string(file.document) {
		return false, nil
	}
	file.good, file.document, file.updated = offered, doc, now
	return true, nil
}

// bundles returns the authorities in force, as DER, by trust domain.
func (f *federation) bundles() map[spiffeid.TrustDomain][]byte {
	out := make(map[spiffeid.TrustDomain][]byte)
	for _, file := range f.files {
		if len(file.good.Authorities) > 0 {
			out[file.TrustDomain] = concat(file.good.Authorities)
		}
	}
	return out
}
