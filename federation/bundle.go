package federation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/isthmus-mesh/isthmus/identity/bundleendpoint"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Where a peer's bundle was taken from.
const (
	fromFile     = "file"
	fromPeering  = "peering"
	fromExchange = "exchange"
	fromEndpoint = "endpoint"
)

// peerTrust is what is held of the bundle of a peer's trust domain.
type peerTrust struct {
	reading sync.Mutex // held while the configured bundle is read and taken
	read    []byte     // the configured document as it was read last

	follower *bundleendpoint.Follower // nil where no endpoint is configured

	mu       sync.Mutex
	document json.RawMessage // what gateways are told of the trust domain
	from     string
	takenAt  time.Time
	refused  string // why the last document was not taken; "" if it was
}

// newFollower builds the follower of the peer's bundle endpoint, if it has one.
// What it has on disk is taken before anything runs.
func (p *plane) newFollower(q *peer) (err error) {
	e := q.spec.Load().Bundle.Endpoint
	if !e.Set() || !q.foreign {
		return nil
	}
	dir := p.path("bundles")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("peer %s: %w", q.name, err)
	}
	q.trust.follower, err = bundleendpoint.NewFollower(bundleendpoint.FollowerOptions{
		TrustDomain: q.id.TrustDomain(), Endpoint: endpointOf(e), Identity: p.opts.Identity,
		File: filepath.Join(dir, string(q.name)),
		Take: func(document []byte) error { return p.takeBundle(q, document, fromEndpoint) },
		Changed: func(s bundleendpoint.Status) {
			reason := string(s.State)
			if s.Err != nil {
				reason += reasonAfter(s.Err.Error())
			}
			p.events.note(eventBundleEndpoint, string(q.name), reason)
			p.touch(evidenceChanged)
		},
		Log: p.log, Metrics: p.bundles, Now: p.opts.Now,
	})
	if err != nil {
		return fmt.Errorf("peer %s: %w", q.name, err)
	}
	return nil
}

// loadBundle takes the configured bundle document, if there is one that has
// changed since it was read last.
func (p *plane) loadBundle(q *peer) {
	q.trust.reading.Lock()
	defer q.trust.reading.Unlock()
	spec := q.spec.Load().Bundle
	document, from, err := configuredBundle(spec)
	if err == nil {
		if document == nil || q.trust.read != nil && bytes.Equal(q.trust.read, document) {
			return
		}
		q.trust.read = document
		err = p.takeBundle(q, document, from)
	}
	if err == nil {
		return
	}
	if !first(from, err) {
		p.log.Warn("configured bundle not taken", "peer", q.name, "path", spec.File, "err", err)
	}
	if _, perr := identity.ParseBundle(q.id.TrustDomain(), document); perr != nil {
		return
	}
	// Older than what the identity has kept: gateways judge for themselves.
	q.trust.mu.Lock()
	defer q.trust.mu.Unlock()
	if q.trust.document == nil {
		q.trust.document, q.trust.from = document, from
	}
}

// first tells a configured bundle that was the first one long ago from one that
// is wrong: what came since is what counts.
func first(from string, err error) bool {
	return (from == fromFile || from == fromPeering) && errors.Is(err, identity.ErrSequenceRollback)
}

// configuredBundle is the document that an entry names; nil where it names none.
func configuredBundle(b policy.PeerBundle) (document []byte, from string, err error) {
	switch {
	case b.File != "":
		document, err = readBounded(b.File, identity.MaxBundleBytes)
		return document, fromFile, err
	case b.Document != "":
		return []byte(b.Document), fromPeering, nil
	default:
		return nil, "", nil
	}
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("has more than %d bytes", limit)
	}
	return data, err
}

