package rulebook

import (
	"errors"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// peerKind is the kind of peers; admit is the owner's word on each.
func peerKind(admit func(policy.Peer) error) kind[resource.PeerRule, policy.Peer] {
	return kind[resource.PeerRule, policy.Peer]{
		name:     Peers,
		most:     policy.MaxPeers,
		wrap:     func(p policy.Peer, s resource.Stored) resource.PeerRule { return resource.PeerRule{Peer: p, Stored: s} },
		rule:     func(r resource.PeerRule) policy.Peer { return r.Peer },
		ruleName: func(p policy.Peer) string { return string(p.Name) },
		setName:  func(p *policy.Peer, name string) { p.Name = catalog.ClusterName(name) },
		stored:   func(r resource.PeerRule) resource.Stored { return r.Stored },
		validate: func(p policy.Peer) error { return errors.Join(p.Validate(), admit(p)) },
		among:    policy.Peer.CheckAmong,
		foresee: func(o *Outlook, name string, rule *policy.Peer) {
			o.Peers = foreseen(o.Peers, name, func(p policy.Peer) string { return string(p.Name) }, rule)
		},
	}
}
