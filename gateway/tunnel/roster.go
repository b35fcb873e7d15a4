package tunnel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// roster is an immutable set of peers, and the answer to who is who.
type roster struct {
	peers map[string]Peer   // by cluster
	named map[string]Remote // by gateway ID
	// open has the clusters whose roster is not known, by the part of a gateway's
	// ID before its name.
	open map[string]string
}

// newRoster checks peers. A peer that is wrong keeps what it had in last, or is
// left out: one peer's bad roster must not stop news of the others. The error
// joins all problems.
func newRoster(peers []Peer, own string, last *roster) (*roster, error) {
	r := &roster{peers: make(map[string]Peer), named: make(map[string]Remote), open: make(map[string]string)}
	var errs []error
	ids := make(map[spiffeid.ID]string)
	for i := range peers {
		p := peers[i]
		err := p.validate()
		switch other, taken := ids[p.ID]; {
		case err != nil:
		case p.Cluster == own:
			err = fmt.Errorf("cluster: %q: is the own cluster", p.Cluster)
		case len(r.peers) >= maxPeers:
			err = fmt.Errorf("cluster: %q: more than %d peers", p.Cluster, maxPeers)
		case taken:
			err = fmt.Errorf("id: %q: is %s's as well", p.ID, other)
		}
		if _, taken := r.peers[p.Cluster]; taken {
			errs = append(errs, fmt.Errorf("peer %s: cluster: %q: is repeated", p.Cluster, p.Cluster))
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("peer %s: %w", p.Cluster, err))
			before, ok := last.peer(p.Cluster)
			if _, taken := ids[before.ID]; !ok || taken {
				continue
			}
			p = before
		}
		ids[p.ID] = p.Cluster
		r.add(p)
	}
	return r, errors.Join(errs...)
}

func (r *roster) peer(cluster string) (Peer, bool) {
	if r == nil {
		return Peer{}, false
	}
	p, ok := r.peers[cluster]
	return p, ok
}

func (r *roster) add(p Peer) {
	p.Gateways = slices.Clone(p.Gateways)
	open := len(p.Gateways) == 0
	for i := range p.Gateways {
		g := &p.Gateways[i]
		g.Addresses = slices.Clone(g.Addresses)
		if g.Name == "" {
			open = true
			continue
		}
		// Validated: a valid ID with a valid label behind it is a valid ID.
		g.ID = p.ID.String() + gatewaySegment + g.Name
		r.named[g.ID] = Remote{Cluster: p.Cluster, Gateway: g.Name, ID: spiffeid.RequireFromString(g.ID)}
	}
	if open {
		r.open[p.ID.String()+gatewaySegment] = p.Cluster
	}
	r.peers[p.Cluster] = p
}

// lookup says which gateway an authenticated ID is.
func (r *roster) lookup(id spiffeid.ID) (Remote, bool) {
	s := id.String()
	if remote, ok := r.named[s]; ok {
		return remote, true
	}
	cut := strings.LastIndexByte(s, '/') + 1
	cluster, ok := r.open[s[:cut]]
	if !ok || !label(s[cut:]) {
		return Remote{}, false
	}
	return Remote{Cluster: cluster, Gateway: s[cut:], ID: id}, true
}

// Identify says which peer's gateway an authenticated ID is; ok is false for an ID that
// is admitted on no link.
func (n *Node) Identify(id spiffeid.ID) (remote Remote, ok bool) { return n.roster.Load().lookup(id) }

// gateway returns the roster's entry of a remote gateway, if it has one.
func (r *roster) gateway(remote Remote) (PeerGateway, bool) {
	p := r.peers[remote.Cluster]
	i := slices.IndexFunc(p.Gateways, func(g PeerGateway) bool { return g.Name == remote.Gateway })
	if i < 0 {
		return PeerGateway{}, false
	}
	return p.Gateways[i], true
}

// wanted is a gateway that should have a link dialed by us.
type wanted struct {
	cluster string
	name    string // empty for a bootstrap address
	// addresses is empty where only the other side can dial.
	addresses []string
	draining  bool
}

// key identifies w among all.
func (w *wanted) key() string {
	if w.name != "" {
		return w.cluster + "/" + w.name
	}
	return w.cluster + "@" + strings.Join(w.addresses, ",")
}

// accepts says whether the gateway that answered is the wanted one.
func (w *wanted) accepts(remote Remote) bool {
	return remote.Cluster == w.cluster && (w.name == "" || remote.Gateway == w.name)
}

// wanted lists the gateways to dial.
func (r *roster) wanted() []wanted {
	var all []wanted
	for _, p := range r.peers {
		for _, g := range p.Gateways {
			all = append(all, wanted{cluster: p.Cluster, name: g.Name, addresses: g.Addresses, draining: g.Draining})
		}
	}
	return all
}
