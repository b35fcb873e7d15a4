package federation

import (
	"context"
	"errors"

	"github.com/isthmus-mesh/isthmus/federation/api"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

// Recording is what a simulation starts from: the tables, evidence and demand of the
// own gateways that are heard.
func (p *plane) Recording() (*simulate.Recording, error) {
	now := p.now()
	rec := &simulate.Recording{Version: simulate.RecordingVersion, At: now.UTC()}
	for _, h := range p.gateways.fresh(now) {
		edition := p.tables.at(h.report.Epoch, h.report.Version)
		if edition == nil {
			continue
		}
		flows, askers, window := p.demand.of(h)
		report := *h.report
		report.Drill = nil
		report.Flows, report.Callers, report.Askers = nil, nil, nil // what counts of them is the demand
		rec.Gateways = append(rec.Gateways, simulate.Gateway{Table: edition.Table(), Report: &report, Demand: flows, Askers: askers, Window: window})
	}
	if len(rec.Gateways) == 0 {
		return nil, &api.ExplainError{Reason: api.NoGateway, Cluster: p.opts.Cluster, Err: errors.New("no gateway is heard")}
	}
	return rec, nil
}

// Simulate says what would become of the calls of now.
func (p *plane) Simulate(ctx context.Context, c simulate.Change) (*resource.Simulation, error) {
	select { // it costs seconds of one core at most; one at a time is enough for people
	case p.foreseeing <- struct{}{}:
		defer func() { <-p.foreseeing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	rec, err := p.Recording()
	if err != nil {
		return nil, err
	}
	return simulate.Simulate(rec, c, p.random()), nil
}
