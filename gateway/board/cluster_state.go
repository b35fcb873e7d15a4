package board

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Link is one link to a gateway of another cluster, as far as routing cares.
type Link struct {
	Cluster catalog.ClusterName
	// Up links take new streams; Draining ones finish those they have.
	Up, Draining bool
	// RTT is smoothed; 0 is not measured.
	RTT time.Duration
	// Loss is the share of packets lost lately.
	Loss float64
	// BandwidthOut and BandwidthIn are in bytes per second; 0 is not measured.
	BandwidthOut, BandwidthIn uint64
}

// rttWindow is how many readings the distance of a cluster is the least of: a
// burst of queueing in one second is not a longer way.
const (
	rttWindow   = 5
	rttInterval = time.Second
)

// clusterState is what is known of the links to one cluster.
type clusterState struct {
	evidence route.LinkEvidence
	wasUp    bool
	ramp     route.Ramp
	next     time.Time // when the ramp changes
	distance route.Distance
	rtts     [rttWindow]time.Duration
	rttAt    time.Time
	rttIndex int
}

func (b *Board) cluster(name catalog.ClusterName) *clusterState {
	c := b.clusters[name]
	if c == nil {
		c = new(clusterState)
		b.clusters[name] = c
	}
	return c
}

// readLinks takes the links' state into the clusters'. b.compiling is held.
func (b *Board) readLinks(now time.Time) {
	best := make(map[catalog.ClusterName]Link, len(b.table.Peers))
	for _, l := range b.o.Links() {
		have, ok := best[l.Cluster]
		out, in := max(l.BandwidthOut, have.BandwidthOut), max(l.BandwidthIn, have.BandwidthIn)
		if !ok || better(l, have) {
			have = l
		}
		// The bulk may have gone over another link of as many as there are.
		have.BandwidthOut, have.BandwidthIn = out, in
		best[l.Cluster] = have
	}
	for i := range b.table.Peers {
		name := b.table.Peers[i].Name
		b.cluster(name).read(b, name, best[name], now)
	}
}

// better orders links by use: up before draining before down, then near.
func better(a, b Link) bool {
	switch {
	case a.Up != b.Up:
		return a.Up
	case a.Draining != b.Draining:
		return a.Draining
	default:
		return a.RTT > 0 && (b.RTT <= 0 || a.RTT < b.RTT)
	}
}

func (c *clusterState) read(b *Board, name catalog.ClusterName, l Link, now time.Time) {
	draining := l.Draining && !l.Up
	if e := &c.evidence; e.Since.IsZero() || e.Up != l.Up || e.Draining != draining {
		if !e.Since.IsZero() || l.Up {
			b.log.Info("cluster reach changed", "cluster", string(name), "status", reach(l.Up, draining))
		}
		e.Up, e.Draining, e.Since = l.Up, draining, now
	}
	c.evidence.RTT, c.evidence.Loss = steady(c.evidence.RTT, l.RTT), l.Loss
	c.evidence.BandwidthOut, c.evidence.BandwidthIn = steady(c.evidence.BandwidthOut, l.BandwidthOut), steady(c.evidence.BandwidthIn, l.BandwidthIn)
	switch {
	case l.Up:
		c.ramp.Back(now)
		c.wasUp = true
	case c.wasUp:
		// Only what carried calls has something to come back to: the first link
		// after a start serves at once.
		c.ramp.Out(now, b.o.Ramp)
	}
	c.evidence.Withheld, c.next = c.ramp.Withheld(now, b.o.Ramp)
	if l.Up && l.RTT > 0 {
		c.measure(l.RTT, now)
	}
	c.evidence.Distance = c.distance.Held()
	b.metrics.reach(name, l.Up, c.evidence.Withheld)
}

// steadyPart is how far a measured figure may move before it is evidence, in parts of
// itself: each change makes the plans of all services anew that it is read for, and no
// choice between two clusters should hang on a fiftieth.
const steadyPart = 50

// steady is the figure that was told, or the new one where it has moved.
func steady[T time.Duration | uint64](told, now T) T {
	if told > 0 && now > 0 && max(told, now)-min(told, now) <= told/steadyPart {
		return told
	}
	return now
}

// measure feeds the distance with the least RTT of the last readings.
func (c *clusterState) measure(rtt time.Duration, now time.Time) {
	if c.rttAt.IsZero() || now.Sub(c.rttAt) >= rttInterval {
		c.rttAt, c.rttIndex = now, (c.rttIndex+1)%rttWindow
		c.rtts[c.rttIndex] = rtt
	} else {
		c.rtts[c.rttIndex] = min(c.rtts[c.rttIndex], rtt)
	}
	least := rtt
	for _, r := range c.rtts {
		if r > 0 {
			least = min(least, r)
		}
	}
	c.distance.Observe(least, now)
}

func reach(up, draining bool) string {
	switch {
	case up:
		return "up"
	case draining:
		return "draining"
	default:
		return "down"
	}
}
