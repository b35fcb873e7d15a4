package tunnel

import (
	"context"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// keep does what recurs: statistics, closing links that have drained, asking to
// be called back, and checking links against new bundles.
func (n *Node) keep(ctx context.Context) {
	updates, cancel := n.o.Identity.Updates()
	defer cancel()
	ticker := time.NewTicker(housekeeping)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-updates:
			n.sweep(true)
			n.reprove()
		case now := <-ticker.C:
			for _, l := range n.allLinks() {
				l.measure()
				l.tellRate(now)
				l.reap(now)
				n.askCallback(l, now)
				if l.proofs != nil {
					l.proofs.askAgain(now, reaskPause)
				}
			}
			n.showPaths()
		}
	}
}

// measure takes the statistics of the link's connections.
func (l *link) measure() {
	l.path.fadeOut()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.connections {
		l.account(c)
	}
}

// account takes the statistics of one connection. mu is held.
func (l *link) account(c *connection) {
	stats := c.qc.ConnectionStats()
	sent, received := l.path.add(c.counted, stats)
	c.counted = stats
	if l.node.knows(l.remote.Cluster) {
		l.node.metrics.bytes.WithLabelValues(l.remote.Cluster, outboundDirection).Add(float64(sent))
		l.node.metrics.bytes.WithLabelValues(l.remote.Cluster, inboundDirection).Add(float64(received))
	}
}

// reap closes the link when we have drained it and its last stream has been over
// for long enough that its end is acknowledged.
func (l *link) reap(now time.Time) {
	l.mu.Lock()
	ours := l.announced && l.state == StateDraining
	if l.streams.Load() > 0 || !ours {
		l.idleSince = time.Time{}
	} else if l.idleSince.IsZero() {
		l.idleSince = now
	}
	over := !l.idleSince.IsZero() && now.Sub(l.idleSince) >= l.linger()
	l.mu.Unlock()
	if over {
		l.close(wire.Replaced, nil)
	}
}

// linger is how long the end of a stream may take to be acknowledged.
func (l *link) linger() time.Duration {
	return max(lingerMin, min(4*time.Duration(l.rttNanos.Load()), lingerMax))
}

// askCallback asks the dialing side of l for connections to send requests on,
// when we cannot dial its gateway.
func (n *Node) askCallback(l *link, now time.Time) {
	if l.dialed || len(*l.http.Load()) > 0 || now.Sub(l.born) < housekeeping || !n.sendsOn(l) {
		return
	}
	l.mu.Lock()
	ask := now.Sub(l.called) >= callbackPause
	if ask {
		l.called = now
	}
	l.mu.Unlock()
	if ask {
		l.out.askCallback()
	}
}

// sendsOn reports whether streams are routed over l.
func (n *Node) sendsOn(l *link) bool {
	return slices.Contains((*n.routes.Load())[l.remote.Cluster], l)
}

// showPaths sets the gauges of each gateway's best link, and of the first to end.
func (n *Node) showPaths() {
	best := make(map[Remote]pathStats)
	ends := make(map[Remote]time.Time)
	for _, l := range n.allLinks() {
		if end := l.expires(); !end.IsZero() && (ends[l.remote].IsZero() || end.Before(ends[l.remote])) {
			ends[l.remote] = end
		}
		s := l.path.read()
		if b, ok := best[l.remote]; s.rtt > 0 && (!ok || s.rtt < b.rtt) {
			best[l.remote] = s
		}
	}
	for r, s := range best {
		if n.knows(r.Cluster) {
			n.metrics.rtt.WithLabelValues(r.Cluster, r.Gateway).Set(s.rtt.Seconds())
			n.metrics.loss.WithLabelValues(r.Cluster, r.Gateway).Set(s.loss)
			n.metrics.showBandwidth(r, outboundDirection, s.rateOut)
			n.metrics.showBandwidth(r, inboundDirection, s.rateIn)
		}
	}
	for r, end := range ends {
		if n.knows(r.Cluster) {
			n.metrics.expires.WithLabelValues(r.Cluster, r.Gateway).Set(float64(end.Unix()))
		}
	}
}
