package gateway

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// peersOf are a table's peers in the tunnel's terms. The table was checked, so
// every ID parses.
func peersOf(t *route.Table) []tunnel.Peer {
	peers := make([]tunnel.Peer, 0, len(t.Peers))
	for i := range t.Peers {
		p := &t.Peers[i]
		id, err := spiffeid.FromString(p.ID)
		if err != nil {
			continue
		}
		peer := tunnel.Peer{Cluster: string(p.Name), ID: id}
		for _, g := range p.Gateways {
			peer.Gateways = append(peer.Gateways, tunnel.PeerGateway{
				Name: g.Name, ID: g.ID, Addresses: g.Addresses, Draining: g.Draining,
			})
		}
		peers = append(peers, peer)
	}
	return peers
}

func bundles(t *route.Table) map[spiffeid.TrustDomain][]byte {
	own, err := spiffeid.FromString(t.Cluster.ID)
	if err != nil {
		return nil
	}
	found := make(map[spiffeid.TrustDomain][]byte)
	for i := range t.Peers {
		id, err := spiffeid.FromString(t.Peers[i].ID)
		// The own domain's bundle is for the Workload API alone to say.
		if err != nil || len(t.Peers[i].Bundle) == 0 || id.TrustDomain() == own.TrustDomain() {
			continue
		}
		found[id.TrustDomain()] = t.Peers[i].Bundle
	}
	return found
}

// trust takes the bundles of a table. One that is refused leaves the one that is
// held; identity has logged and counted it.
func (g *Gateway) trust(table *route.Table) {
	for domain, document := range bundles(table) {
		if err := g.o.Identity.SetPeerBundle(domain, document); err != nil && !errors.Is(err, identity.ErrSequenceRollback) {
			g.log.Error("bundle of a peer refused", "trust_domain", domain.Name(), "err", err)
		}
	}
}

// distrust forgets the domains of which a table has no peer, also those that
// left while this gateway was down and that its identity's cache still has. A
// peer without a bundle in the table keeps the one that is held.
func (g *Gateway) distrust(table *route.Table) {
	wanted := make(map[spiffeid.TrustDomain]bool)
	for i := range table.Peers {
		if id, err := spiffeid.FromString(table.Peers[i].ID); err == nil {
			wanted[id.TrustDomain()] = true
		}
	}
	g.o.Identity.RetainPeerBundles(func(td spiffeid.TrustDomain) bool { return wanted[td] })
}

// boardLinks are the links in the board's terms.
func (g *Gateway) boardLinks() []board.Link {
	infos := g.node.Links()
	links := make([]board.Link, 0, len(infos))
	for i := range infos {
		l := &infos[i]
		links = append(links, board.Link{
			Cluster: catalog.ClusterName(l.Cluster), Up: l.State == tunnel.StateUp, Draining: l.State == tunnel.StateDraining,
			RTT: l.RTT, Loss: l.Loss, BandwidthOut: l.BandwidthOut, BandwidthIn: l.BandwidthIn,
		})
	}
	return links
}

// reachable reports whether a link to the cluster takes new streams.
func (g *Gateway) reachable(cluster catalog.ClusterName) bool {
	for _, l := range g.node.Links() {
		if l.Cluster == string(cluster) && l.State == tunnel.StateUp {
			return true
		}
	}
	return false
}

// linkReports are the links in the federation's terms.
func (g *Gateway) linkReports() []route.LinkReport {
	infos := g.node.Links()
	links := make([]route.LinkReport, 0, len(infos))
	for i := range infos {
		l := &infos[i]
		links = append(links, route.LinkReport{
			Cluster: catalog.ClusterName(l.Cluster), Gateway: l.Gateway, Address: l.Address, Dialed: l.Dialed,
			State: string(l.State), Reason: l.Reason, Since: l.Since, Transport: string(l.Lane),
			Connections: l.Connections, Streams: l.Streams, RTT: l.RTT, MinRTT: l.MinRTT, Jitter: l.Jitter, Loss: l.Loss,
			BandwidthOut: l.BandwidthOut, BandwidthIn: l.BandwidthIn,
			BytesSent: l.BytesSent, BytesReceived: l.BytesReceived,
			Expires: l.Expires, PeerNotAfter: l.PeerNotAfter, PeerSerial: l.PeerSerial, PeerAuthority: l.PeerAuthority,
		})
	}
	return links
}
