package workload

import (
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Identities are who the gateway is towards workloads.
type Identities struct {
	own    *identity.Source
	meshes []*identity.Source
}

// NewIdentities holds the gateway's SVID and one identity of each mesh.
func NewIdentities(own *identity.Source, meshes ...*identity.Source) *Identities {
	return &Identities{own: own, meshes: meshes}
}

// For is the identity that server is met with: that of the mesh whose trust domain
// server is of, else the gateway's own. A mesh's trust domain is known once its first
// certificate is here.
func (i *Identities) For(server spiffeid.ID) *identity.Source {
	for _, m := range i.meshes {
		if m.TrustDomain() == server.TrustDomain() {
			return m
		}
	}
	return i.own
}
