package identity

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/isthmus-mesh/isthmus/identity/internal/keep"
	"github.com/isthmus-mesh/isthmus/internal/durable"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

const (
	// maxCacheBytes bounds the cache file: maxTrustDomains bundles of a usual
	// size (two or three roots) take about 1 MiB.
	maxCacheBytes = 16 << 20
	cacheKind     = "isthmus-identity-cache 1"
	// cachePoint is the write point.
	cachePoint durable.Point = "identity-cache"
)

// Refusals of a cache file; each is wrapped with path, value and rule.
var (
	// ErrCacheMode: others than the owner can read the file, so that the key in it
	// is no secret.
	ErrCacheMode = keep.ErrMode
	// ErrCacheCorrupt: digest, format or a value is wrong.
	ErrCacheCorrupt = keep.ErrCorrupt
	// ErrCacheExpired: the SVID is past its life. The bundles in the file are
	// still taken: they and their sequence numbers do not expire.
	ErrCacheExpired = errors.New("cached svid has expired")
	// ErrCacheID: the SVID is of another ID than the one that is wanted.
	ErrCacheID = errors.New("cached svid is of another spiffe id")
)

// cacheFile is the JSON in the cache file. Certificates are ASN.1 DER, the key
// PKCS#8; []byte is base64 in JSON.
type cacheFile struct {
	SVID    cacheSVID     `json:"svid"`
	Bundles []cacheBundle `json:"bundles"`
}

type cacheSVID struct {
	Certificates []byte `json:"certificates"` // concatenated, leaf first
	Key          []byte `json:"key"`
}

type cacheBundle struct {
	TrustDomain string    `json:"trust_domain"`
	Origin      Origin    `json:"origin"`
	Sequence    uint64    `json:"sequence"`
	RefreshHint int64     `json:"refresh_hint_seconds"`
	Updated     time.Time `json:"updated"`
	Authorities []byte    `json:"authorities"` // concatenated
}

// marshalCache writes what a restart needs.
func (st *state) marshalCache() ([]byte, error) {
	var file cacheFile
	var err error
	if file.SVID.Certificates, file.SVID.Key, err = st.svid.MarshalRaw(); err != nil {
		return nil, err
	}
	// Both origins are kept, also where one hides the other: the sequence number
	// of a hidden peer bundle must survive too.
	for _, bundles := range []map[spiffeid.TrustDomain]*trustBundle{st.api, st.peers} {
		for _, b := range sortedBundles(bundles) {
			cb := cacheBundle{
				TrustDomain: b.domain.Name(), Origin: b.origin, Sequence: b.sequence,
				RefreshHint: int64(b.refreshHint / time.Second), Updated: b.updated.UTC().Truncate(time.Second),
			}
			for _, c := range b.authorities {
				cb.Authorities = append(cb.Authorities, c.Raw...)
			}
			file.Bundles = append(file.Bundles, cb)
		}
	}
	body, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	if len(body) > maxCacheBytes {
		return nil, fmt.Errorf("cache: %w: %d bytes, at most %d", ErrTooLarge, len(body), maxCacheBytes)
	}
	return body, nil
}

