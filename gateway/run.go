package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
)

const (
	// settleTime is how long a connection that was accepted a moment ago has to
	// get its stream before the links are waited for: they close as soon as nothing
	// is on them.
	settleTime = 100 * time.Millisecond
	// federationGrace is how long the federations may go on talking through a
	// gateway that drains: long enough to tell the peers' rosters, and no more,
	// since their watches never end by themselves.
	federationGrace = 500 * time.Millisecond
	// watchInterval is how often the conditions are looked at that have no event.
	watchInterval = time.Second
)

// group runs the parts of one stage of the teardown, and tells of the first that
// fails by itself.
type group struct {
	name   string
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	failed func(error)
}

func newGroup(parent context.Context, name string, failed func(error)) *group {
	g := &group{name: name, failed: failed}
	g.ctx, g.cancel = context.WithCancelCause(parent)
	return g
}

func (s *group) run(part string, f func(context.Context) error) {
	s.wg.Go(func() {
		if err := f(s.ctx); err != nil {
			s.failed(fmt.Errorf("%s: %w", part, err))
		}
	})
}

// stop ends the parts and waits for them.
func (s *group) stop() {
	s.cancel(errStopped)
	s.wg.Wait()
}

var errStopped = errors.New("the gateway stops")

// Run serves until ctx ends and then drains: it stops being ready, tells the
// peers, stops accepting, lets streams finish until DrainTimeout, and closes.
// It returns nil on that path, and the failure otherwise. It has waited for
// every goroutine that it started.
func (g *Gateway) Run(ctx context.Context) error {
	// Nothing below hangs on ctx: its end begins the drain, it does not cut.
	base := context.WithoutCancel(ctx)
	failure := make(chan error, 1)
	failed := func(err error) {
		select {
		case failure <- err:
		default: // the first is the cause
		}
	}
	var (
		watched = newGroup(base, "watched", failed) // metrics and readiness
		core    = newGroup(base, "core", failed)    // links, evidence, plan
		talk    = newGroup(base, "talk", failed)    // the federation, there and here
		ways    = newGroup(base, "ways", failed)    // what callers connect to
		told    = newGroup(base, "told", failed)    // who hears how this process is
		seen    = newGroup(base, "seen", failed)    // the admin listener
	)
	watched.run("conditions", g.watch)
	core.run("links", g.node.Run)
	g.mesh.run(core, g.o.Identity)
	core.run("plan", g.board.Run)
	core.run("health", g.checker.Run)
	core.run("link changes", g.followLinks)
	core.run("streams", g.origin.Run)
	core.run("tables", g.tables.follow)
	core.run("switches", g.switchboard.follow)
	core.run("drills", g.followDrills)
	core.run("table store", g.tables.keep)
	core.run("withdrawals", g.tables.sweep)
	err := g.takeOver(ctx, failure)
	if err == nil && ctx.Err() == nil {
		told.run("reports to peers", g.reports.toPeers)
		told.run("loads to peers", g.reports.loads)
		told.run("reports", g.reports.toFederation)
		seen.run("admin", g.admin.Run)
		talk.run("control", g.control.Run)
		for _, e := range g.entrances {
			ways.run(e.name, e.way.Run)
		}
		g.conditions.Set(conditionServing, true, "")
		g.log.Info("gateway serves", "gateway", g.config.Name, "cluster", string(g.o.Cluster), "address", g.listeners.addrs.Link.String())
		g.tookOver()
		select {
		case <-ctx.Done():
			g.succession.end()
		case <-g.succession.passed:
		case err = <-failure:
			g.log.Error("gateway fails", "err", err)
			g.conditions.Set(conditionServing, false, err.Error())
		}
		switch {
		case err != nil:
		case g.succession.done(): // whatever else: the gateway itself does not drain
			told.stop()
			seen.stop() // the successor answers, who has the listener
			g.leave(base, ways, talk)
		default:
			g.log.Info("gateway drains", "reason", context.Cause(ctx).Error(), "duration", g.config.DrainTimeout)
			g.drain(base, ways, talk)
		}
	}
	g.succession.end()
	// In this order: each stage is used by those before it.
	ways.stop() // callers first: nothing new can begin behind them
	talk.stop() // the federations next: they ride on the links
	told.stop() // then who is told of the links
	core.stop() // then the links, with a word to the peers that are left
	seen.stop() // last what tells how it went
	watched.stop()
	g.endpoints.Close()
	g.listeners.close()
	if g.o.Estate != nil {
		g.o.Estate.Close()
	}
	select {
	case late := <-failure: // a part that failed while it was stopped
		err = errors.Join(err, late)
	default:
	}
	return err
}

