package tunnel

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// target keeps a link to one gateway that we should dial.
type target struct {
	node *Node
	ctx  context.Context
	stop context.CancelFunc
	// changed says that want changed, kicked that dialing may work now.
	changed, kicked chan struct{}
	// first is a link that another target dialed, to start with; firstLane one of TLS.
	first, firstLane *link

	// Guarded by node.mu.
	want    wanted
	reason  string // why the last attempt failed; empty before the first
	since   time.Time
	address string // tried last
	rung    rung
}

func (n *Node) newTarget(w wanted, first, firstLane *link) *target {
	return &target{
		node: n, want: w, first: first, firstLane: firstLane, rung: newRung(), since: time.Now(), stop: func() {},
		changed: make(chan struct{}, 1), kicked: make(chan struct{}, 1),
	}
}

// startTarget starts t's goroutine. node.mu is held.
func (n *Node) startTarget(t *target) {
	t.ctx, t.stop = context.WithCancel(n.ctx)
	if !n.spawnLocked(t.run) {
		t.stop()
	}
	if n.o.TLS != nil {
		n.spawnLocked(func() { t.keepLane(t.firstLane) })
	}
}

// info describes a target without a link. node.mu is held.
func (t *target) info() LinkInfo {
	i := LinkInfo{
		Cluster: t.want.cluster, Gateway: t.want.name, Address: t.address, Dialed: true,
		Lane: LaneQUIC, State: StateConnecting, Reason: t.reason, Since: t.since,
	}
	if t.reason != "" {
		i.State = StateDown
	}
	return i
}

// wish returns what is wanted now.
func (t *target) wish() wanted {
	t.node.mu.Lock()
	defer t.node.mu.Unlock()
	return t.want
}

// run keeps the link until the target is stopped.
func (t *target) run() {
	var b liveness.Backoff
	l := t.first
	for turn := 0; ; turn++ {
		if l == nil {
			w, ok := t.dialable()
			if !ok {
				return
			}
			address := w.addresses[turn%len(w.addresses)]
			t.note(address, nil)
			var err error
			l, err = t.node.connect(t.ctx, LaneQUIC, t, w, address)
			if t.ctx.Err() != nil {
				t.letGo(l)
				return
			}
			if errors.Is(err, errHeard) {
				l = nil
				continue
			}
			if err != nil {
				l = nil
				t.note(address, err)
				if !t.pause(b.Next(rand.Float64())) {
					return
				}
				continue
			}
		}
		lasted := t.hold(l)
		l = nil
		b.Ended(lasted)
		if !t.pause(b.Next(rand.Float64())) {
			return
		}
	}
}

// errHeard ends an attempt to dial a gateway that has dialed us meanwhile.
var errHeard = errors.New("the gateway has been heard: dialing anew")

// untilHeard returns the context of an attempt. An attempt that began while the
// gateway was away sends its first packet again after ever longer pauses, which
// another one need not wait for: so it ends when the gateway has been heard,
// but not before it has lasted for kickPause, in which a gateway that is there
// answers. A wish that was not used is passed on when the attempt ends.
func (t *target) untilHeard(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	began := time.Now()
	t.node.spawn(func() {
		select {
		case <-ctx.Done():
			return
		case <-t.kicked:
		}
		if sleep(ctx, kickPause-time.Since(began)) {
			cancel(errHeard)
			return
		}
		notify(t.kicked)
	})
	return ctx, func() { cancel(nil) }
}

// dialable waits until there is something to dial; false means stopped. A gateway
// that the roster calls draining is dialed, too: if it is, its hello refuses, and
// if it has restarted since, only a link can bring the roster that says so.
func (t *target) dialable() (wanted, bool) {
	for {
		w := t.wish()
		if len(w.addresses) > 0 {
			return w, t.ctx.Err() == nil
		}
		select {
		case <-t.ctx.Done():
			return w, false
		case <-t.changed:
		case <-t.kicked: // without an address there is nothing to try
		}
	}
}

// note records an attempt, or why it failed.
func (t *target) note(address string, err error) {
	n := t.node
	n.mu.Lock()
	news := t.address != address
	t.address = address
	if err != nil {
		reason := reasonOf(err)
		if news = reason != t.reason; news {
			t.reason, t.since = reason, time.Now()
		}
	}
	cluster, gateway, reason := t.want.cluster, t.want.name, t.reason
	n.mu.Unlock()
	if err != nil {
		// Loud once per reason: a region that is away for a day is not news every
		// 30 seconds.
		if news {
			n.log.Warn("cannot link", "cluster", cluster, "gateway", gateway, "address", address, "reason", reason, "err", err)
		} else {
			n.log.Debug("cannot link", "cluster", cluster, "gateway", gateway, "address", address, "reason", reason, "err", err)
		}
	}
	if news {
		n.reroute()
	}
}