// parseCache reads what marshalCache wrote. With ErrCacheExpired the state holds
// the bundles and no SVID; with every other error it is nil.
func parseCache(body []byte, want spiffeid.ID, now time.Time) (*state, error) {
	var file cacheFile
	if err := json.Unmarshal(body, &file); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCacheCorrupt, err)
	}
	svid, err := x509svid.ParseRaw(file.SVID.Certificates, file.SVID.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCacheCorrupt, err)
	}
	if !want.IsZero() && svid.ID != want {
		return nil, fmt.Errorf("%w: it is %s, wanted is %s", ErrCacheID, svid.ID, want)
	}
	st := (&state{}).clone()
	for _, cb := range file.Bundles {
		b, err := cb.parse()
		if err != nil {
			return nil, err
		}
		into, ok := map[Origin]map[spiffeid.TrustDomain]*trustBundle{OriginWorkloadAPI: st.api, OriginFiles: st.api, OriginFeed: st.api, OriginPeer: st.peers}[b.origin]
		if !ok {
			return nil, fmt.Errorf("%w: bundle of %s has origin %q", ErrCacheCorrupt, b.domain, b.origin)
		}
		into[b.domain] = b
	}
	own := svid.ID.TrustDomain()
	delete(st.peers, own)
	if len(st.api) > maxTrustDomains+1 || len(st.peers) > maxTrustDomains {
		return nil, fmt.Errorf("%w: %w", ErrCacheCorrupt, ErrTooManyTrustDomains)
	}
	if now.After(svid.Certificates[0].NotAfter) {
		return st, fmt.Errorf("%w: at %s", ErrCacheExpired, svid.Certificates[0].NotAfter.UTC().Format(time.RFC3339))
	}
	onlyOwn := func(td spiffeid.TrustDomain) *trustBundle { return st.api[td] }
	if _, err := verifyChain(svid.Certificates, onlyOwn, now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCacheCorrupt, err)
	}
	st.withSVID(svid, now)
	return st, nil
}

func (cb cacheBundle) parse() (*trustBundle, error) {
	td, err := spiffeid.TrustDomainFromString(cb.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("%w: trust domain %q: %w", ErrCacheCorrupt, cb.TrustDomain, err)
	}
	authorities, err := x509.ParseCertificates(cb.Authorities)
	if err != nil {
		return nil, fmt.Errorf("%w: bundle of %s: %w", ErrCacheCorrupt, td, err)
	}
	if err := checkAuthorities(td, authorities); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCacheCorrupt, err)
	}
	hint := time.Duration(cb.RefreshHint) * time.Second
	if hint < 0 {
		return nil, fmt.Errorf("%w: bundle of %s: refresh hint %d", ErrCacheCorrupt, td, cb.RefreshHint)
	}
	return newTrustBundle(td, authorities, cb.Origin, cb.Sequence, hint, cb.Updated), nil
}

// loadCache starts from the cache file if there is a good one. A bad one is
// reported and not used: the Workload API may be alive, and the next update writes
// a good one in its place.
func (s *Source) loadCache() {
	if s.opts.CacheFile == "" {
		return
	}
	data, damage, err := keep.Load(cachePoint, s.opts.CacheFile, cacheKind, maxCacheBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if damage != nil {
		s.metrics.cacheErrors.Inc()
		s.last.cache = damage
		s.log.Error("identity cache was damaged, its second copy serves", "path", s.opts.CacheFile, "err", damage)
	}
	var st *state
	if err == nil {
		if st, err = parseCache(data, s.opts.ID, s.now()); err != nil {
			err = fmt.Errorf("%s: %w", s.opts.CacheFile, err)
		}
	}
	if err != nil {
		s.metrics.cacheErrors.Inc()
		s.last.cache = err
		s.log.Warn("identity cache refused", "path", s.opts.CacheFile, "err", err)
	}
	if st == nil {
		return
	}
	if st.svid != nil {
		s.log.Info("identity read from cache", "path", s.opts.CacheFile, "spiffe_id", st.svid.ID.String(), "duration", st.notAfter().Sub(s.now()))
	}
	s.publish(st)
}

// saveCache keeps a state. The caller holds mu. Failing costs the next restart,
// not this process, so it is reported and no more.
func (s *Source) saveCache(st *state) {
	if s.opts.CacheFile == "" || st.svid == nil {
		return
	}
	data, err := st.marshalCache()
	if err == nil {
		err = keep.Save(cachePoint, s.opts.CacheFile, cacheKind, data)
	}
	if err != nil {
		s.metrics.cacheErrors.Inc()
		s.log.Error("identity cache not written", "path", s.opts.CacheFile, "err", err)
		return
	}
	s.last.cache = nil
}