// drain ends what goes on without an error for anybody, as far as DrainTimeout
// allows.
func (g *Gateway) drain(base context.Context, ways, talk *group) {
	ctx, cancel := context.WithTimeoutCause(base, g.config.DrainTimeout, errors.New("drain timeout"))
	defer cancel()
	// Not ready first: balancers before the ways should send nobody new.
	g.conditions.Set(conditionServing, false, "draining")
	g.reports.draining.Store(true)
	g.drill.Stop()
	// The peers know within half a round trip, whatever takes its time here.
	g.node.AnnounceDrain()
	// The own federation tells the peers' ones, which tell their gateways.
	g.reports.last(ctx)
	for _, e := range g.entrances {
		e.way.StopAccepting()
	}
	pause(ctx, settleTime)
	g.finish(ctx, ways, talk)
	g.awaitPredecessors(ctx)
}

// finish ends what is in progress when nothing new comes any more.
func (g *Gateway) finish(ctx context.Context, ways, talk *group) {
	var wg sync.WaitGroup
	// Waits for all streams, those of the ways included.
	wg.Go(func() {
		if err := g.node.Drain(ctx); err != nil {
			g.log.Warn("streams were cut", "err", err)
		}
	})
	wg.Go(func() { _ = g.origin.Drain(ctx) }) // its error is ctx's, told above
	wg.Go(func() {
		if g.account.InFlight(account.WayControl) > 0 || g.origin.Federations() > 0 {
			pause(ctx, federationGrace)
		}
		talk.stop()
		g.origin.EndFederation()
	})
	// Connections to own endpoints are on no link.
	idle := make(chan struct{})
	go func() { ways.wg.Wait(); close(idle) }()
	select {
	case <-idle:
	case <-ctx.Done():
		ways.cancel(context.Cause(ctx)) // cuts what is left
		<-idle
	}
	wg.Wait()
}

// followLinks tells the board of every change of a link.
func (g *Gateway) followLinks(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.node.Changes():
			g.board.Touch()
		}
	}
}

// watch keeps the conditions true that depend on time.
func (g *Gateway) watch(ctx context.Context) error {
	updates, cancel := g.o.Identity.Updates()
	defer cancel()
	for {
		g.judgeIdentity(time.Now())
		bad := g.mesh.standing()
		g.conditions.Set(conditionMesh, bad == "", bad)
		g.judgeLinks()
		timer := time.NewTimer(watchInterval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-updates:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (g *Gateway) judgeIdentity(now time.Time) {
	id, table := g.o.Identity.ID(), g.board.Plan()
	want := ""
	if table != nil {
		want = table.Table().Cluster.ID + "/gateway/" + g.config.Name
	}
	if standing, err := g.o.Identity.Standing(); err != nil {
		g.conditions.Set(conditionRenewal, false, string(standing)+": "+err.Error())
	} else {
		g.conditions.Set(conditionRenewal, true, "")
	}
	switch {
	case id.IsZero():
		g.conditions.Set(conditionIdentity, false, "no svid")
	case !g.o.Identity.NotAfter().After(now):
		g.conditions.Set(conditionIdentity, false, "svid expired at "+g.o.Identity.NotAfter().Format(time.RFC3339))
	case g.federationID().IsZero():
		g.conditions.Set(conditionIdentity, false, id.String()+" does not end in /gateway/"+g.config.Name)
	case want != "" && id.String() != want:
		g.conditions.Set(conditionIdentity, false, id.String()+" is not "+want)
	default:
		g.conditions.Set(conditionIdentity, true, id.String())
	}
}

func (g *Gateway) judgeLinks() {
	up := make(map[string]bool)
	reasons := make(map[string]string)
	links := g.node.Links()
	for i := range links {
		l := &links[i]
		up[l.Cluster] = up[l.Cluster] || l.State == tunnel.StateUp
		if l.State != tunnel.StateUp {
			reasons[l.Cluster] = string(l.State) + " " + l.Reason
		}
	}
	var down []string
	if plan := g.board.Plan(); plan != nil {
		peers := plan.Table().Peers
		for i := range peers {
			if name := string(peers[i].Name); !up[name] {
				down = append(down, strings.TrimSpace(name+" "+reasons[name]))
			}
		}
	}
	g.conditions.Set(conditionLinks, len(down) == 0, strings.Join(down, "; "))
}
