package tablestore

import (
	"errors"
	"fmt"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// maxServices and maxPeers bound a table: the quota of a catalog for the
	// former, and far more clusters than one federation has for the latter.
	maxServices = catalog.MaxServices
	maxPeers    = 1000
	// maxProblems bounds what one refusal says.
	maxProblems = 20
)

// ErrFormat: the table is of a newer format than this build reads.
var ErrFormat = errors.New("table format is not known")

// Check reports why t cannot be the table of a gateway of the given cluster: all
// problems up to a bound, as catalog.FieldErrors. It wraps ErrFormat for a table
// of a newer format.
func Check(t *route.Table, cluster catalog.ClusterName) error {
	if t == nil {
		return errors.New("table is missing")
	}
	if t.Format != route.TableFormat {
		return fmt.Errorf("%w: %d, this build reads %d", ErrFormat, t.Format, route.TableFormat)
	}
	c := &checker{}
	if t.Cluster.Name != cluster {
		c.add("cluster.name", t.Cluster.Name, "must be this gateway's own cluster "+string(cluster))
	}
	c.id("cluster.id", t.Cluster.ID)
	c.locality("cluster.locality", t.Cluster.Locality)
	if t.Federation != "" {
		if err := catalog.CheckHostPort(t.Federation); err != nil {
			c.add("federation", t.Federation, err.Error())
		}
	}
	peers := c.peers(t)
	c.services(t, peers)
	if err := (policy.Set{Intentions: t.Intentions}).Validate(); err != nil {
		c.errs = append(c.errs, fmt.Errorf("intentions: %w", err))
	}
	return errors.Join(c.errs...)
}

type checker struct{ errs []error }

func (c *checker) add(field string, value any, rule string) {
	if len(c.errs) < maxProblems {
		c.errs = append(c.errs, &catalog.FieldError{Field: field, Value: value, Rule: rule})
	}
}

func (c *checker) id(field, id string) {
	if v, err := spiffeid.FromString(id); err != nil || v.Path() == "" {
		c.add(field, id, "must be a SPIFFE ID with a path")
	}
}

func (c *checker) locality(field string, l catalog.Locality) {
	if err := l.Validate(); err != nil {
		c.add(field, l.String(), err.Error())
	}
}

func (c *checker) peers(t *route.Table) map[catalog.ClusterName]bool {
	known := make(map[catalog.ClusterName]bool, len(t.Peers))
	if len(t.Peers) > maxPeers {
		c.add("peers", len(t.Peers), fmt.Sprintf("has more than %d entries", maxPeers))
		return known
	}
	ids := make(map[string]bool, len(t.Peers))
	asserts := make(map[catalog.ClusterName][]policy.IDPattern, len(t.Peers))
	for i := range t.Peers {
		p, at := &t.Peers[i], fmt.Sprintf("peers[%d]", i)
		if _, err := catalog.ParseClusterName(string(p.Name)); err != nil {
			c.add(at+".name", p.Name, err.Error())
		}
		if p.Name == t.Cluster.Name || known[p.Name] {
			c.add(at+".name", p.Name, "must be unique and not the own cluster")
		}
		c.id(at+".id", p.ID)
		if p.ID == t.Cluster.ID || ids[p.ID] {
			c.add(at+".id", p.ID, "must be unique: an id speaks for one cluster")
		}
		known[p.Name], ids[p.ID] = true, true
		asserts[p.Name] = p.Asserts
		for j, g := range p.Gateways {
			c.gateway(fmt.Sprintf("%s.gateways[%d]", at, j), g, p.ID)
		}
	}
	if err := policy.CheckAsserts(asserts); err != nil {
		c.errs = append(c.errs, err)
	}
	return known
}

func (c *checker) gateway(at string, g catalog.Gateway, cluster string) {
	if g.Name == "" { // a bootstrap address
		if len(g.Addresses) == 0 {
			c.add(at+".addresses", "", "a gateway without a name needs an address")
		}
	} else if g.ID != "" && g.ID != cluster+"/gateway/"+g.Name {
		c.add(at+".id", g.ID, "must be "+cluster+"/gateway/"+g.Name)
	}
	for _, a := range g.Addresses {
		if err := catalog.CheckHostPort(a); err != nil {
			c.add(at+".addresses", a, err.Error())
		}
	}
}

func (c *checker) services(t *route.Table, peers map[catalog.ClusterName]bool) {
	if len(t.Services) > maxServices {
		c.add("services", len(t.Services), fmt.Sprintf("has more than %d entries", maxServices))
		return
	}
	seen := make(map[catalog.ServiceName]bool, len(t.Services))
	for i := range t.Services {
		s, at := &t.Services[i], fmt.Sprintf("services[%d]", i)
		switch {
		case s.Name.IsZero() || s.Name.IsFederation():
			c.add(at+".name", s.Name.String(), "must be a name that is not reserved")
		case seen[s.Name]:
			c.add(at+".name", s.Name.String(), "is repeated")
		}
		seen[s.Name] = true
		local := catalog.Service{Name: s.Name, Ports: s.Ports, Endpoints: s.Endpoints}
		if err := local.Validate(); err != nil && len(c.errs) < maxProblems {
			c.errs = append(c.errs, fmt.Errorf("%s: %w", at, err))
		}
		for j := range s.Remote {
			r, rat := &s.Remote[j], fmt.Sprintf("%s.remote[%d]", at, j)
			if !peers[r.Cluster] {
				c.add(rat+".cluster", r.Cluster, "must be one of the peers")
			}
			if r.Name.IsZero() || r.Name.IsFederation() {
				c.add(rat+".name", r.Name.String(), "must be a name that is not reserved")
			}
		}
		if s.Traffic != nil {
			if err := s.Traffic.Validate(); err != nil && len(c.errs) < maxProblems {
				c.errs = append(c.errs, fmt.Errorf("%s.traffic: %w", at, err))
			}
		}
	}
}
