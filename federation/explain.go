package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Explain says what a gateway would decide for one request now, and why: from
// the evidence in its last report and the table that it routes by.
func (p *plane) Explain(ctx context.Context, q resource.ExplainQuery) (*resource.Explanation, error) {
	if q.From != "" && q.From != p.opts.Cluster {
		return p.askPeer(ctx, q)
	}
	return p.explainHere(q)
}

func (p *plane) explainHere(q resource.ExplainQuery) (*resource.Explanation, error) {
	h, err := p.witness(q.Gateway)
	if err != nil {
		return nil, err
	}
	r := h.report
	table := p.tables.at(r.Epoch, r.Version)
	if table == nil {
		return nil, &api.ExplainError{Reason: api.NoGateway, Cluster: p.opts.Cluster, Err: errors.New("no table is published yet")}
	}
	evidence, live := route.EvidenceFromReport(r)
	plan := route.Compile(table, evidence, live)
	now := p.now()
	return &resource.Explanation{
		Cluster: p.opts.Cluster, Gateway: r.Gateway.Name, ReportAge: now.Sub(h.at),
		Epoch: table.Epoch, Version: table.Version,
		Lagging: table.Epoch != r.Epoch || table.Version != r.Version || table != p.tables.current(),
		Ledger: plan.Explain(route.Request{
			Service: q.Service, Port: q.Port, Pin: q.Pin, Random: p.random(), NowNanos: now.UnixNano(),
		}),
	}, nil
}

// witness is the gateway whose evidence counts: the one that is asked for, or
// the one with the freshest report.
func (p *plane) witness(name string) (heard, error) {
	if name != "" {
		h, ok := p.gateways.named(name)
		if !ok {
			return heard{}, &api.ExplainError{Reason: api.UnknownGateway, Cluster: p.opts.Cluster, Gateway: name}
		}
		return h, nil
	}
	all := p.gateways.all()
	if len(all) == 0 {
		return heard{}, &api.ExplainError{Reason: api.NoGateway, Cluster: p.opts.Cluster, Err: errors.New("no gateway has reported")}
	}
	return slices.MaxFunc(all, func(a, b heard) int { return a.at.Compare(b.at) }), nil
}

// askPeer asks the federation of another cluster, over the links.
func (p *plane) askPeer(ctx context.Context, q resource.ExplainQuery) (*resource.Explanation, error) {
	peer := p.peers.get(q.From)
	if peer == nil {
		return nil, &api.ExplainError{Reason: api.UnknownCluster, Cluster: q.From}
	}
	query := url.Values{"service": {q.Service.String()}}
	for name, value := range map[string]string{"port": q.Port, "pin": string(q.Pin), "gateway": q.Gateway} {
		if value != "" {
			query.Set(name, value)
		}
	}
	answer, err := peer.explain(ctx, query)
	if err != nil {
		if refused, ok := errors.AsType[*exchange.RefusedError](err); ok && refused.Reason == exchange.ReasonDenied {
			return nil, &api.ExplainError{Reason: api.RefusedByPeer, Cluster: q.From, Err: err}
		}
		return nil, &api.ExplainError{Reason: api.PeerUnreachable, Cluster: q.From, Err: err}
	}
	e := new(resource.Explanation)
	if err := json.Unmarshal(answer, e); err != nil {
		return nil, &api.ExplainError{Reason: api.PeerUnreachable, Cluster: q.From, Err: fmt.Errorf("answer is not understood: %w", err)}
	}
	e.Cluster = q.From // the origin is who was asked, whatever it says
	return e, nil
}

// explainForPeer answers a peer's federation: about services that it shares with
// us, without anything that stays at home.
func (p *plane) explainForPeer(_ context.Context, peer catalog.ClusterName, query url.Values) (any, error) {
	name, err := catalog.ParseServiceName(query.Get("service"))
	if err != nil {
		return nil, &exchange.ExplainError{Status: http.StatusBadRequest, Err: err}
	}
	q := resource.ExplainQuery{
		Service: name, Port: query.Get("port"), Pin: catalog.ClusterName(query.Get("pin")), Gateway: query.Get("gateway"),
	}
	if !p.sharedWith(peer, name) {
		return nil, &exchange.ExplainError{Status: http.StatusNotFound, Err: fmt.Errorf("service %s is not shared with %s", name, peer)}
	}
	e, err := p.explainHere(q)
	if err != nil {
		status := http.StatusServiceUnavailable
		if ee, ok := errors.AsType[*api.ExplainError](err); ok && ee.Reason == api.UnknownGateway {
			status = http.StatusNotFound
		}
		return nil, &exchange.ExplainError{Status: status, Err: err}
	}
	e.Ledger = withoutEndpoints(e.Ledger)
	return e, nil
}

// sharedWith reports whether this cluster exports the service to the peer, or
// takes it from there. The name is ours.
func (p *plane) sharedWith(peer catalog.ClusterName, name catalog.ServiceName) bool {
	s, ok := p.lists.Services.Get(name.String())
	return ok && (slices.Contains(s.ExportedTo, peer) ||
		slices.ContainsFunc(s.Remote, func(o resource.Offer) bool { return o.Cluster == peer }))
}

// withoutEndpoints leaves out what never leaves a cluster: its endpoints, their
// names and addresses. What is said of other clusters than the asking one stays:
// it is why the choice is what it is.
func withoutEndpoints(l *route.Ledger) *route.Ledger {
	if l == nil {
		return nil
	}
	out := *l
	out.Tiers = slices.Clone(l.Tiers)
	for i := range out.Tiers {
		out.Tiers[i].Candidates = slices.Clone(out.Tiers[i].Candidates)
		for j := range out.Tiers[i].Candidates {
			c := &out.Tiers[i].Candidates[j]
			c.Omitted += len(c.Endpoints)
			c.Endpoints = nil
		}
	}
	out.Excluded = slices.DeleteFunc(slices.Clone(l.Excluded), func(x route.Exclusion) bool { return x.Endpoint != "" })
	out.Draws = slices.DeleteFunc(slices.Clone(l.Draws), func(d route.LedgerDraw) bool { return d.Of == "endpoint" })
	if l.Choice != nil {
		choice := *l.Choice
		choice.Endpoint, choice.Address = "", ""
		out.Choice = &choice
	}
	return &out
}
