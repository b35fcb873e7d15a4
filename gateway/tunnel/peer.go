package tunnel

import (
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Peer is another cluster: who may speak for it, and where its gateways are.
type Peer struct {
	// Cluster is the peer's name, a DNS label, unique among peers.
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
	// ID is the gateway's SPIFFE ID; empty means <Peer.ID>/gateway/<Name>, and
	// nothing else is accepted: a peer speaks for its own gateways only.
	ID string
	// Addresses are host:port pairs of UDP, tried in turn, at most 8; none means
	// that the gateway cannot be dialed and dials us.
	Addresses []string
	// Draining gateways get new streams only where no other gateway of the cluster
	// has a link and theirs does not say that it drains: the roster may be older
	// than a restart.
	Draining bool
}

// Remote is the authenticated gateway at the other end of a link. Cluster and
// Gateway follow from ID and the roster, never from what the other end says.
type Remote struct {
	Cluster string
	Gateway string
	ID      spiffeid.ID
}

// gatewaySegment lies between a cluster's ID and a gateway's name.
const gatewaySegment = "/gateway/"

// validate returns everything that is wrong with p.
func (p *Peer) validate() error {
	var errs []error
	if !label(p.Cluster) {
		errs = append(errs, fmt.Errorf("cluster: %q: must be a dns label", p.Cluster))
	}
	if p.ID.IsZero() || p.ID.Path() == "" {
		errs = append(errs, fmt.Errorf("id: %q: must be a spiffe id with a path", p.ID))
	}
	if len(p.Gateways) > maxGateways {
		errs = append(errs, fmt.Errorf("gateways: %d: at most %d", len(p.Gateways), maxGateways))
	}
	seen := make(map[string]bool, len(p.Gateways))
	for i, g := range p.Gateways {
		at := func(field string, value any, rule string) {
			errs = append(errs, fmt.Errorf("gateways[%d].%s: %q: %s", i, field, value, rule))
		}
		switch {
		case g.Name == "" && g.ID != "":
			at("id", g.ID, "needs a name")
		case g.Name == "" && len(g.Addresses) == 0:
			at("addresses", "", "a gateway without a name needs one")
		case g.Name == "":
		case !label(g.Name):
			at("name", g.Name, "must be a dns label")
		case seen[g.Name]:
			at("name", g.Name, "is repeated")
		case g.ID != "" && g.ID != p.ID.String()+gatewaySegment+g.Name:
			at("id", g.ID, "must be "+p.ID.String()+gatewaySegment+g.Name)
		}
		seen[g.Name] = g.Name != ""
		if len(g.Addresses) > maxAddresses {
			at("addresses", fmt.Sprint(len(g.Addresses)), fmt.Sprintf("at most %d", maxAddresses))
		}
	}
	return errors.Join(errs...)
}
