package simulation

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/health"
	"github.com/isthmus-mesh/isthmus/gateway/origin"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// patience is how long a client waits for an answer.
const patience = 3 * time.Second

// request is what a client asks for; it may be executed more often than once.
type request struct {
	id         uint64
	from       *cluster
	service    catalog.ServiceName
	idempotent bool
	lasts      time.Duration // how long the answer goes on
	executed   int
}

// call is a request at one gateway: the near one or the far one.
type call struct {
	*request
	at       *gateway
	local    bool // at the far gateway
	peer     catalog.ClusterName
	sequence *attempt.Sequence
	ctx      context.Context
	release  func()
	attempt  *attempt.Attempt
	over     bool
	answered bool
	hops     int
	turn     int    // of the attempt
	undo     func() // takes back what the attempt has registered at a link
	tell     func() // tells the far gateway that nobody waits
	// Of a call at the far gateway: answers begins the answer, reply ends the call.
	answers func()
	reply   func(err error)
	tried   []string // endpoints that failed, for the oracle
}

// load makes clients call through a gateway, for as long as the gateway lives.
func (g *gateway) load() {
	s := g.s
	g.engine.after(s.between(0, 2*s.gap), func() {
		if s.now < s.loadEnds {
			s.newCall(g, pick(&s.engine, s.names))
			g.load()
		}
	})
}

func (s *Sim) newCall(g *gateway, service catalog.ServiceName) {
	if !g.up || g.held > s.now {
		return
	}
	s.calls++
	r := &request{id: s.calls, from: g.home, service: service, idempotent: s.chance(0.6)}
	if s.chance(0.1) {
		r.lasts = s.between(time.Second, 6*time.Second)
	}
	c := &call{request: r, at: g, hops: 1}
	sequence, err := g.router.Start(c.ask(service))
	if err != nil {
		s.count(err)
		return
	}
	s.oracle.called(c)
	c.begin(sequence)
}

func (c *call) ask(service catalog.ServiceName) attempt.Call {
	return attempt.Call{Service: service, Caller: callerOf(c.from.name)}
}

func (c *call) begin(sequence *attempt.Sequence) {
	g := c.at
	c.sequence = sequence
	c.ctx, c.release = sequence.Guard(context.Background())
	g.calls = append(g.calls, c)
	g.after(patience+c.lasts, func() { c.giveUp() })
	c.next()
}

// finish ends the call at its gateway.
func (c *call) finish(err error) {
	if c.over {
		return
	}
	c.over = true
	g := c.at
	c.release()
	if c.attempt != nil {
		c.attempt.End()
	}
	if c.tell != nil && err != nil {
		c.tell()
	}
	c.detach()
	g.calls = slices.DeleteFunc(g.calls, func(o *call) bool { return o == c })
	g.marked()
	if c.local {
		c.reply(err)
		return
	}
	g.s.count(err)
	if err == nil {
		g.note(g.name, "call answered", c.id)
	} else {
		g.note(g.name, "call failed", c.id)
		g.say(g.name, "call %d: %v", c.id, err)
	}
}

// detach leaves the link of the attempt.
func (c *call) detach() {
	if c.undo != nil {
		c.undo()
	}
	c.undo, c.tell = nil, nil
}

var errGaveUp = errors.New("the client gave up")

func (c *call) giveUp() {
	if !c.over {
		c.finish(errGaveUp)
	}
}

// next makes the next attempt.
func (c *call) next() {
	g := c.at
	if c.over {
		return
	}
	a, err := g.s.seams.nextAttempt(c)
	if err != nil {
		c.finish(err)
		return
	}
	c.attempt = a
	c.turn++
	g.s.oracle.attempted(c, a)
	g.note(g.name, "call "+c.service.Name()+" goes to "+string(a.Choice.Target.Cluster), c.id)
	if a.Choice.Endpoint != nil {
		c.serve(a.Choice.Name, a.Choice.Endpoint.ID)
		return
	}
	c.carry(a)
}

// carry takes the attempt over a link.
func (c *call) carry(a *attempt.Attempt) {
	g, turn := c.at, c.turn
	cluster := a.Choice.Target.Cluster
	e := g.route(cluster)
	if e == nil {
		c.failed(turn, &tunnel.LinkError{Cluster: string(cluster), Status: wire.Unreachable})
		return
	}
	far := e.far
	there, back := pipe{from: e}, pipe{from: far}
	var inbound *call
	c.undo = e.carries(func(status wire.Status) {
		c.failed(turn, &tunnel.LinkError{Cluster: string(cluster), Gateway: far.gateway.short, Status: status, Delivered: true})
	})
	c.tell = func() {
		there.send(func() {
			if inbound != nil {
				inbound.finish(errGaveUp)
			}
		})
	}
	there.send(func() {
		inbound = far.gateway.inbound(c, a.Choice.Name, far, func(err error) {
			back.send(func() {
				if err == nil {
					c.answer(turn, true)
				} else {
					c.failed(turn, err)
				}
			})
		})
	})
}

