package tunnel

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/tunnel/ladder"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// A target dials QUIC for as long as it is wanted, and beside it, in a goroutine of
// its own, the TLS lane while its ladder says so (package ladder).

// rung is what a target knows of its gateway's lanes. node.mu guards it.
type rung struct {
	ladder *ladder.Ladder
	up     bool   // a link of QUIC takes streams, whoever dialed it
	silent bool   // the last one that went was not heard any more
	reason string // why TLS could not be dialed last
	news   chan struct{}
}

func newRung() rung { return rung{ladder: ladder.New(time.Now()), news: make(chan struct{}, 1)} }

// inform tells the ladders what has become of the links of QUIC. mu is held.
func (n *Node) inform(now time.Time) {
	if n.o.TLS == nil {
		return
	}
	for _, t := range n.targets {
		up := false
		for l := range n.links {
			up = up || l.lane == LaneQUIC && l.takes() && t.want.accepts(l.remote)
		}
		switch {
		case up && !t.rung.up:
			t.rung.ladder.Up(now)
		case !up && t.rung.up:
			t.rung.ladder.Down(now, t.rung.silent)
		default:
			continue
		}
		t.rung.up, t.rung.silent = up, false
		notify(t.rung.news)
	}
}

// fellSilent is told that a link of QUIC is about to be closed because it is not
// heard any more.
func (n *Node) fellSilent(l *link) {
	if l.lane != LaneQUIC || n.o.TLS == nil {
		return
	}
	var beside []*link
	n.mu.Lock()
	for _, t := range n.targets {
		t.rung.silent = t.rung.silent || t.want.accepts(l.remote)
	}
	for o := range n.links {
		if o.lane == LaneTLS && o.remote == l.remote {
			beside = append(beside, o)
		}
	}
	n.mu.Unlock()
	for _, o := range beside {
		o.doubt(time.Now())
	}
}

// climb has the ladders of a gateway looked at.
func (n *Node) climb(r Remote) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.targets {
		if t.want.accepts(r) {
			notify(t.rung.news)
		}
	}
}

// trusts reports whether QUIC of a gateway may be used as soon as it is up. mu is held.
func (n *Node) trusts(r Remote, now time.Time) bool {
	for _, t := range n.targets {
		if t.rung.up && t.want.accepts(r) && !t.rung.ladder.Trusted(now) {
			return false
		}
	}
	return true
}

// decide asks the ladder. trusted is for who has to be told when it changes.
func (t *target) decide(now time.Time, have bool) (w wanted, want, trusted bool, again time.Duration) {
	n := t.node
	n.mu.Lock()
	defer n.mu.Unlock()
	late := false
	for l := range n.links {
		p := l.probes.Load()
		late = late || p != nil && l.lane == LaneQUIC && p.late.Load() && t.want.accepts(l.remote)
	}
	want, again = t.rung.ladder.Decide(now, late, have)
	return t.want, want && len(t.want.addresses) > 0, t.rung.ladder.Trusted(now), again
}

// keepLane keeps a TLS link while the ladder wants one, until the target is stopped.
func (t *target) keepLane(l *link) {
	var b liveness.Backoff
	var after time.Time // no attempt before
	trusted := true
	for turn := 0; ; {
		if l != nil && l.leaving() {
			// It finishes its streams by itself, or it is gone.
			t.node.disown(l)
			b.Ended(time.Since(l.born))
			after, l = time.Now().Add(b.Next(rand.Float64())), nil
		}
		now := time.Now()
		w, want, trusts, again := t.decide(now, l != nil)
		if trusts != trusted {
			trusted = trusts
			t.node.reroute()
		}
		switch {
		case l != nil && (!want || !slices.Contains(w.addresses, l.address)):
			t.node.disown(l)
			l.drain(wire.Replaced.String(), true)
			l = nil
			continue
		case l != nil && l.hasSuccessor() && !now.Before(after):
			// The other process answers at the same address; this link is left when that
			// one is up.
			next, err := t.node.connect(t.ctx, LaneTLS, t, w, l.address)
			if t.noteLane(l.address, err); err != nil {
				after = time.Now().Add(b.Next(rand.Float64()))
				continue
			}
			t.node.disown(l)
			l.drain(wire.Replaced.String(), true)
			l = next
			continue
		case want && l == nil && !now.Before(after):
			address := w.addresses[turn%len(w.addresses)]
			turn++
			next, err := t.node.connect(t.ctx, LaneTLS, t, w, address)
			t.noteLane(address, err)
			if err != nil {
				after = time.Now().Add(b.Next(rand.Float64()))
			}
			l = next
			if t.ctx.Err() == nil {
				continue
			}
		case want && (l == nil || l.hasSuccessor()):
			again = after.Sub(now)
		}
		if !t.rest(l, again) {
			t.letGo(l)
			return
		}
	}
}

// rest waits for news of the lanes, at most for again if that is above 0; false means
// stopped.
func (t *target) rest(l *link, again time.Duration) bool {
	var ended, drained, succeeded <-chan struct{}
	if l != nil {
		ended, drained = l.ctx.Done(), l.drained
		if !l.hasSuccessor() { // else it is known
			succeeded = l.succeeded
		}
	}
	var timeout <-chan time.Time
	if again > 0 {
		timer := time.NewTimer(again)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-t.ctx.Done():
		return false
	case <-t.rung.news:
	case <-timeout:
	case <-succeeded:
	case <-ended:
	case <-drained:
	}
	return t.ctx.Err() == nil
}

// noteLane says why TLS cannot be dialed, once per reason.
func (t *target) noteLane(address string, err error) {
	n := t.node
	reason := ""
	if err != nil {
		reason = reasonOf(err)
	}
	n.mu.Lock()
	news := reason != t.rung.reason
	t.rung.reason = reason
	cluster, gateway := t.want.cluster, t.want.name
	n.mu.Unlock()
	if err == nil || t.ctx.Err() != nil {
		return
	}
	log := n.log.Debug
	if news {
		log = n.log.Info
	}
	log("cannot link by tls", "cluster", cluster, "gateway", gateway, "address", address, "lane", string(LaneTLS), "reason", reason, "err", err)
}
