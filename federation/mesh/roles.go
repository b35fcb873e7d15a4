package mesh

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// errStranger is the answer to every ID without a role.
var errStranger = errors.New("is neither a gateway of this cluster nor the federation of a configured peer")

// role is what one SPIFFE ID may do here: exactly one field is set.
type role struct {
	gateway string              // name of an own gateway
	peer    catalog.ClusterName // a configured peer's federation
}

func (r role) kind() string {
	if r.gateway != "" {
		return "gateway"
	}
	return "peer"
}

// roles tells who may do what. The answer depends on nothing but the ID and the
// configured peers.
type roles struct {
	cluster spiffeid.ID
	peers   atomic.Pointer[map[spiffeid.ID]catalog.ClusterName]
}

func newRoles(cluster spiffeid.ID) *roles {
	r := &roles{cluster: cluster}
	r.set(nil)
	return r
}

func (r *roles) set(peers map[spiffeid.ID]catalog.ClusterName) {
	r.peers.Store(new(maps.Clone(peers)))
}

// authorize is the listener's identity.Authorizer.
func (r *roles) authorize(id spiffeid.ID) error {
	_, err := r.of(id)
	return err
}

func (r *roles) of(id spiffeid.ID) (role, error) {
	if peer, ok := (*r.peers.Load())[id]; ok {
		return role{peer: peer}, nil
	}
	if name, ok := GatewayName(r.cluster, id); ok {
		return role{gateway: name}, nil
	}
	return role{}, fmt.Errorf("%s %w", id, errStranger)
}

// GatewayName is the name of the gateway of a cluster that has this ID: the
// cluster's ID with "/gateway/NAME" after it, NAME a DNS label.
func GatewayName(cluster, id spiffeid.ID) (string, bool) {
	name, ok := strings.CutPrefix(id.String(), cluster.String()+"/gateway/")
	if !ok {
		return "", false
	}
	_, err := catalog.ParseClusterName(name) // the same rule: one DNS label
	return name, err == nil
}

// GatewayID is the ID of the gateway called name of a cluster.
func GatewayID(cluster spiffeid.ID, name string) (spiffeid.ID, error) {
	if _, err := catalog.ParseClusterName(name); err != nil {
		return spiffeid.ID{}, fmt.Errorf("gateway name %q: must be a DNS label", name)
	}
	return cluster.AppendPath("/gateway/" + name)
}
