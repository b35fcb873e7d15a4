package federation

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Trust lists the roots in force and who hangs below each of them now: the own
// federation and gateways, the peers' gateways by the live links, and the peers'
// federations by the last connection to them.
func (p *plane) Trust() resource.Trust {
	own := p.opts.Identity
	out := resource.Trust{
		TrustDomain: p.id.TrustDomain().Name(),
		SVID:        resource.SVID{ID: p.id.String(), NotAfter: utc(own.NotAfter())},
		Authorities: []resource.Authority{},
	}
	for _, a := range own.Authorities() {
		out.Authorities = append(out.Authorities, resource.Authority{
			TrustDomain: a.TrustDomain.Name(), KeyID: a.KeyID, NotBefore: a.NotBefore.UTC(), NotAfter: a.NotAfter.UTC(),
			From: string(a.Origin), Users: []resource.TrustUser{},
		})
	}
	for _, u := range p.trustUsers(p.now()) {
		i := slices.IndexFunc(out.Authorities, func(a resource.Authority) bool { return a.KeyID == u.Authority })
		if i < 0 {
			out.Unplaced = append(out.Unplaced, u)
			continue
		}
		out.Authorities[i].Users = append(out.Authorities[i].Users, u)
	}
	return out
}

func (p *plane) trustUsers(now time.Time) []resource.TrustUser {
	users := []resource.TrustUser{{
		Kind: "federation", Name: string(p.opts.Cluster), Authority: p.opts.Identity.OwnAuthority(), NotAfter: utc(p.opts.Identity.NotAfter()),
	}}
	for _, h := range p.gateways.fresh(now) {
		r := h.report
		if r.Authority != "" { // a gateway of an older build does not say
			users = append(users, resource.TrustUser{Kind: "gateway", Name: r.Gateway.Name, Authority: r.Authority, NotAfter: utc(r.SVIDNotAfter)})
		}
		for _, l := range r.Links {
			if l.State != "up" && l.State != "draining" || l.PeerAuthority == "" {
				continue
			}
			users = append(users, resource.TrustUser{
				Kind: "link", Name: string(l.Cluster) + "/" + l.Gateway, Via: r.Gateway.Name, Authority: l.PeerAuthority, NotAfter: utc(l.PeerNotAfter),
			})
		}
	}
	for _, q := range p.peers.all() {
		if a := q.dialer.lastAuthority(); a != nil {
			users = append(users, resource.TrustUser{Kind: "peer", Name: string(q.name), Authority: a.keyID, NotAfter: utc(a.notAfter)})
		}
	}
	slices.SortStableFunc(users, func(a, b resource.TrustUser) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Via, b.Via))
	})
	return users
}
