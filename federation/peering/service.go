package peering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/store"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/time/rate"
)

// Peers are the peers of the own cluster.
type Peers interface {
	// All are the present ones.
	All() []policy.Peer
	// Check says why a peer cannot be added, as Add would.
	Check(ctx context.Context, p policy.Peer) error
	// Add keeps a peer for good and follows it.
	Add(ctx context.Context, p policy.Peer) error
}

// Options configure a Service. Everything but Log, Registerer, Note and Now is
// required.
type Options struct {
	Store    store.Store
	Identity *identity.Source
	Peers    Peers
	// Cluster, ID and Locality are the own cluster's.
	Cluster  catalog.ClusterName
	ID       spiffeid.ID
	Locality catalog.Locality
	// Gateways are the addresses (host:port) of the own gateways that can be
	// dialed from outside, now.
	Gateways func() []string
	// Dial reaches the join listener of a federation through an own gateway and one
	// of the inviter's: bytes, nothing of which is authenticated yet.
	Dial func(ctx context.Context, t *Token) (net.Conn, error)
	// Note is told what happened to which peer, for the journal; nil: nobody.
	Note func(peer catalog.ClusterName, what string)
	// Changed is called when Open may say something new; nil: nobody.
	Changed func()
	// Log receives the service's log; nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
	// Now is the clock of expiry; nil is time.Now.
	Now func() time.Time
}

// Service is the peering of one cluster: its invitations, and its answers to
// those of others. It is safe for concurrent use.
type Service struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	book    book
	slots   chan struct{}
	pace    *rate.Limiter
	open    atomic.Bool
}

const (
	// maxServed bounds the strangers that are listened to at once, pace how many
	// come in: an operator joins one cluster at a time.
	maxServed       = 4
	pacePerSecond   = 5
	paceBurst       = 10
	exchangeTimeout = 10 * time.Second
)

// New checks the options and reads the invitations.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.Store == nil || o.Identity == nil || o.Peers == nil || o.Cluster == "" || o.ID.IsZero() || o.Gateways == nil || o.Dial == nil {
		return nil, errors.New("peering: an option is missing")
	}
	s := &Service{
		o: o, log: o.Log, book: book{store: o.Store}, slots: make(chan struct{}, maxServed),
		pace: rate.NewLimiter(pacePerSecond, paceBurst),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.o.Now == nil {
		s.o.Now = time.Now
	}
	if s.o.Note == nil {
		s.o.Note = func(catalog.ClusterName, string) {}
	}
	if s.o.Changed == nil {
		s.o.Changed = func() {}
	}
	var err error
	if s.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("peering: %w", err)
	}
	if err := s.Sweep(ctx); err != nil {
		return nil, fmt.Errorf("peering: %w", err)
	}
	return s, nil
}

// Open reports whether anybody who comes with a token can be served: while it is
// false, nothing of joining listens anywhere.
func (s *Service) Open() bool { return s.open.Load() }

// Sweep forgets invitations that are long over and completes those whose peer is
// written; it is to be called every second or so, and by nobody else at a time.
func (s *Service) Sweep(ctx context.Context) error {
	all, err := s.book.list(ctx)
	if err != nil {
		return err
	}
	now := s.o.Now()
	serving, open := false, 0
	for _, inv := range all {
		id, err := ParseTokenID(inv.ID)
		if err != nil {
			continue
		}
		if inv.State == StateTaken && s.joined(inv.Cluster, inv.Federation) {
			// The process ended between the two writes.
			err = s.book.complete(ctx, id)
		}
		if now.Sub(inv.ExpiresAt) > keepFor {
			err = s.o.Store.Delete(ctx, storeKey(id), store.Any)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrNotWritable) {
			return err
		}
		serving = serving || inv.serves(now)
		if inv.at(now).State == StateOpen {
			open++
		}
	}
	s.metrics.invitations.Set(float64(open))
	if s.open.Swap(serving) != serving {
		s.o.Changed()
	}
	return nil
}

