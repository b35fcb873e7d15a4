package resource

import "time"

// Trust is whom this cluster trusts, and who stands on which root.
type Trust struct {
	TrustDomain string `json:"trust_domain"`
	// SVID is the federation's own.
	SVID SVID `json:"svid"`
	// Authorities are the roots in force, by trust domain.
	Authorities []Authority `json:"authorities" nullable:"false"`
	// Unplaced hang below none of them: a root that has left, or an intermediate's
	// name. They are refused at their next handshake unless they bring another
	// chain.
	Unplaced []TrustUser `json:"unplaced,omitempty" doc:"Who hangs below none of the authorities, as far as their certificates say."`
}

// SVID is the certificate of one process.
type SVID struct {
	ID       string    `json:"id"`
	NotAfter time.Time `json:"not_after,omitzero"`
}

// Authority is one root of one trust domain.
type Authority struct {
	TrustDomain string    `json:"trust_domain"`
	KeyID       string    `json:"key_id" doc:"Subject key ID in hexadecimal."`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	From        string    `json:"from" doc:"Who told it: workload_api, peer or static."`
	// Users are who would be refused if this root left now.
	Users []TrustUser `json:"users" nullable:"false" doc:"Who hangs below it now, and would be refused without it."`
}

// TrustUser is somebody whose certificate hangs below a root.
type TrustUser struct {
	// Kind is "federation" for the own one, "gateway" for an own gateway, "link" for a
	// peer's gateway as an own gateway sees it, "peer" for a peer's federation.
	Kind string `json:"kind" enum:"federation,gateway,link,peer"`
	// Name is the process: CLUSTER, GATEWAY, or CLUSTER/GATEWAY of a peer.
	Name string `json:"name"`
	// Via is the own gateway that sees a link.
	Via       string    `json:"via,omitempty"`
	Authority string    `json:"authority,omitempty"`
	NotAfter  time.Time `json:"not_after,omitzero"`
}
