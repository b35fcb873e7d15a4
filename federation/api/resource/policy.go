package resource

import "github.com/isthmus-mesh/isthmus/federation/policy"

// Origin says where a policy resource is kept.
type Origin string

// The origins. A resource of the config file is listed and cannot be changed
// over the API.
const (
	FromConfig Origin = "config"
	FromAPI    Origin = "api"
)

// Stored is what every policy resource carries besides its rule. Both fields are
// ignored in what is written, so that what was read can be sent back.
type Stored struct {
	Origin Origin `json:"origin,omitempty" readOnly:"true" enum:"config,api"`
	// ETag is the value to send as If-Match.
	ETag string `json:"etag,omitempty" readOnly:"true"`
}

// Export is one rule of what this cluster offers, and to whom.
type Export struct {
	policy.Export
	Stored
}

// Import is one rule of what this cluster takes, and from whom.
type Import struct {
	policy.Import
	Stored
}

// Intention is one rule of who may call what.
type Intention struct {
	policy.Intention
	Stored
}

// PeerRule is a peer as it is written: what is known of it is resource.Peer.
type PeerRule struct {
	policy.Peer
	Stored
}

// TrafficPolicy is how calls to services are balanced.
type TrafficPolicy struct {
	policy.Traffic
	Stored
}
