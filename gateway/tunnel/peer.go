package tunnel

import "github.com/spiffe/go-spiffe/v2/spiffeid"

// Peer is another cluster: who may speak for it, and where its gateways are.
type Peer struct {
	// Cluster is the peer's name, unique among peers.
	Cluster string
	// ID is the SPIFFE ID of the cluster (of its federation service). Its
	// gateways are ID/gateway/NAME; nobody else is.
	ID spiffeid.ID
	// Gateways is the roster; or, until it is known, one entry per bootstrap
	// address. While an entry without a name is present, or none at all, any
	// ID/gateway/LABEL is admitted; otherwise exactly the listed IDs are.
	Gateways []PeerGateway
}

// PeerGateway is one gateway of a peer.
type PeerGateway struct {
	// Name is the gateway's name, a DNS label; empty for a bootstrap address,
	// behind which any gateway of the peer may answer.
	Name string
	// ID is the gateway's SPIFFE ID; empty means <Peer.ID>/gateway/<Name>.
	ID string
	// Addresses are host:port pairs of UDP, tried in turn; none means that the
	// gateway cannot be dialed and dials us.
	Addresses []string
	// Draining gateways get no new links and no new streams.
	Draining bool
}

// Remote is the authenticated gateway at the other end of a link. Cluster and
// Gateway follow from ID and the roster, never from what the other end says.
type Remote struct {
	Cluster string
	Gateway string
	ID      spiffeid.ID
}
