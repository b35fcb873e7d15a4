package simulation

import (
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/drill"
	"github.com/isthmus-mesh/isthmus/gateway/health"
	"github.com/isthmus-mesh/isthmus/gateway/tablestore"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// The rhythms of a gateway, as package gateway has them.
const (
	reportInterval = time.Second
	saveInterval   = 2 * time.Second
	localDelay     = 500 * time.Microsecond
)

// gateway is one gateway: the product's board and router, and a model of what is
// around them.
type gateway struct {
	process
	s     *Sim
	net   *network
	home  *cluster
	short string // its name in the cluster
	id    string

	board   *board.Board
	router  *attempt.Router
	table   *route.Table
	applied time.Duration
	saved   *route.Table // on disk
	saving  bool
	ends    []*end
	dialers map[*gateway]*dialer
	turn    int
	fed     *federation // whose tables it follows; nil without a stream

	refreshed  time.Duration // when the board was last
	refreshDue time.Duration // when it is next; 0 is not planned
	refreshes  int
	calls      []*call // in progress, near and far
	streaks    map[*instance]*health.Streak
	drill      *drill.Monitor
	heard      time.Time // when the federation took a report last, by the own clock

	oracle *oracle
	watch  gatewayWatch // the oracle's
}

// boot starts the process: with what is on its disk, and nothing else.
func (g *gateway) boot() {
	s := g.s
	g.up, g.born, g.held = true, s.now, 0
	g.life++
	g.ends, g.calls, g.fed, g.table = nil, nil, nil, nil
	g.dialers, g.streaks = make(map[*gateway]*dialer), make(map[*instance]*health.Streak)
	g.refreshed, g.refreshDue, g.saving = -time.Hour, 0, false
	g.watch = gatewayWatch{}
	var err error
	g.board, err = board.New(board.Options{
		Cluster: g.home.name, Self: g.home.locality, Links: g.links, Ramp: s.seams.ramp(s.ramp), Random: s.rng.Uint64, Now: g.clock,
	})
	if err != nil {
		panic(err)
	}
	g.heard = time.Time{}
	g.drill = g.newDrill()
	g.router, err = attempt.New(attempt.Options{Board: boardSeam{g}, Drill: g.drill, Reachable: g.reachable, Random: s.rng.Uint64, Now: g.clock})
	if err != nil {
		panic(err)
	}
	g.note(g.name, "starts", uint64(g.life))
	if g.saved != nil {
		g.offer(g.saved)
	}
	g.subscribe()
	g.reports()
	g.checkHealth()
}

// crash ends the process; lose loses its disk too.
func (g *gateway) crash(lose bool) {
	if !g.up {
		return
	}
	g.note(g.name, "crashes", 0)
	g.up = false
	g.life++
	for _, c := range g.calls {
		c.over = true
	}
	ends := g.ends
	g.ends = nil
	for _, e := range ends {
		e.open = false // silently: its peers find out by themselves
		e.tellAll(wire.LinkDead)
	}
	if lose {
		g.saved = nil
	}
	if g.fed != nil {
		g.fed.unsubscribe(g)
	}
}

// offer is a table that the federation or the disk has; Judge decides.
func (g *gateway) offer(t *route.Table) {
	answer, err := g.s.seams.judge(g, t)
	if answer != tablestore.Applied {
		if err != nil {
			g.say(g.name, "table %d.%d: %s: %v", t.Epoch, t.Version, answer, err)
		}
		return
	}
	g.table, g.applied = t, g.now
	g.note(g.name, "applies table", t.Epoch<<32|t.Version)
	g.board.SetTable(t)
	g.drill.SetTable(t, "")
	known := make(map[catalog.ServiceName]bool, len(t.Services))
	for i := range t.Services {
		known[t.Services[i].Name] = true
	}
	g.router.Retire(func(n catalog.ServiceName) bool { return known[n] })
	g.setPeers(t)
	g.s.seams.sweep(g)
	g.endWithdrawn()
	g.oracle.tableApplied(g)
	g.followDrill()
	if !g.saving {
		g.saving = true
		g.after(saveInterval, func() { g.saving, g.saved = false, g.table })
	}
}

// setPeers dials what the rosters name, and ends links to whom they no longer do.
func (g *gateway) setPeers(t *route.Table) {
	for _, to := range g.s.gateways {
		if to.home == g.home {
			continue
		}
		wanted := g.rostered(t, to)
		d := g.dialers[to]
		if d == nil && wanted {
			d = &dialer{from: g, to: to, leads: g.s.leads(g, to)}
			g.dialers[to] = d
		}
		if d != nil {
			d.wish(wanted)
		}
	}
	for _, e := range slices.Clone(g.ends) {
		if !g.s.seams.admits(g, e.far.gateway) {
			e.close(wire.Revoked, true)
		}
	}
}

// rostered reports whether the table says to keep a link to a gateway.
func (g *gateway) rostered(t *route.Table, to *gateway) bool {
	for i := range t.Peers {
		if p := &t.Peers[i]; p.Name == to.home.name {
			return slices.ContainsFunc(p.Gateways, func(x catalog.Gateway) bool {
				return x.Name == to.short || x.Name == "" && slices.Contains(x.Addresses, to.address())
			})
		}
	}
	return false
}

// admits reports whether a gateway may have a link with this one: it is of a peer,
// by its identity.
func (g *gateway) admits(other *gateway) bool {
	return g.table != nil && slices.ContainsFunc(g.table.Peers, func(p route.Peer) bool {
		return p.Name == other.home.name && p.ID+"/gateway/"+other.short == other.id
	})
}

func (g *gateway) address() string { return g.short + "." + string(g.home.name) + ".test:7443" }

// forget takes an end out of the list.
func (g *gateway) forget(e *end) {
	g.ends = slices.DeleteFunc(g.ends, func(o *end) bool { return o == e })
}

// links is what the board reads.
func (g *gateway) links() []board.Link {
	out := make([]board.Link, 0, len(g.ends))
	for _, e := range g.ends {
		out = append(out, board.Link{Cluster: e.far.gateway.home.name, Up: e.open, RTT: e.rtt})
	}
	return out
}

func (g *gateway) reachable(c catalog.ClusterName) bool {
	return slices.ContainsFunc(g.ends, func(e *end) bool { return e.far.gateway.home.name == c })
}

func (g *gateway) endTo(to *gateway) *end {
	for _, e := range g.ends {
		if e.far.gateway == to {
			return e
		}
	}
	return nil
}

// route is the link that a stream to a cluster takes: they take turns.
func (g *gateway) route(c catalog.ClusterName) *end {
	g.turn++
	for i := range g.ends {
		if e := g.ends[(g.turn+i)%len(g.ends)]; e.far.gateway.home.name == c {
			return e
		}
	}
	return nil
}

func (g *gateway) linksChanged() {
	g.board.Touch()
	g.refresh()
	g.home.nudgeSoon(g)
}

// refresh compiles soon: at once, or when MinInterval has passed.
func (g *gateway) refresh() {
	due := max(g.now, g.refreshed+board.MinInterval)
	if g.refreshDue != 0 && g.refreshDue <= due {
		return
	}
	g.plan(due)
}

func (g *gateway) plan(due time.Duration) {
	g.refreshDue = due
	g.refreshes++
	turn := g.refreshes
	g.at(due, func() {
		if g.refreshes != turn {
			return
		}
		g.refreshed, g.refreshDue = g.now, 0
		next := g.board.Refresh()
		g.oracle.planMade(g)
		g.plan(max(g.now+board.MinInterval, g.now+min(next.Sub(g.clock()), time.Second)))
	})
}

// subscribe follows a federation of the own cluster, and tries again.
func (g *gateway) subscribe() {
	if g.fed == nil {
		if f := g.home.fed; f.up && !g.home.parted[g] {
			g.fed = f
			f.after(localDelay, func() { f.subscribed(g) })
		}
	}
	g.after(g.between(400*time.Millisecond, 600*time.Millisecond), g.subscribe)
}

// reports tells the federation and the peers how this gateway is.
func (g *gateway) reports() {
	if f := g.home.fed; f.up && !g.home.parted[g] {
		r := g.report()
		f.after(localDelay, func() {
			f.takeReport(g, r)
			g.after(localDelay, func() { g.heard = g.clock() })
		})
	}
	if g.board.Plan() != nil {
		own := g.board.OwnReport(g.forAll)
		for _, e := range g.ends {
			g.s.seams.sendReport(e, own)
		}
	}
	g.after(g.between(reportInterval-50*time.Millisecond, reportInterval+50*time.Millisecond), g.reports)
}

// sendReport puts a report on the control stream: one that was not sent is
// replaced, since it is worth nothing beside a newer one.
func (e *end) sendReport(r wire.Report) {
	if len(e.control.waiting) > 0 {
		return
	}
	e.queueReport(r)
}

func (e *end) queueReport(r wire.Report) {
	far, from := e.far, e.gateway
	e.report++
	e.control.send(func() {
		e.report--
		g := far.gateway
		g.board.TakeReport(from.home.name, from.short, r)
		g.marked()
	})
	from.oracle.queued(from.name, "control stream", len(e.control.waiting), maxControlQueue)
}

// forAll says which services may be named to every linked gateway.
func (g *gateway) forAll(exportedTo []catalog.ClusterName) bool {
	for _, p := range g.board.Plan().Table().Peers {
		if !slices.Contains(exportedTo, p.Name) {
			return false
		}
	}
	return true
}

func (g *gateway) report() *route.Report {
	now := g.clock()
	r := &route.Report{
		Gateway: catalog.Gateway{Name: g.short, ID: g.id, Addresses: []string{g.address()}},
		Control: "127.0.0.1:7482", At: now, StartedAt: zero,
	}
	for _, e := range g.ends {
		r.Links = append(r.Links, route.LinkReport{Cluster: e.far.gateway.home.name, Gateway: e.far.gateway.short, State: "up"})
	}
	if p := g.board.Plan(); p != nil {
		r.Epoch, r.Version = p.Table().Epoch, p.Table().Version
		r.Fill(g.board.Evidence(), g.board.Live(), now.UnixNano())
	}
	return r
}