// inbound takes a call that a peer's gateway carries.
func (g *gateway) inbound(near *call, service catalog.ServiceName, e *end, reply func(error)) *call {
	c := &call{request: near.request, at: g, local: true, peer: near.at.home.name, hops: near.hops + 1}
	leave := e.carries(func(wire.Status) { c.finish(errGaveUp) })
	c.answers = func() { reply(nil) }
	c.reply = func(err error) {
		leave()
		var failed *attempt.Error
		switch {
		case err == nil || errors.Is(err, errGaveUp): // said when the answer began; nobody waits
		case c.answered:
			reply(&tunnel.ResetError{Status: wire.Reset, Remote: true})
		case errors.As(err, &failed):
			reply(&tunnel.RefusedError{Cluster: string(g.home.name), Gateway: g.short, Status: origin.ReplyTo(failed).Status})
		default:
			panic(err)
		}
	}
	sequence, err := g.s.seams.startInbound(g, c, service)
	if err != nil {
		c.over = true
		c.reply(err)
		return c
	}
	g.s.oracle.called(c)
	c.begin(sequence)
	return c
}

// serve dials an instance of the own cluster.
func (c *call) serve(service catalog.ServiceName, id string) {
	g, turn := c.at, c.turn
	v := g.home.service(service)
	var i *instance
	if v != nil {
		i = v.instance(id)
	}
	dial := g.between(200*time.Microsecond, 600*time.Microsecond)
	g.after(dial, func() {
		if c.over || c.turn != turn {
			return
		}
		if i == nil || !i.registered || i.does == refuses {
			c.failed(turn, &retry.ConnectError{Endpoint: id, Err: syscall.ECONNREFUSED})
			return
		}
		g.s.execute(c, i)
		took := g.between(2*time.Millisecond, 20*time.Millisecond)
		switch i.does {
		case slow:
			took = g.between(500*time.Millisecond, 1500*time.Millisecond)
		case hangs:
			return
		case breaks:
			g.after(took, func() { c.failed(turn, syscall.ECONNRESET) })
			return
		case answers, refuses, fails:
		}
		ok := i.does != fails
		g.after(took, func() { c.answer(turn, ok) })
	})
}

// execute is what the instance does with a request.
func (s *Sim) execute(c *call, i *instance) {
	c.executed++
	s.note(i.endpoint.ID, "executes", c.id)
	s.oracle.executed(c, i)
}

// answer is the answer's beginning; it goes on for as long as the request says.
func (c *call) answer(turn int, ok bool) {
	if c.over || c.turn != turn {
		return
	}
	c.answered = true
	c.attempt.Answered(ok)
	c.at.oracle.answered(c, ok)
	c.at.marked()
	if c.local {
		c.answers()
	}
	c.at.after(c.lasts, func() {
		if !c.over && c.turn == turn {
			c.finish(nil)
		}
	})
}

// failed is the end of an attempt without an answer, or in the midst of one.
func (c *call) failed(turn int, err error) {
	if c.over || c.turn != turn {
		return
	}
	g := c.at
	c.detach()
	if c.answered {
		c.finish(err)
		return
	}
	g.s.oracle.attemptFailed(c, err)
	replay := g.s.seams.replay(c)
	delay, failed := g.s.seams.failed(c, err, replay)
	g.marked()
	if failed != nil {
		c.finish(failed)
		return
	}
	g.s.oracle.retried(c)
	g.after(delay, func() {
		if !c.over && c.turn == turn {
			c.sequence.GoesOn(err)
			c.next()
		}
	})
}

// marked refreshes the board if what it was told may change the plan.
func (g *gateway) marked() {
	if g.board.Marked() {
		g.refresh()
	}
}

// endWithdrawn ends the calls that the router's sweep has taken the right from.
func (g *gateway) endWithdrawn() {
	for _, c := range slices.Clone(g.calls) {
		if c.ctx.Err() != nil && !c.over {
			failed := attempt.Withdrawn(c.ctx)
			g.note(g.name, "call withdrawn", c.id)
			c.finish(failed)
		}
	}
}

// checkHealth checks the own endpoints of the table, each as its policy says.
func (g *gateway) checkHealth() {
	check := policy.HealthCheck{Fall: policy.DefaultCheckFall, Rise: policy.DefaultCheckRise}
	if g.table != nil {
		for k := range g.table.Services {
			row := &g.table.Services[k]
			for j := range row.Endpoints {
				g.check(row.Name, &row.Endpoints[j], check)
			}
		}
	}
	g.after(g.between(900*time.Millisecond, 1100*time.Millisecond), g.checkHealth)
}

func (g *gateway) check(service catalog.ServiceName, e *catalog.Endpoint, check policy.HealthCheck) {
	failure := ""
	i := g.home.service(service).instance(e.ID)
	if !i.registered || i.does == refuses {
		failure = "connect refused"
	}
	streak := g.streaks[i]
	if streak == nil {
		streak = new(health.Streak)
		g.streaks[i] = streak
	}
	if streak.Take(failure, check, g.clock()) {
		state, _ := streak.State()
		g.note(g.name, "finds "+e.ID+" in other health", uint64(len(state.Reason)))
		g.board.SetHealth(endpointKey(service, e), state)
		g.refresh()
	}
}
