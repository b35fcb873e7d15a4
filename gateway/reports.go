package gateway

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

const (
	// reportInterval is how often the federation and the peers hear from a
	// gateway when nothing happens.
	reportInterval = time.Second
	// loadInterval is how often grants and wants are looked at.
	loadInterval = 250 * time.Millisecond
	// reportPause is the least time between two reports when much does.
	reportPause = 100 * time.Millisecond
	// reportTimeout bounds one report to the federation.
	reportTimeout = 3 * time.Second
	// federationSilence is how long reports may fail before it is told.
	federationSilence = 5 * time.Second
)

// reports tells the federation and the peers' gateways how this gateway is.
type reports struct {
	g        *Gateway
	woken    chan struct{}
	urgent   chan struct{} // the federation is to hear of something now
	draining atomic.Bool
	heard    atomic.Int64 // Unix nanoseconds of the last report that was taken
	listed   time.Time    // when the callers were told last
}

func newReports(g *Gateway) *reports {
	return &reports{g: g, woken: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
}

// wake asks for a report soon.
func (r *reports) wake() {
	select {
	case r.woken <- struct{}{}:
	default:
	}
}

// soon asks for a report to the federation now.
func (r *reports) soon() {
	select {
	case r.urgent <- struct{}{}:
	default:
	}
}

// toPeers tells the peers how many endpoints are ready, until ctx ends.
func (r *reports) toPeers(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.woken:
			if !pause(ctx, reportPause) { // several endpoints change together
				return nil
			}
		case <-timer.C:
		}
		if err := r.g.node.SendReport(r.g.board.OwnReport(r.forAll())); err != nil {
			r.g.log.Error("report to peers cannot be sent", "err", err)
		}
		timer.Reset(reportInterval)
	}
}

// loads tells each peer's gateway what it is granted and what is wanted of it, until
// ctx ends: at once where that has moved, else every second.
func (r *reports) loads(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.g.board.LoadNews():
		case <-timer.C:
		}
		due := r.g.board.Loads()
		err := r.g.node.SendLoads(func(to tunnel.Remote) (wire.Load, bool) {
			return due(catalog.ClusterName(to.Cluster), to.Gateway)
		})
		if err != nil {
			r.g.log.Error("load cannot be sent to a peer", "err", err)
		}
		timer.Reset(loadInterval)
	}
}

// forAll says which services may be named to every linked gateway: those that are
// exported to every peer. A link's control stream carries one report for all, and
// a peer must not hear of a service that it was not given.
func (r *reports) forAll() func([]catalog.ClusterName) bool {
	plan := r.g.board.Plan()
	if plan == nil {
		return func([]catalog.ClusterName) bool { return false }
	}
	peers := plan.Table().Peers
	return func(exportedTo []catalog.ClusterName) bool {
		for i := range peers {
			if !slices.Contains(exportedTo, peers[i].Name) {
				return false
			}
		}
		return true
	}
}

// toFederation sends the report until ctx ends.
func (r *reports) toFederation(ctx context.Context) error {
	if r.g.o.Reports == nil {
		return nil
	}
	for {
		bounded, cancel := context.WithTimeout(ctx, reportTimeout)
		report := r.report()
		callers := r.callers()
		report.Callers, report.CallersDropped = callers, r.g.callers.Dropped()
		err := r.send(bounded, report)
		cancel()
		now := time.Now()
		if err != nil {
			for _, s := range callers {
				r.g.callers.Add(s) // for the next one
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			r.heard.Store(now.UnixNano())
			r.g.conditions.Set(conditionFederation, true, "")
		case now.UnixNano()-r.heard.Load() > int64(federationSilence):
			r.g.conditions.Set(conditionFederation, false, err.Error())
			r.g.log.Debug("federation does not take reports", "err", err)
		}
		timer := time.NewTimer(reportInterval)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.urgent:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// send sends a report, and takes the shares that the answer brings.
func (r *reports) send(ctx context.Context, report *route.Report) error {
	sink, ok := r.g.o.Reports.(ShareSink)
	if !ok {
		return r.g.o.Reports.Send(ctx, report)
	}
	sent := time.Now()
	report.TakesShares, report.Demands = true, r.g.flow.Demands()
	own := r.g.board.Demands()
	report.Demands = append(report.Demands, own[:min(len(own), route.MaxDemands-len(report.Demands))]...)
	answer, err := sink.Exchange(ctx, report)
	if err == nil && answer != nil {
		r.g.flow.TakeShares(sent, answer)
		r.g.board.TakeShares(sent, answer)
	}
	return err
}

// last sends one report more, when the gateway begins to drain.
func (r *reports) last(ctx context.Context) {
	if r.g.o.Reports == nil {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, reportPause*5)
	defer cancel()
	_ = r.g.o.Reports.Send(bounded, r.report()) // the peers hear it on their links too
}

// report is the state of this moment.
func (r *reports) report() *route.Report {
	g, now := r.g, time.Now()
	controlAt := g.config.ControlAdvertise
	if controlAt == "" {
		controlAt = g.listeners.addrs.Control.String()
	}
	report := &route.Report{
		Gateway: catalog.Gateway{
			Name: g.config.Name, ID: g.ownID(), Addresses: g.config.Advertise, Draining: r.draining.Load(),
		},
		Control: controlAt, Ways: g.ways(), At: now, StartedAt: g.started, Build: g.o.Build, Locality: g.o.Locality, Links: g.linkReports(),
		Authority: g.o.Identity.OwnAuthority(), SVIDNotAfter: g.o.Identity.NotAfter(),
	}
	if plan := g.board.Plan(); plan != nil {
		report.Epoch, report.Version = plan.Table().Epoch, plan.Table().Version
		if s := g.switched.Load(); s.Any() {
			report.Switches, report.Frozen, report.SwitchedBy = s.Routing(), s.Freeze != nil, s.String()
		}
		report.TakesDrills, report.Drill = true, g.drill.Report()
		report.Flows, report.Askers = g.account.Flows(), g.account.Askers()
		report.Fill(g.board.Evidence(), g.board.Live(), now.UnixNano())
	}
	return report
}