// linked forgets the failures before a link.
func (t *target) linked() {
	t.node.mu.Lock()
	defer t.node.mu.Unlock()
	t.reason, t.since = "", time.Now()
}

// pause waits for d, less when there is news; false means stopped.
func (t *target) pause(d time.Duration) bool {
	began := time.Now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-t.changed:
			return true
		case <-t.kicked:
			// Whoever can make a peer dial us must not make us dial in a loop.
			timer.Reset(max(0, min(d, kickPause)-time.Since(began)))
		}
	}
}

// hold watches over l, renews it before it expires and moves it when its address
// is no longer wanted, until there is no link to watch. It returns how long the
// last one was up.
func (t *target) hold(l *link) time.Duration {
	t.linked()
	var b liveness.Backoff // of renewals that fail
	timer := time.NewTimer(renewIn(l, rand.Float64()))
	defer timer.Stop()
	succeeded := l.succeeded
	renew := func(w wanted) {
		address := l.address
		if !slices.Contains(w.addresses, address) {
			address = w.addresses[rand.IntN(len(w.addresses))]
		}
		next, err := t.node.connect(t.ctx, LaneQUIC, t, w, address)
		if err != nil {
			t.node.log.Warn("cannot renew link", "cluster", l.remote.Cluster, "gateway", l.remote.Gateway, "address", address, "reason", reasonOf(err), "err", err)
			timer.Reset(min(renewMin+b.Next(rand.Float64()), renewIn(l, 0)))
			return
		}
		b = liveness.Backoff{}
		t.node.disown(l)
		l.drain(wire.Replaced.String(), true)
		l, succeeded = next, next.succeeded
		timer.Reset(renewIn(l, rand.Float64()))
	}
	for {
		select {
		case <-t.ctx.Done():
			t.letGo(l)
			return 0
		case <-succeeded:
			// The other process answers at the same address, and this link is left
			// when that one is up.
			succeeded = nil
			if w := t.wish(); len(w.addresses) > 0 {
				renew(w)
			}
		case <-l.ctx.Done():
			return time.Since(l.born)
		case <-l.drained:
			// It finishes its streams by itself; the peer's successor, or the peer
			// itself after a restart, may answer at the same address.
			t.node.disown(l)
			return 0
		case <-t.changed:
			switch w := t.wish(); {
			case w.draining:
				l.drain(wire.Draining.String(), false)
			case len(w.addresses) > 0 && (!slices.Contains(w.addresses, l.address) || l.leaving()):
				renew(w)
			}
		case <-l.extended:
			timer.Reset(renewIn(l, rand.Float64()))
		case <-timer.C:
			if w := t.wish(); len(w.addresses) > 0 && !w.draining {
				renew(w)
			} else {
				timer.Reset(renewIn(l, rand.Float64()))
			}
		}
	}
}

// letGo closes l unless another target took it over.
func (t *target) letGo(l *link) {
	if l == nil || !t.node.owns(t, l) {
		return
	}
	status := wire.Replaced
	if _, admitted := t.node.roster.Load().lookup(l.remote.ID); !admitted {
		status = wire.Revoked // the sweep that is about to say so may come second
	}
	if t.node.ending() {
		status = wire.Draining
	}
	l.close(status, nil)
}

// renewIn is when to renew a link, from now.
func renewIn(l *link, random float64) time.Duration {
	left := float64(time.Until(l.expires()))
	return max(renewMin, time.Duration(left*(renewShare-random*renewSpread)))
}

// kick tells the targets of a gateway that dialing may work now: it just dialed
// us.
func (n *Node) kick(r Remote) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.targets {
		if t.want.accepts(r) {
			notify(t.kicked)
		}
	}
}

// canDial reports whether there is an address at which a gateway may be dialed.
func (n *Node) canDial(r Remote) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.targets {
		if t.want.accepts(r) && len(t.want.addresses) > 0 {
			return true
		}
	}
	return false
}

// notify sends without waiting; ch has room for one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func (n *Node) owns(t *target, l *link) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return l.owner == t
}

// disown leaves a link to itself.
func (n *Node) disown(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l.owner = nil
}

func (n *Node) ending() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stopped
}
