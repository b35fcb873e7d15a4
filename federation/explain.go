package federation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	return p.explainHere(q, nil)
}

// explainHere answers from the own gateways' evidence; scrub, where set, takes
// out of the decision's inputs what the one who asks may not see.
func (p *plane) explainHere(q resource.ExplainQuery, scrub func(*route.Table, *route.Report, catalog.ServiceName) (*route.Table, *route.Report)) (*resource.Explanation, error) {
	h, err := p.witness(q.Gateway)
	if err != nil {
		return nil, err
	}
	r := h.report
	edition := p.tables.at(r.Epoch, r.Version)
	if edition == nil {
		return nil, &api.ExplainError{Reason: api.NoGateway, Cluster: p.opts.Cluster, Err: errors.New("no table is published yet")}
	}
	now, table := p.now(), edition.Table()
	e := &resource.Explanation{
		Cluster: p.opts.Cluster, Gateway: r.Gateway.Name, ReportAge: now.Sub(h.at),
		Epoch: table.Epoch, Version: table.Version,
		Lagging: table.Epoch != r.Epoch || table.Version != r.Version || edition != p.tables.current(),
	}
	if scrub != nil {
		table, r = scrub(table, r, q.Service)
	}
	evidence, live := route.EvidenceFromReport(r)
	e.Ledger = route.Compile(table, evidence, live).Explain(route.Request{
		Service: q.Service, Port: q.Port, Pin: q.Pin, Random: p.random(), NowNanos: now.UnixNano(),
	})
	if scrub != nil {
		e.Ledger = withoutEndpoints(e.Ledger)
	}
	return e, nil
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
