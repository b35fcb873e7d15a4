package federation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// explainForPeer answers a peer's federation: about services that it shares with
// us, without anything that stays at home.
func (p *plane) explainForPeer(_ context.Context, peer catalog.ClusterName, query url.Values) (any, error) {
	name, err := catalog.ParseServiceName(query.Get("service"))
	if err != nil {
		return nil, &exchange.ExplainError{Status: http.StatusBadRequest, Err: err}
	}
	if !p.sharedWith(peer, name) {
		return nil, &exchange.ExplainError{Status: http.StatusNotFound, Err: fmt.Errorf("service %s is not shared with %s", name, peer)}
	}
	e, err := p.explainHere(resource.ExplainQuery{
		Service: name, Port: query.Get("port"), Pin: catalog.ClusterName(query.Get("pin")), Gateway: query.Get("gateway"),
	}, anonymous)
	if err != nil {
		status := http.StatusServiceUnavailable
		if ee, ok := errors.AsType[*api.ExplainError](err); ok && ee.Reason == api.UnknownGateway {
			status = http.StatusNotFound
		}
		return nil, &exchange.ExplainError{Status: status, Err: err}
	}
	return e, nil
}

// sharedWith reports whether this cluster exports the service to the peer, or
// takes it from there. The name is ours.
func (p *plane) sharedWith(peer catalog.ClusterName, name catalog.ServiceName) bool {
	s, ok := p.lists.Services.Get(name.String())
	return ok && (slices.Contains(s.ExportedTo, peer) ||
		slices.ContainsFunc(s.Remote, func(o resource.Offer) bool { return o.Cluster == peer }))
}

// anonymous returns the table and the report as far as they concern one service,
// its endpoints numbered and without addresses. A ledger is full of texts; what
// is not in its inputs cannot slip into one of them.
func anonymous(t *route.Table, r *route.Report, name catalog.ServiceName) (*route.Table, *route.Report) {
	table, report := *t, *r
	table.Services, report.Endpoints, report.Targets = nil, nil, nil
	number := make(map[route.EndpointKey]string)
	ids := make(map[string]string)
	for _, s := range t.Services {
		if s.Name != name {
			continue
		}
		s.Endpoints = slices.Clone(s.Endpoints)
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			id := fmt.Sprintf("#%d", i+1)
			number[route.EndpointKey{Service: name, Port: e.Port, ID: e.ID}] = id
			ids[e.ID] = id
			e.ID, e.Source, e.Labels = id, "", nil
			e.Address = netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(i+1)) // distinct, and nowhere
		}
		s.Quarantined = slices.Clone(s.Quarantined)
		for i, id := range s.Quarantined {
			s.Quarantined[i] = ids[id]
		}
		slices.Sort(s.Quarantined)
		table.Services = append(table.Services, s)
	}
	for _, e := range r.Endpoints {
		if id, ok := number[e.Endpoint]; ok {
			e.Endpoint.ID, e.Reason = id, ""
			report.Endpoints = append(report.Endpoints, e)
		}
	}
	for _, x := range r.Targets {
		if x.Target.Service == name {
			if x.Target.Cluster == t.Cluster.Name {
				x.Reason = ""
			}
			report.Targets = append(report.Targets, x)
		}
	}
	return &table, &report
}

// withoutEndpoints leaves the numbered endpoints out of where they are listed.
func withoutEndpoints(l *route.Ledger) *route.Ledger {
	l.Policy.Limits = nil // they name callers
	for i := range l.Tiers {
		for j := range l.Tiers[i].Candidates {
			c := &l.Tiers[i].Candidates[j]
			c.Omitted += len(c.Endpoints)
			c.Endpoints = nil
		}
	}
	if l.Choice != nil {
		l.Choice.Address = ""
	}
	return l
}
