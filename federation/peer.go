package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/internal/durable"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// saveGapPerPeer spreads the last good states that are written: with 200 peers
// that all change, one is written in three seconds and each once in ten minutes,
// for a state is written whole. What a crash loses is asked of the peer again.
const (
	saveGapPerPeer = 3 * time.Second
	saveGapAtMost  = 10 * time.Minute
)

// peersPoint is the write point of the last good states of peers.
const peersPoint durable.Point = "peers"

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

	trust   peerTrust
	offered []*catalog.Summary // of the loop: what the journal was told
	listed  *listed            // of who holds plane.listing
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
	if q.kept, err = store.NewLastGood(peersPoint, p.path("peers"), string(c.Name)); err != nil {
		return nil, err
	}
	opts := exchange.ImporterOptions{
		Cluster: c.Name, ID: id, URL: "https://" + catalog.FederationService(c.Name).String(),
		Client: q.dialer.client(), Streams: q.dialer.streams(), Store: q.kept,
		Changed:       func() { p.touch(catalogChanged) },
		SaveGap:       func() time.Duration { return min(time.Duration(p.peers.count())*saveGapPerPeer, saveGapAtMost) },
		AllowLoopback: bootstrapsOnLoopback(c.Gateways),
		Limits:        limitsOf(c.Quota),
		Log:           p.log, Metrics: p.importers, Now: p.opts.Now,
	}
	if q.foreign {
		opts.Bundle = func(document json.RawMessage) error { return p.takeBundle(q, document, fromExchange) }
	}
	if q.importer, err = exchange.NewImporter(opts); err != nil {
		return nil, err
	}
	if q.foreign {
		p.loadBundle(q)
	}
	if err := p.newFollower(q); err != nil {
		return nil, err
	}
	if err := q.importer.Load(); err != nil {
		p.log.Warn("last good state of a peer is not usable", "peer", c.Name, "err", err)
	}
	return q, nil
}

// limitsOf are the limits of one origin under its quota.
func limitsOf(q policy.PeerQuota) exchange.Limits {
	l := exchange.DefaultLimits()
	for _, f := range []struct {
		into  *int
		value int
	}{{&l.Services, q.Services}, {&l.Rows, q.Rows}, {&l.Endpoints, q.Endpoints}, {&l.Bytes, q.Bytes}} {
		if f.value != 0 {
			*f.into = f.value
		}
	}
	if q.UpdatesPerSecond != 0 {
		l.UpdatesPerSecond, l.UpdateBurst = float64(q.UpdatesPerSecond), 2*float64(q.UpdatesPerSecond)
	}
	return l
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
	var wg sync.WaitGroup
	if q.trust.follower != nil {
		wg.Go(func() { _ = q.trust.follower.Run(ctx) }) // returns nil
	}
	_ = q.importer.Run(ctx) // returns nil
	wg.Wait()
}

// entry is the peer in the route table.
func (q *peer) entry() route.Peer {
	status, spec := q.importer.Status(), q.spec.Load()
	e := route.Peer{
		Name: q.name, Locality: spec.Locality(), ID: spec.ID, Labels: labelsOf(spec, q.importer.Snapshot()),
		Gateways: q.importer.Snapshot().Gateways(), Asserts: spec.Asserts, MaxPriority: spec.MaxPriority,
		ControlLost: status.ControlLost, HeardAt: status.HeardAt,
	}
	if len(e.Gateways) == 0 {
		for _, a := range spec.Gateways {
			e.Gateways = append(e.Gateways, catalog.Gateway{Addresses: []string{a}})
		}
	}
	q.trust.mu.Lock()
	defer q.trust.mu.Unlock()
	e.Bundle = q.trust.document
	return e
}

// labelsOf are a peer's labels: its own word, and over it that of this cluster's
// operator, who so keeps a peer from calling itself what policies prefer.
func labelsOf(spec *Peer, said *exchange.Snapshot) map[string]string {
	theirs := said.Labels()
	if len(spec.Labels) == 0 {
		return theirs
	}
	labels := maps.Clone(spec.Labels)
	for _, k := range slices.Sorted(maps.Keys(theirs)) {
		if _, ours := labels[k]; !ours && len(labels) < policy.MaxClusterLabels {
			labels[k] = theirs[k]
		}
	}
	return labels
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
