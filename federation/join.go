package federation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/peering"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// newPeering builds what makes peers of invited clusters.
func (p *plane) newPeering(ctx context.Context) (err error) {
	p.peering, err = peering.New(ctx, peering.Options{
		Store: p.store, Identity: p.opts.Identity, Peers: shelvedPeers{p},
		Cluster: p.opts.Cluster, ID: p.id, Locality: p.opts.Locality,
		Gateways: p.dialableGateways, Dial: p.dialJoin,
		Note: func(peer catalog.ClusterName, what string) { p.events.note(eventPeerJoined, string(peer), what) },
		// Gateways open and close their door by the table.
		Changed: func() { p.touch(catalogChanged) },
		Log:     p.log, Registerer: p.registry, Now: p.opts.Now,
	})
	return err
}

// shelvedPeers are the book's peers as peering wants them.
type shelvedPeers struct{ p *plane }

// All returns the peers of the file and of the store.
func (s shelvedPeers) All() []policy.Peer { return s.p.book.Peers() }

// Check is Create without a write.
func (s shelvedPeers) Check(ctx context.Context, peer policy.Peer) error {
	_, err := s.p.book.PeerRules().Create(ctx, resource.PeerRule{Peer: peer}, true)
	return err
}

// Add creates the peer; it is followed before this returns.
func (s shelvedPeers) Add(ctx context.Context, peer policy.Peer) error {
	_, err := s.p.book.PeerRules().Create(ctx, resource.PeerRule{Peer: peer}, false)
	return err
}

// dialableGateways are the addresses by which peers reach the own gateways, one
// of each gateway before the second of any.
func (p *plane) dialableGateways() []string {
	var out []string
	roster := p.gateways.rosterNow(p.now())
	for i := 0; ; i++ {
		more := false
		for _, g := range roster {
			if i < len(g.Addresses) && !g.Draining {
				more = true
				if !slices.Contains(out, g.Addresses[i]) {
					out = append(out, g.Addresses[i])
				}
			}
		}
		if !more {
			return out
		}
	}
}

// joinTimeout bounds the way to the inviter through one own gateway: it tries the
// inviter's addresses in turn.
const joinTimeout = 8 * time.Second

const (
	// joinPatience is how long a way is looked for again: the inviter's gateways open
	// their door by their next table, a moment after the token was printed.
	joinPatience = 4 * time.Second
	joinPause    = 500 * time.Millisecond
)

// dialJoin reaches the federation that made a token: through an own gateway, which
// dials one of the inviter's and goes on only with one that the token names.
func (p *plane) dialJoin(ctx context.Context, t *peering.Token) (net.Conn, error) {
	enough := time.NewTimer(joinPatience)
	defer enough.Stop()
	for {
		conn, err := p.joinThroughAny(ctx, t)
		if err == nil || errors.Is(err, errNoGateway) {
			return conn, err
		}
		select { // one that took long has used the patience up
		case <-enough.C:
			return nil, err
		default:
		}
		again := time.NewTimer(joinPause)
		select {
		case <-again.C:
		case <-enough.C:
			again.Stop()
			return nil, err
		case <-ctx.Done():
			again.Stop()
			return nil, err
		}
	}
}

func (p *plane) joinThroughAny(ctx context.Context, t *peering.Token) (net.Conn, error) {
	anchors := make([]string, len(t.Anchors))
	for i, a := range t.Anchors {
		anchors[i] = a.String()
	}
	way := &control{
		identity: p.opts.Identity, cluster: p.id, timeout: joinTimeout,
		target: "join." + string(t.Cluster) + ":443",
		header: fmt.Sprintf("Isthmus-Join-Id: %s\r\nIsthmus-Join-Anchors: %s\r\nIsthmus-Join-Gateways: %s\r\n",
			t.Federation, strings.Join(anchors, ","), strings.Join(t.Gateways, ",")),
	}
	conn, _, err := throughAny(ctx, p.gateways.toward(t.Cluster, p.now()), way.through)
	return conn, err
}
