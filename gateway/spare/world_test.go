package spare_test

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/board"
	"github.com/isthmus-mesh/isthmus/gateway/health"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// The world of these tests: three regions with two gateways each, the real boards and
// routers of gateways, and loads that travel as bytes and arrive a while later. Time is
// a number.
const (
	regions   = 3
	gateways  = 2
	instances = 20                     // of a large region
	takes     = 400 * time.Millisecond // a call
	away      = 40 * time.Millisecond  // from region to region
	tick      = 250 * time.Millisecond
)

var web = catalog.MustServiceName("web")

type world struct {
	t        *testing.T
	each     uint32 // calls at once of an instance
	count    int    // of instances in a region
	now      time.Time
	rnd      *rand.Rand
	events   events
	gateways [regions][gateways]*gateway
	dead     [regions]bool // no link reaches it
	inFlight [regions]int
	peak     [regions]int
	area     [regions]time.Duration // calls x time, since it was asked for last
	since    [regions]time.Time
	served   [route.Priorities]int
	failed   [route.Priorities]int
	refused  int // by a far gateway
	turn     int
	frames   int
}

type gateway struct {
	region, index int
	board         *board.Board
	router        *attempt.Router
}

func name(region int) catalog.ClusterName { return catalog.ClusterName(fmt.Sprintf("r%d", region)) }

