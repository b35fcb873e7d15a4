package resource

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// InviteRequest asks for an invitation.
type InviteRequest struct {
	// To is the invited cluster's name, or its card (see Card): with a card nobody
	// else can use the token.
	To string `json:"to,omitempty" maxLength:"8192" doc:"Name of the invited cluster, or its card, with which nobody else can use the token; absent: anybody who holds the token."`
	// TTL is a duration ("10m"), DefaultTTL if empty.
	TTL     string   `json:"ttl,omitempty" maxLength:"32" doc:"How long the token is good, 1s to 24h; absent: 10m."`
	Asserts []string `json:"asserts,omitempty" maxItems:"256" doc:"Caller IDs that the invited peer may speak for; absent: its own trust domain, where that is nobody else's."`
}

// Invitation is one invitation, without its token.
type Invitation struct {
	ID        string              `json:"id"`
	State     string              `json:"state" enum:"open,taken,completed,revoked,expired"`
	CreatedAt time.Time           `json:"created_at"`
	ExpiresAt time.Time           `json:"expires_at"`
	To        catalog.ClusterName `json:"to,omitempty"`
	ToID      string              `json:"to_id,omitempty"`
	Asserts   []policy.IDPattern  `json:"asserts,omitempty"`
	// Inviter is the principal who asked for it.
	Inviter string `json:"inviter,omitempty" doc:"Principal who asked for it; the peer that it makes stands in the history in this name."`
	// Cluster and Federation are who took it.
	Cluster    catalog.ClusterName `json:"cluster,omitempty" doc:"Who took it."`
	Federation string              `json:"federation,omitempty"`
}

// Invited is a new invitation, with the token that is shown this once.
type Invited struct {
	Invitation
	Token string `json:"token" doc:"What the invited operator pastes. It is kept nowhere: this is the only time that it is shown."`
	// Gateways are the addresses in the token; none means that accepting it prints a
	// return token.
	Gateways []string `json:"gateways" nullable:"false" doc:"Addresses in the token; none: accepting it gives a return token to paste here."`
}

// Invitations lists invitations, the youngest first.
type Invitations struct {
	Items []Invitation `json:"items" nullable:"false"`
}

// AcceptRequest accepts a token.
type AcceptRequest struct {
	Token   string   `json:"token" maxLength:"10000"`
	Asserts []string `json:"asserts,omitempty" maxItems:"256" doc:"Caller IDs that the inviter's gateways may speak for; absent: its own trust domain, where that is nobody else's."`
}

// Accepted is what came of a token.
type Accepted struct {
	// Joined: both clusters are peers of each other now.
	Joined bool `json:"joined"`
	// ReturnToken is to be accepted by the inviter, which cannot be dialed.
	ReturnToken string    `json:"return_token,omitempty"`
	ExpiresAt   time.Time `json:"expires_at" doc:"When the token stops being good, by the inviter's clock."`
	TrustDomain string    `json:"trust_domain" doc:"Whose certificates are trusted by this, for IDs of this domain alone."`
	// Anchors are the SHA-256 of the authorities that the token names.
	Anchors []string `json:"anchors" nullable:"false" doc:"SHA-256 of the authorities by which the inviter is recognised."`
	// Peer is the entry as it was, or would be, written.
	Peer policy.Peer `json:"peer" doc:"The entry as it was, or would be, written."`
}

// Card says who this cluster is; see InviteRequest.To.
type Card struct {
	Card    string              `json:"card" doc:"What the operator of a cluster that invites this one passes as to."`
	Cluster catalog.ClusterName `json:"cluster"`
	ID      string              `json:"id"`
}