// takeBundle makes a document the peer's trust domain's, for this process and
// for the gateways, if it may be.
func (p *plane) takeBundle(q *peer, document json.RawMessage, from string) error {
	td := q.id.TrustDomain()
	if from == fromExchange && p.peers.followed(td) {
		return nil // the endpoint counts by another row of numbers, and is the one asked for
	}
	err := p.opts.Identity.SetPeerBundle(td, document)
	q.trust.mu.Lock()
	changed, refusedBefore := string(q.trust.document) != string(document), q.trust.refused
	q.trust.refused = ""
	if err != nil {
		if !first(from, err) {
			q.trust.refused = "from " + from + ": " + err.Error()
		}
	} else {
		q.trust.document, q.trust.from, q.trust.takenAt = document, from, p.now()
	}
	refused := q.trust.refused
	q.trust.mu.Unlock()
	switch {
	case err != nil && refused == refusedBefore: // told already
	case err != nil && first(from, err):
	case err != nil:
		p.events.note(eventPeerBundle, string(q.name), "refused, "+refused)
	case changed:
		p.events.note(eventPeerBundle, string(q.name), "taken, from "+from)
		p.touch(catalogChanged)
	}
	return err
}

// retainBundles forgets the bundles of trust domains that no peer is of: of those
// that are removed now, and of those that left the configuration while no process
// ran, whose bundles the identity's cache still has.
func (p *plane) retainBundles(specs []Peer) {
	wanted := make(map[spiffeid.TrustDomain]bool)
	for _, c := range specs {
		if id, err := spiffeid.FromString(c.ID); err == nil {
			wanted[id.TrustDomain()] = true
		}
	}
	p.opts.Identity.RetainPeerBundles(func(td spiffeid.TrustDomain) bool { return wanted[td] })
}

// followed reports whether a peer of the domain has a bundle endpoint.
func (s *peers) followed(td spiffeid.TrustDomain) bool {
	for _, q := range s.all() {
		if q.spec.Load().Bundle.Endpoint.Set() && q.id.TrustDomain() == td {
			return true
		}
	}
	return false
}

// trustItem is what is held of the peer's trust domain, in the list of peers; nil in the own domain.
func (p *plane) trustItem(q *peer) *resource.PeerTrust {
	if !q.foreign {
		return nil
	}
	q.trust.mu.Lock()
	item := &resource.PeerTrust{From: q.trust.from, TakenAt: q.trust.takenAt.UTC(), Error: q.trust.refused}
	if q.trust.takenAt.IsZero() {
		item.TakenAt = time.Time{}
	}
	q.trust.mu.Unlock()
	for _, b := range p.opts.Identity.Bundles() {
		if b.TrustDomain != q.id.TrustDomain() {
			continue
		}
		item.Held, item.Sequence, item.Authorities, item.UpdatedAt = true, b.Sequence, b.Authorities, b.Updated.UTC()
		if b.Origin != identity.OriginPeer {
			item.From = string(b.Origin) // what the peer says is hidden by it
		}
	}
	if f := q.trust.follower; f != nil {
		s := f.Status()
		e := q.spec.Load().Bundle.Endpoint
		item.Endpoint = &resource.EndpointStatus{
			URL: e.URL, Profile: e.Profile, State: string(s.State),
			FetchedAt: utc(s.FetchedAt), CheckedAt: utc(s.CheckedAt), NextAt: utc(s.Next), Failures: s.Failures,
		}
		if s.Err != nil {
			item.Endpoint.Error = s.Err.Error()
		}
	}
	return item
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// untrusted names the peers whose trust domain has no bundle: no link to them can
// come up.
func (p *plane) untrusted() []string {
	var out []string
	for _, q := range p.peers.all() {
		item := p.trustItem(q)
		if item == nil || item.Held {
			continue
		}
		reason := "no bundle of trust domain " + q.id.TrustDomain().Name()
		if item.Endpoint != nil {
			reason += fmt.Sprintf(", endpoint %s is %s%s", item.Endpoint.URL, item.Endpoint.State, reasonAfter(item.Endpoint.Error))
		}
		out = append(out, fmt.Sprintf("peer %s: %s", q.name, reason))
	}
	return out
}
