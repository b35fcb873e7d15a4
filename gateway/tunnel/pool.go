package tunnel

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// pool holds the connections of a TLS link that carry a stream each. The side that
// dialed the link dials them all, a few ahead of what is used, so that a stream waits
// for no handshake; it opens streams on its own, and the other side on those of a
// second set (callback), where it has no link of its own.
type pool struct {
	link *link

	mu      sync.Mutex
	idle    []*connection // of those that streams are opened on here, the last used last
	since   map[*connection]time.Time
	busy    int
	waiters int
	free    broadcast
	numbers map[uint32]bool // in use, at the side that dialed
	sets    [2]poolSet      // at the side that dialed: own and callback
	news    chan struct{}
	closed  bool
}

// poolSet is what the side that dialed knows of one set.
type poolSet struct {
	first         uint32
	wanted        bool
	open, dialing int
	busy          int
	failing       liveness.Backoff
	after         time.Time // no attempt before
}

func newPool(l *link) *pool {
	p := &pool{link: l, numbers: make(map[uint32]bool), since: make(map[*connection]time.Time), news: make(chan struct{}, 1)}
	p.sets[0] = poolSet{first: poolNumber, wanted: true}
	p.sets[1] = poolSet{first: callbackPoolNumber}
	return p
}

// ready reports whether a stream may be opened, perhaps after a handshake.
func (p *pool) ready() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link.dialed || len(p.idle)+p.busy > 0
}

// opens reports whether streams are opened on c at this end.
func (p *pool) opens(c *connection) bool {
	return p.link.dialed == (c.number < callbackPoolNumber)
}

