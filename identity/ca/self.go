package ca

import (
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
)

// refreshSelf gives the CA an SVID of its own, for the listeners of hosts and of a
// bundle endpoint. It is signed like every other, and kept nowhere.
func (c *CA) refreshSelf(v *view) error {
	now := c.now()
	svid, err := v.roots.mint(authorityID(c.cfg.TrustDomain), now, c.cfg.SVIDTTL)
	if err != nil {
		return err
	}
	bundle := x509bundle.FromX509Authorities(c.cfg.TrustDomain, v.roots.certificates())
	if c.self == nil { // in New
		c.self = identity.NewStatic(svid, bundle)
		return nil
	}
	return c.self.ReplaceStatic(svid, bundle)
}

// Identity is the CA's own, spiffe://TRUST DOMAIN/isthmus/ca, for a bundle
// endpoint of profile https_spiffe.
func (c *CA) Identity() *identity.Source { return c.self }