// newWorld is regions of count instances that take each calls at once.
func newWorld(t *testing.T, seed uint64, count, each int) *world {
	w := &world{t: t, each: uint32(each), count: count, now: epoch, rnd: rand.New(rand.NewPCG(seed, 11))}
	now := func() time.Time { return w.now }
	for r := range regions {
		for i := range gateways {
			g := &gateway{region: r, index: i}
			var err error
			g.board, err = board.New(board.Options{
				Cluster: name(r), Random: w.rnd.Uint64, Now: now,
				Links: func() (links []board.Link) {
					for peer := range regions {
						if peer != r {
							links = append(links, board.Link{Cluster: name(peer), Up: !w.dead[peer] && !w.dead[r], RTT: 2 * away})
						}
					}
					return links
				},
			})
			if err == nil {
				g.router, err = attempt.New(attempt.Options{
					Board: g.board, Random: w.rnd.Uint64, Now: now,
					Reachable: func(c catalog.ClusterName) bool { return true },
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			g.board.SetTable(w.table(r))
			g.board.TakeShares(w.now, &route.Shares{Gateways: gateways})
			w.gateways[r][i] = g
		}
	}
	return w
}

func (w *world) table(region int) *route.Table {
	ports := []catalog.Port{{Name: "http", Protocol: catalog.HTTP}}
	s := route.Service{Name: web, Ports: ports, Traffic: &policy.Traffic{
		Name: "web", Services: []policy.ServicePattern{"*"}, Capacity: &policy.Capacity{PerEndpoint: w.each},
		Priorities: []policy.PriorityRule{
			{Callers: []policy.IDPattern{"spiffe://x.test/critical"}, Priority: policy.CriticalPriority},
			{Callers: []policy.IDPattern{"spiffe://x.test/low"}, Priority: policy.LowPriority},
		},
	}}
	all := []policy.IDPattern{"spiffe://x.test/*"}
	t := &route.Table{
		Format: route.TableFormat, Epoch: 1, Version: 1, Cluster: route.Cluster{Name: name(region), ID: "spiffe://x.test/c"},
		Intentions: []policy.Intention{{Name: "all", Services: []policy.ServicePattern{"*"}, Callers: all, Action: policy.Allow}},
	}
	for i := range w.count {
		s.Endpoints = append(s.Endpoints, catalog.Endpoint{
			ID: fmt.Sprintf("i%02d", i), Port: "http", Weight: 1, Health: catalog.Passing,
			Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(i+1)),
		})
	}
	for peer := range regions {
		if peer == region {
			continue
		}
		t.Peers = append(t.Peers, route.Peer{Name: name(peer), ID: "spiffe://x.test/p", Asserts: all, HeardAt: epoch})
		s.ExportedTo = append(s.ExportedTo, name(peer))
		s.Remote = append(s.Remote, route.Remote{Cluster: name(peer), Name: web, Ports: ports, Rows: []catalog.SummaryRow{{Port: "http", Ready: uint32(w.count), Total: uint32(w.count)}}})
	}
	t.Services = []route.Service{s}
	return t
}

// events are what happens, in order of time.
type event struct {
	at time.Time
	do func()
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (w *world) after(d time.Duration, do func()) { heap.Push(&w.events, event{w.now.Add(d), do}) }

func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for len(w.events) > 0 && !w.events[0].at.After(end) {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

// beat keeps the plans fresh.
func (w *world) beat() {
	for r := range regions {
		for _, g := range w.gateways[r] {
			g.tell(w)
		}
	}
	w.after(tick, w.beat)
}

// tell refreshes a gateway's plan and sends what is due of its loads.
func (g *gateway) tell(w *world) {
	if w.dead[g.region] {
		return
	}
	g.board.Refresh()
	of := g.board.Loads()
	for peer := range regions {
		for _, far := range w.gateways[peer] {
			if peer == g.region || w.dead[peer] {
				continue
			}
			load, due := of(name(peer), fmt.Sprint(far.index))
			if !due {
				continue
			}
			frame, err := wire.AppendLoad(nil, &load)
			if err != nil {
				w.t.Fatal(err)
			}
			w.after(away, func() { far.hear(w, g, frame) })
		}
	}
}

func (g *gateway) hear(w *world, from *gateway, frame []byte) {
	w.frames++
	n := 1 << (frame[1] >> 6) // of the length, after the type
	load, err := wire.ParseLoad(frame[1+n:])
	if err != nil {
		w.t.Fatal(err)
	}
	g.board.TakeLoad(name(from.region), fmt.Sprint(from.index), load)
	select {
	case <-g.board.LoadNews():
		w.after(board.MinInterval, func() { g.tell(w) })
	default:
		g.board.Refresh()
	}
}

// callers of a region come at a rate, as a Poisson process, to either gateway.
func (w *world) callers(region int, of func() float64, mix route.ByPriority) {
	rate := of()
	gap := time.Second / 10
	if rate > 0 {
		gap = time.Duration(-math.Log(1-w.rnd.Float64()) / rate * float64(time.Second))
	}
	w.after(gap, func() {
		if rate > 0 {
			w.call(region, mix)
		}
		w.callers(region, of, mix)
	})
}

func (w *world) call(region int, mix route.ByPriority) {
	u, p := w.rnd.Float64(), route.PriorityLow
	switch {
	case u < mix[route.PriorityCritical]:
		p = route.PriorityCritical
	case u < mix[route.PriorityCritical]+mix[route.PriorityDefault]:
		p = route.PriorityDefault
	}
	g := w.gateways[region][w.rnd.IntN(gateways)]
	s, err := g.router.Start(attempt.Call{Service: web, Caller: "spiffe://x.test/" + p.String()})
	if err != nil {
		w.t.Fatal(err)
	}
	w.try(g, s, p)
}

func (w *world) try(g *gateway, s *attempt.Sequence, p route.Priority) {
	a, err := s.Next()
	if err != nil {
		w.failed[p]++
		return
	}
	if a.Choice.Endpoint != nil {
		w.serve(g.region, func() { a.Answered(true); a.End(); w.served[p]++ })
		return
	}
	w.turn++
	var region int
	if _, err := fmt.Sscanf(string(a.Choice.Target.Cluster), "r%d", &region); err != nil {
		w.t.Fatal(err)
	}
	far := w.gateways[region][w.turn%gateways]
	w.after(away, func() {
		h := a.Header("", time.Time{})
		in, err := far.router.StartInbound(attempt.Call{Service: web, Caller: h.Caller, Priority: route.Priority(h.Priority)}, name(g.region))
		if err != nil {
			w.t.Fatal(err)
		}
		inbound, err := in.Next()
		if err != nil {
			failed, _ := errors.AsType[*attempt.Error](err)
			w.after(away, func() { w.again(g, s, a, failed, p) })
			return
		}
		w.serve(region, func() {
			inbound.Answered(true)
			inbound.End()
			w.after(away, func() { a.Answered(true); a.End(); w.served[p]++ })
		})
	})
}

// again goes on after the far gateway has refused.
func (w *world) again(g *gateway, s *attempt.Sequence, a *attempt.Attempt, failed *attempt.Error, p route.Priority) {
	w.refused++
	err := &tunnel.RefusedError{Cluster: string(a.Choice.Target.Cluster), Status: failed.Status}
	delay, final := a.Failed(context.Background(), err, attempt.IfUndelivered)
	if final != nil {
		w.failed[p]++
		return
	}
	w.after(delay, func() { s.GoesOn(err); w.try(g, s, p) })
}

// load is the mean of the calls in a region since it was asked for last.
func (w *world) load(region int, over time.Duration) int {
	w.change(region, 0)
	mean := int(w.area[region] / over)
	w.area[region] = 0
	return mean
}

func (w *world) change(region, by int) {
	w.area[region] += w.now.Sub(w.since[region]) * time.Duration(w.inFlight[region])
	w.since[region] = w.now
	w.inFlight[region] += by
}

func (w *world) serve(region int, done func()) {
	w.change(region, 1)
	w.peak[region] = max(w.peak[region], w.inFlight[region])
	w.after(takes, func() { w.change(region, -1); done() })
}

// die makes some of a region's instances fail; its gateways live.
func (w *world) die(region, from, to int) {
	for _, g := range w.gateways[region] {
		for i := from; i < to; i++ {
			g.board.SetHealth(route.EndpointKey{Service: web, Port: "http", ID: fmt.Sprintf("i%02d", i)}, health.State{Reason: "dead", Since: w.now})
		}
		g.tell(w)
	}
}

// vanish takes a region off the net, gateways and all.
func (w *world) vanish(region int) {
	w.dead[region] = true
	for r := range regions {
		for _, g := range w.gateways[r] {
			g.tell(w)
		}
	}
}

func (w *world) forget() {
	w.served, w.failed, w.refused = [route.Priorities]int{}, [route.Priorities]int{}, 0
	w.peak = w.inFlight
	for r := range regions {
		w.load(r, 1)
	}
}

func (w *world) success(p route.Priority) float64 {
	if w.served[p]+w.failed[p] == 0 {
		return 1
	}
	return float64(w.served[p]) / float64(w.served[p]+w.failed[p])
}