// take takes an idle connection, or waits for one at most until ctx ends.
func (p *pool) take(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, poolWait, errNoCredit)
	defer cancel()
	for {
		news := p.free.next()
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errGone
		}
		if n := len(p.idle); n > 0 {
			c := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.busy++
			p.mu.Unlock()
			notify(p.news)
			if c.tcp.Unpark() {
				return c, nil
			}
			p.mu.Lock()
			p.busy--
			p.mu.Unlock()
			continue
		}
		if p.busy >= maxPool {
			p.mu.Unlock()
			return nil, errNoCredit
		}
		p.waiters++
		p.mu.Unlock()
		notify(p.news)
		select {
		case <-news:
		case <-p.link.ctx.Done():
		case <-ctx.Done():
		}
		p.mu.Lock()
		p.waiters--
		p.mu.Unlock()
		if p.link.ctx.Err() != nil {
			return nil, errGone
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// lend serves a connection on which streams are opened at this end, until it ends.
func (p *pool) lend(c *connection) {
	busy := false
	for c.alive() {
		c.tcp.Park()
		p.mu.Lock()
		if busy {
			p.busy--
		}
		p.idle, p.since[c] = append(p.idle, c), time.Now()
		p.mu.Unlock()
		p.free.wake()
		p.link.node.httpNews.wake()
		select {
		case <-c.tcp.Freed():
			busy = true
		case <-c.qc.Context().Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.since, c)
	for i, o := range p.idle {
		if o == c {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
	p.busy-- // it ended under a stream
}

// serveTurns serves a connection of a pool: streams, one after the other.
func (n *Node) serveTurns(c *connection) {
	defer c.tcp.Wait()
	p := c.link.Load().pool
	if p.opens(c) {
		p.lend(c)
		return
	}
	for {
		s, err := c.tcp.Accept()
		if err != nil {
			return
		}
		p.occupied(c, 1)
		n.serveStream(c, s)
		select {
		case <-c.tcp.Freed():
		case <-c.qc.Context().Done():
		}
		p.occupied(c, -1)
	}
}

// occupied counts the peer's streams on connections that we dial for it.
func (p *pool) occupied(c *connection, by int) {
	if !p.link.dialed || c.number < callbackPoolNumber {
		return
	}
	p.mu.Lock()
	p.sets[1].busy += by
	p.mu.Unlock()
	notify(p.news)
}

// callback has connections kept for the other side's streams, too.
func (p *pool) callback() {
	p.mu.Lock()
	p.sets[1].wanted = true
	p.mu.Unlock()
	notify(p.news)
}

// keep dials connections ahead of what is used, and lets those go that have long not
// been, until the link ends.
func (p *pool) keep(addr net.Addr) {
	defer func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		p.free.wake()
	}()
	timer := time.NewTicker(housekeeping)
	defer timer.Stop()
	for {
		for set := range p.sets {
			for range p.short(set, time.Now()) {
				number := p.begin(set)
				if number == 0 || !p.link.node.spawn(func() { p.dial(addr, set, number) }) {
					break
				}
			}
		}
		select {
		case <-p.link.ctx.Done():
			return
		case <-p.news:
		case <-timer.C:
			p.trim(time.Now())
		}
	}
}

// short is how many connections of a set to dial now.
func (p *pool) short(set int, now time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.sets[set]
	if !s.wanted || now.Before(s.after) || p.link.leaving() {
		return 0
	}
	idle, busy, waiters := len(p.idle), p.busy, p.waiters
	if set == 1 {
		idle, busy, waiters = s.open-s.busy, s.busy, 0
	}
	spare := min(max(poolSpare, busy/4), maxPoolSpare)
	return min(waiters+spare-idle-s.dialing, poolDials-s.dialing, maxPool-s.open-s.dialing)
}

// begin reserves a number for a connection; 0 is none.
func (p *pool) begin(set int) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.sets[set]
	for i := range uint32(maxPool) {
		if number := s.first + i; !p.numbers[number] {
			p.numbers[number] = true
			s.dialing++
			return number
		}
	}
	return 0
}

// dial dials one connection and serves it until it ends.
func (p *pool) dial(addr net.Addr, set int, number uint32) {
	start := time.Now()
	joined := false
	err := p.link.node.serveDialed(p.link, addr, number, func() {
		joined = true
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sets[set].dialing--
		p.sets[set].open++
		p.sets[set].failing = liveness.Backoff{}
	})
	p.mu.Lock()
	s := &p.sets[set]
	delete(p.numbers, number)
	if joined {
		s.open--
	} else {
		s.dialing--
		s.after = time.Now().Add(s.failing.Next(rand.Float64()))
	}
	p.mu.Unlock()
	p.link.node.log.Debug("connection of a link ended", "cluster", p.link.remote.Cluster, "gateway", p.link.remote.Gateway,
		"lane", string(p.link.lane), "reason", reasonOf(err), "duration", time.Since(start), "err", err)
	notify(p.news)
}

// trim closes a connection that has long been idle, one a round.
func (p *pool) trim(now time.Time) {
	p.mu.Lock()
	var c *connection
	if len(p.idle) > max(poolSpare, p.busy/4) && now.Sub(p.since[p.idle[0]]) >= poolIdle {
		c = p.idle[0]
		p.idle = p.idle[1:]
		p.busy++ // until it has ended
	}
	p.mu.Unlock()
	if c != nil && c.tcp.Unpark() {
		c.cut(wire.Replaced)
	}
}

// openTurn opens a stream on a connection of its own.
func (l *link) openTurn(ctx context.Context, opening []byte, began func(*Stream)) (*Stream, error) {
	c, err := l.pool.take(ctx)
	if err != nil {
		if errors.Is(err, errGone) || errors.Is(err, errNoCredit) || ctx.Err() == nil {
			return nil, err
		}
		return nil, context.Cause(ctx)
	}
	s := c.tcp.Open()
	stream := &Stream{half: half{qs: s, conn: c}, link: l, meter: &l.meters.streamOut}
	began(stream)
	if err := writeUntil(ctx, s, opening); err != nil {
		// Half of it may be there, and a record that is cut off ends the connection.
		cancelled(s)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, c.linkError(err, true)
	}
	l.opened(stream)
	return stream, nil
}
