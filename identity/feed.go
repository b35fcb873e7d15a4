package identity

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Feed is a source of an identity besides the Workload API and files: the CA of
// another mesh, whose own API gives certificates (identity/consulca). What it offers
// is judged as an answer of a Workload API is, and the same contracts hold.
type Feed interface {
	// String names the feed in logs and errors.
	fmt.Stringer
	// Follow hands over every complete identity, the one that is there first, until
	// ctx ends. It lives through failures, each of which it tells. Both functions are
	// called by one goroutine at a time and do not block for long.
	Follow(ctx context.Context, offer func(Offered), failed func(error))
}

// Offered is one complete identity: an X.509-SVID, and the authorities of its trust
// domain, of no other.
type Offered struct {
	Certificates []*x509.Certificate // leaf first, then its intermediates
	Key          crypto.Signer
	Authorities  []*x509.Certificate
}

// offer is o as the Source judges it.
func (o Offered) offer(where string) (offer, error) {
	if len(o.Certificates) == 0 || o.Key == nil {
		return offer{}, fmt.Errorf("%w: no certificate, or no key", ErrUnusableSVID)
	}
	id, err := leafID(o.Certificates[0])
	if err != nil {
		return offer{}, fmt.Errorf("%w: %w", ErrUnusableSVID, err)
	}
	public, ok := o.Certificates[0].PublicKey.(interface {
		Equal(other crypto.PublicKey) bool
	})
	if !ok || !public.Equal(o.Key.Public()) {
		return offer{}, fmt.Errorf("%w: %w", ErrUnusableSVID, ErrKeyMismatch)
	}
	td := id.TrustDomain()
	return offer{
		origin: OriginFeed, where: where,
		svids:   []*x509svid.SVID{{ID: id, Certificates: o.Certificates, PrivateKey: o.Key}},
		bundles: map[spiffeid.TrustDomain]Bundle{td: {TrustDomain: td, Authorities: o.Authorities}},
	}, nil
}

// followFeed follows the feed for as long as ctx lives, beginning anew when rewatch
// asks for it.
func (s *Source) followFeed(ctx context.Context, rewatch <-chan struct{}) {
	for ctx.Err() == nil {
		once, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			select {
			case <-rewatch:
				cancel()
			case <-once.Done():
			}
		})
		s.opts.Feed.Follow(once, s.fed, func(err error) {
			if ctx.Err() == nil {
				s.feedFailed(err)
			}
		})
		asked := once.Err() != nil
		cancel()
		wg.Wait()
		if !asked { // it gave up, though it should not
			pause(ctx, backoffMax)
		}
	}
}

// fed takes what the feed hands over.
func (s *Source) fed(o Offered) {
	one, err := o.offer(s.opts.Feed.String())
	if err != nil {
		s.metrics.offered(OriginFeed, outcomeRefused)
		s.feedFailed(err)
		return
	}
	s.apply(one)
}

func (s *Source) feedFailed(err error) {
	s.mu.Lock()
	s.last.watch = err
	s.mu.Unlock()
	s.sourceFails()
	s.log.Warn("identity feed failed", "source", s.opts.Feed.String(), "err", err)
}
