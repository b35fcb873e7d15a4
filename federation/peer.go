package federation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// peer is one configured peer while it is configured.
type peer struct {
	name     catalog.ClusterName
	spec     atomic.Pointer[Peer] // the entry, which changes in place where it can
	id       spiffeid.ID
	foreign  bool // of another trust domain than ours
	dialer   *tunnelDialer
	importer *exchange.Importer
	kept     *store.LastGood
	stop     context.CancelFunc
	done     chan struct{}

	bundleRead sync.Mutex // held while the configured bundle is read and taken
	read       []byte     // the configured bundle document as it was read last

	mu     sync.Mutex
	bundle json.RawMessage // what gateways are told of the trust domain
}

// newPeer builds the peer's importer and loads its last good state; it connects
// to nothing.
func (p *plane) newPeer(c Peer) (*peer, error) {
	id, err := spiffeid.FromString(c.ID)
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", c.Name, err)
	}
	if err := p.admitPeer(c); err != nil {
		return nil, fmt.Errorf("peer %s: %w", c.Name, err)
	}
	q := &peer{name: c.Name, id: id, foreign: id.TrustDomain() != p.id.TrustDomain(), done: make(chan struct{})}
	q.spec.Store(&c)
	q.dialer = &tunnelDialer{
		identity: p.opts.Identity, cluster: p.id, peer: c.Name, peerID: id,
		candidates: func() []*route.Report { return p.gateways.toward(c.Name, p.now()) },
	}
	if q.kept, err = store.NewLastGood(p.path("peers"), string(c.Name)); err != nil {
		return nil, err
	}
	opts := exchange.ImporterOptions{
		Cluster: c.Name, ID: id, URL: "https://" + catalog.FederationService(c.Name).String(),
		Client: q.dialer.client(), Store: q.kept,
		Changed:       func() { p.touch(catalogChanged) },
		AllowLoopback: bootstrapsOnLoopback(c.Gateways),
		Log:           p.log, Metrics: p.importers, Now: p.opts.Now,
	}
	if q.foreign {
		opts.Bundle = func(document json.RawMessage) error { return p.takeBundle(q, document, "exchange") }
	}
	if q.importer, err = exchange.NewImporter(opts); err != nil {
		return nil, err
	}
	if q.foreign {
		p.loadBundle(q)
	}
	if err := q.importer.Load(); err != nil {
		p.log.Warn("last good state of a peer is not usable", "peer", c.Name, "err", err)
	}
	return q, nil
}

// bootstrapsOnLoopback reports whether the operator has put this peer on this
// host: only then are loopback addresses in its roster believed.
func bootstrapsOnLoopback(addresses []string) bool {
	for _, a := range addresses {
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			continue
		}
		if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.Unmap().IsLoopback() {
			return true
		}
	}
	return false
}

// run follows the peer until its context ends.
func (q *peer) run(ctx context.Context) {
	defer close(q.done)
	_ = q.importer.Run(ctx) // returns nil
}

// loadBundle takes the configured bundle document, if there is one that has
// changed since it was read last.
func (p *plane) loadBundle(q *peer) {
	q.bundleRead.Lock()
	defer q.bundleRead.Unlock()
	document, from, err := configuredBundle(q.spec.Load().Bundle)
	if err == nil {
		if document == nil || q.read != nil && bytes.Equal(q.read, document) {
			return
		}
		q.read = document
		err = p.takeBundle(q, document, from)
	}
	if err == nil {
		return
	}
	p.log.Warn("configured bundle not taken", "peer", q.name, "path", q.spec.Load().Bundle.File, "err", err)
	if _, perr := identity.ParseBundle(q.id.TrustDomain(), document); perr != nil {
		return
	}
	// Older than what the identity has kept: gateways judge for themselves.
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bundle == nil {
		q.bundle = document
	}
}

// configuredBundle is the document that an entry names; nil where it names none.
func configuredBundle(b policy.PeerBundle) (document []byte, from string, err error) {
	switch {
	case b.File != "":
		document, err = readBounded(b.File, identity.MaxBundleBytes)
		return document, "file", err
	case b.Document != "":
		return []byte(b.Document), "peering", nil
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
	if err := p.opts.Identity.SetPeerBundle(td, document); err != nil {
		p.events.note(eventPeerBundle, string(q.name), "refused, from "+from+": "+err.Error())
		return err
	}
	q.mu.Lock()
	changed := string(q.bundle) != string(document)
	q.bundle = document
	q.mu.Unlock()
	if changed {
		p.events.note(eventPeerBundle, string(q.name), "taken, from "+from)
		p.touch(catalogChanged)
	}
	return nil
}

// entry is the peer in the route table.
func (q *peer) entry() route.Peer {
	status, spec := q.importer.Status(), q.spec.Load()
	e := route.Peer{
		Name: q.name, Locality: spec.Locality(), ID: spec.ID,
		Gateways: q.importer.Snapshot().Gateways(), Asserts: spec.Asserts,
		ControlLost: status.ControlLost, HeardAt: status.HeardAt,
	}
	if len(e.Gateways) == 0 {
		for _, a := range spec.Gateways {
			e.Gateways = append(e.Gateways, catalog.Gateway{Addresses: []string{a}})
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	e.Bundle = q.bundle
	return e
}

// explain asks the peer's federation.
func (q *peer) explain(ctx context.Context, query map[string][]string) (json.RawMessage, error) {
	answer, err := q.importer.Explain(ctx, query)
	if err != nil {
		return nil, err
	}
	if len(answer) == 0 {
		return nil, errors.New("empty answer")
	}
	return answer, nil
}
