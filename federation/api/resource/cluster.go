package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Cluster is the own cluster or a peer's.
type Cluster struct {
	Name     catalog.ClusterName `json:"name"`
	ID       string              `json:"id" doc:"SPIFFE ID of the cluster's federation."`
	Locality catalog.Locality    `json:"locality"`
	Labels   map[string]string   `json:"labels,omitempty" doc:"What traffic policies may rank the cluster by."`
	Own      bool                `json:"own"`
	// State is "ok" for the own cluster, else the peer's state.
	State    PeerState `json:"state"`
	Gateways int       `json:"gateways" doc:"Gateways that are known and not draining."`
	// Services counts the own services, or those imported from the peer.
	Services int `json:"services"`
}

// PeerState says how much of a peer is heard.
type PeerState string

// The states of a peer's control plane. Traffic does not depend on it.
const (
	PeerConnecting  PeerState = "connecting"   // never heard since the last good copy, if any
	PeerOK          PeerState = "ok"           // in sync
	PeerControlLost PeerState = "control_lost" // not heard for its lease; the last good catalog is kept
	PeerRefused     PeerState = "refused"      // its federation refuses us, or we it
)

// Peer is another cluster as this one's configuration names it and the peer's
// own federation describes it.
type Peer struct {
	Name        catalog.ClusterName `json:"name"`
	ID          string              `json:"id"`
	TrustDomain string              `json:"trust_domain"`
	Locality    catalog.Locality    `json:"locality"`
	Labels      map[string]string   `json:"labels,omitempty" doc:"What the peer says of itself, and over it what its entry here says."`
	State       PeerState           `json:"state" enum:"connecting,ok,control_lost,refused"`
	// Reason says why the state is not ok.
	Reason string `json:"reason,omitempty"`
	// ControlLost is set once the peer has not been heard for its lease: what it
	// said last is kept, and marked.
	ControlLost bool `json:"control_lost,omitempty"`
	// Via is the own gateway through which the exchange runs.
	Via       string             `json:"via,omitempty"`
	HeardAt   time.Time          `json:"heard_at,omitzero"`
	Epoch     uint64             `json:"epoch" doc:"Epoch and version of the peer's catalog that is held."`
	Version   uint64             `json:"version"`
	Bootstrap []string           `json:"bootstrap,omitempty" doc:"Configured gateway addresses."`
	Gateways  []catalog.Gateway  `json:"gateways,omitempty" doc:"The peer's roster."`
	Asserts   []policy.IDPattern `json:"asserts,omitempty" doc:"Caller IDs that the peer's gateways may speak for."`
	Offered   int                `json:"offered" doc:"Services that the peer offers."`
	Imported  int                `json:"imported" doc:"Services that are taken."`
	// Trust is what is held of the peer's trust domain; absent where that is our
	// own.
	Trust *PeerTrust `json:"trust,omitempty" doc:"What is held of the bundle of the peer's trust domain."`
	// Conflicts are what the peer's merge found against what we export to it.
	Conflicts []merge.Conflict `json:"conflicts,omitempty" doc:"What the peer found against what is exported to it."`
	// Spec is the peer as it was written, what PUT takes; Origin and ETag are its.
	Spec policy.Peer `json:"spec" doc:"The peer as it was written; what PUT takes."`
	Stored
}

// Gateway is one gateway of the own cluster, as its last report describes it.
type Gateway struct {
	Name      string           `json:"name"`
	ID        string           `json:"id"`
	Addresses []string         `json:"addresses,omitempty"`
	Draining  bool             `json:"draining,omitempty"`
	Locality  catalog.Locality `json:"locality"`
	// State is "alive", or "silent" once its reports have stopped.
	State      string    `json:"state" enum:"alive,silent"`
	ReportedAt time.Time `json:"reported_at"`
	StartedAt  time.Time `json:"started_at"`
	Build      string    `json:"build,omitempty"`
	Epoch      uint64    `json:"epoch" doc:"Epoch and version of the route table that the gateway uses."`
	Version    uint64    `json:"version"`
	Links      int       `json:"links"`
	LinksUp    int       `json:"links_up"`
	// Switches says what an operator has set at the gateway by hand.
	Switches string `json:"switches,omitempty" doc:"What an operator has set at the gateway by hand: frozen, pinned, failover off; by whom, since when and why."`
	// Ways are the listeners by which workloads call, as they are reached.
	Ways []route.Way `json:"ways,omitempty" doc:"Listeners by which workloads call, as they are reached: a tcp one stands for one service, the http one for all, by authority."`
}

// Link is one link as one own gateway sees it.
type Link struct {
	// Key is unique among the links.
	Key string `json:"key"`
	// From is the own gateway; the embedded Gateway is the peer's.
	From string `json:"from"`
	route.LinkReport
}