// joined reports whether that cluster, under that ID, is a peer.
func (s *Service) joined(cluster catalog.ClusterName, federation string) bool {
	p, ok := s.peer(cluster)
	return ok && p.ID == federation
}

func (s *Service) peer(cluster catalog.ClusterName) (policy.Peer, bool) {
	all := s.o.Peers.All()
	i := slices.IndexFunc(all, func(p policy.Peer) bool { return p.Name == cluster })
	if i < 0 {
		return policy.Peer{}, false
	}
	return all[i], true
}

// describe is what the other cluster is told of this one.
func (s *Service) describe() (*Description, error) {
	bundle, err := s.o.Identity.TrustBundle()
	if err != nil {
		return nil, refuseFor(ReasonInternal, err, "this federation has no svid yet")
	}
	if len(bundle) > policy.MaxInlineBundle {
		return nil, refuse(ReasonInternal, "the own bundle has %d bytes, at most %d can be passed on", len(bundle), policy.MaxInlineBundle)
	}
	return &Description{
		Cluster: s.o.Cluster, ID: s.o.ID.String(), Cloud: s.o.Locality.Cloud, Region: s.o.Locality.Region,
		Gateways: s.gateways(), Bundle: json.RawMessage(bundle),
	}, nil
}

func (s *Service) gateways() []string {
	all := slices.Clone(s.o.Gateways())
	return all[:min(len(all), policy.MaxBootstraps)]
}

// peerOf is the entry of a cluster that has described itself. held says that its
// trust domain's bundle is known here from elsewhere, and stays as it is.
func (s *Service) peerOf(d *Description, id spiffeid.ID, held bool, asserts []policy.IDPattern, loopback bool) (policy.Peer, *Refusal) {
	p := policy.Peer{
		Name: d.Cluster, ID: d.ID, Gateways: d.Gateways, Cloud: d.Cloud, Region: d.Region, Asserts: asserts,
	}
	if asserts == nil {
		p.Asserts = s.defaultAsserts(id.TrustDomain(), d.Cluster)
	}
	if !held {
		p.Bundle.Document = string(d.Bundle)
	}
	for _, g := range d.Gateways {
		if rule := exchange.Undialable(g, loopback); rule != "" {
			return p, refuse(ReasonInvalid, "gateway address %.200q of %s %s; set gateway.advertise there", g, d.Cluster, rule)
		}
	}
	if err := p.Validate(); err != nil {
		return p, refuseFor(ReasonInvalid, err, "%s cannot be a peer", d.Cluster)
	}
	return p, nil
}

// defaultAsserts lets a peer speak for its whole trust domain where that is
// nobody else's.
func (s *Service) defaultAsserts(td spiffeid.TrustDomain, cluster catalog.ClusterName) []policy.IDPattern {
	if td == s.o.ID.TrustDomain() {
		return nil
	}
	all := policy.IDPattern(td.IDString() + "/*")
	for _, p := range s.o.Peers.All() {
		if p.Name == cluster {
			continue
		}
		if strings.HasPrefix(p.ID, td.IDString()+"/") || slices.ContainsFunc(p.Asserts, all.Overlap) {
			return nil
		}
	}
	return []policy.IDPattern{all}
}

// onLoopback reports whether the operator runs several clusters on one host, by
// addresses that are the operator's own word.
func onLoopback(addresses []string) bool {
	return slices.ContainsFunc(addresses, func(a string) bool {
		return exchange.Undialable(a, false) != "" && exchange.Undialable(a, true) == ""
	})
}

// refused logs and counts a refusal.
func (s *Service) refused(r *Refusal, token TokenID, who, address string) {
	s.metrics.refused.WithLabelValues(string(r.Reason)).Inc()
	s.log.Warn("peering refused", "reason", string(r.Reason), "path", "invitations/"+token.String(), "spiffe_id", who, "address", address, "err", r)
}
