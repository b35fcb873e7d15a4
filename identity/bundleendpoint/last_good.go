package bundleendpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/isthmus-mesh/isthmus/internal/durable"
)

const (
	keptKind = "isthmus-bundle-endpoint 1"
	// maxKeptBytes is a document of the largest size in base64, and the rest.
	maxKeptBytes = 2 * identity.MaxBundleBytes
	// keptPoint is the write point.
	keptPoint durable.Point = "bundle-endpoint"
)

// kept is the JSON in a Follower's file.
type kept struct {
	TrustDomain string    `json:"trust_domain"`
	URL         string    `json:"url"`
	FetchedAt   time.Time `json:"fetched_at"`
	Document    []byte    `json:"document"` // base64
}

// load offers what was good before a restart. What another endpoint or domain
// left there is nobody's.
func (f *Follower) load() {
	if f.opts.File == "" {
		return
	}
	k, err := f.readKept()
	if err == nil {
		var offered identity.Bundle
		if offered, err = identity.ParseBundle(f.opts.TrustDomain, k.Document); err == nil {
			f.status.FetchedAt, f.status.Sequence, f.status.Refresh = k.FetchedAt, offered.Sequence, defaultRefresh
			if err = f.opts.Take(k.Document); errors.Is(err, identity.ErrSequenceRollback) {
				err = nil // the identity's own cache is ahead
			}
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.opts.Metrics.damagedFile()
		f.log.Warn("last good bundle of an endpoint is not usable", "path", f.opts.File, "err", err)
	}
}

func (f *Follower) readKept() (kept, error) {
	body, damage, err := keep.Load(keptPoint, f.opts.File, keptKind, maxKeptBytes)
	if err != nil {
		return kept{}, err
	}
	if damage != nil {
		f.log.Error("last good bundle of an endpoint was damaged, its second copy serves", "path", f.opts.File, "err", damage)
		f.opts.Metrics.damagedFile()
	}
	var k kept
	if err := json.Unmarshal(body, &k); err != nil {
		return kept{}, fmt.Errorf("%w: %w", keep.ErrCorrupt, err)
	}
	if k.TrustDomain != f.opts.TrustDomain.Name() || k.URL != f.opts.Endpoint.URL {
		return kept{}, fs.ErrNotExist
	}
	return k, nil
}

func (f *Follower) save(document []byte, at time.Time) {
	if f.opts.File == "" {
		return
	}
	body, err := json.Marshal(kept{
		TrustDomain: f.opts.TrustDomain.Name(), URL: f.opts.Endpoint.URL, FetchedAt: at.UTC(), Document: document,
	})
	if err == nil {
		err = keep.Save(keptPoint, f.opts.File, keptKind, body)
	}
	if err != nil {
		f.log.Error("last good bundle of an endpoint is not kept", "path", f.opts.File, "err", err)
	}
}
