package tunnel

import (
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/isthmus-mesh/isthmus/identity"
)

// SetPeers replaces the set of peers: links to new gateways are dialed, links to
// gateways that are no longer admitted are closed at once (wire.Revoked), a
// changed address is made-before-broken, and a link to a bootstrap address goes
// on under the gateway's name once the roster names it. It may be called before
// Run and at any time.
//
// A peer that breaks a rule keeps what it had before, or is left out; the others
// take effect. The error joins all problems.
func (n *Node) SetPeers(peers []Peer) error {
	n.mu.Lock()
	last := n.roster.Load()
	r, err := newRoster(peers, n.o.Cluster, last)
	n.roster.Store(r)
	n.setTargets(r.wanted())
	n.mu.Unlock()

	n.sweep(false)
	n.reroute()
	for cluster := range last.peers {
		if !n.knows(cluster) {
			n.metrics.forgetCluster(cluster)
		}
	}
	return err
}

// setTargets makes the targets those that are wanted. mu is held.
func (n *Node) setTargets(all []wanted) {
	keep := make(map[string]bool, len(all))
	for _, w := range all {
		keep[w.key()] = true
	}
	var retired []*target
	for key, t := range n.targets {
		if !keep[key] {
			retired = append(retired, t)
			delete(n.targets, key)
		}
	}
	for _, w := range all {
		if t := n.targets[w.key()]; t != nil {
			if !slices.Equal(t.want.addresses, w.addresses) || t.want.draining != w.draining {
				t.want = w
				notify(t.changed)
			}
			continue
		}
		first, firstLane := n.inherit(w, retired, LaneQUIC), n.inherit(w, retired, LaneTLS)
		t := n.newTarget(w, first, firstLane)
		if first != nil {
			first.owner = t
			notify(t.changed) // the address may not be one of the gateway's own
		}
		if firstLane != nil {
			firstLane.owner = t
		}
		n.targets[w.key()] = t
		if n.ctx != nil {
			n.startTarget(t)
		}
	}
	for _, t := range retired {
		t.stop()
	}
}

// inherit finds a link to w on that lane that a retired target dialed. mu is held.
func (n *Node) inherit(w wanted, retired []*target, on Lane) *link {
	for l := range n.links {
		if l.lane == on && l.owner != nil && slices.Contains(retired, l.owner) && w.accepts(l.remote) && l.takes() {
			return l
		}
	}
	return nil
}

// sweep closes whatever is no longer admitted: by the roster, and with
// certificates also by the bundles of now. A link outlives its handshake, so
// removing a peer or an authority must reach it.
func (n *Node) sweep(certificates bool) {
	var known verdicts
	if certificates {
		known = make(verdicts)
	}
	// All at once: closing waits for each connection's own goroutine, and a revoked
	// peer must not be served for as long as a thousand others take.
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range n.allConnections() {
		err := n.stillAdmitted(c, known)
		if err == nil {
			continue
		}
		if certificates && n.mayProve(c) {
			time.AfterFunc(proofGrace, func() { n.judge(c) })
			continue
		}
		n.log.Warn("link revoked", "cluster", c.remote.Cluster, "gateway", c.remote.Gateway, "spiffe_id", c.remote.ID.String(), "reason", reasonOf(err), "err", err)
		wg.Go(func() { c.end(wire.Revoked, err) })
	}
}

// mayProve reports whether the other end of a connection whose authority has left
// has offered a newer certificate, which was refused: by an authority that the
// bundle had not, and may have now. It is asked for it once more, and not cut for
// the length of proofGrace; whoever has nothing newer is cut at once.
func (n *Node) mayProve(c *connection) bool {
	l := c.link.Load()
	return l != nil && n.admits(c.remote) == nil && l.proofs.refused()
}

// judge ends a connection that has not been proven anew in time.
func (n *Node) judge(c *connection) {
	if err := n.stillAdmitted(c, verdicts{}); err != nil {
		n.log.Warn("link revoked", "cluster", c.remote.Cluster, "gateway", c.remote.Gateway, "spiffe_id", c.remote.ID.String(), "reason", reasonOf(err), "err", err)
		c.end(wire.Revoked, err)
	}
}

// stillAdmitted asks the roster, and the bundles unless known is nil.
func (n *Node) stillAdmitted(c *connection, known verdicts) error {
	if err := n.admits(c.remote); err != nil {
		return &identity.PeerError{ID: c.remote.ID, Reason: identity.ReasonUnauthorized, Err: err}
	}
	if known == nil {
		return nil
	}
	return known.verify(n.o.Identity, c.chain())
}

// admits asks the roster whether remote is still who it was.
func (n *Node) admits(remote Remote) error {
	if now, ok := n.roster.Load().lookup(remote.ID); !ok || now != remote {
		return errNotPeer
	}
	return nil
}
