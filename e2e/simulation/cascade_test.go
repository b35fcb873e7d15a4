package simulation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// What thirty instances take at full load, and how much more one of them bears.
const (
	cascadeInstances = 30
	cascadeRate      = 900 // calls a second
	cascadeFair      = float64(cascadeRate) / cascadeInstances
	cascadeBound     = 1.2
	cascadeWindow    = 10 * time.Second
)

// bucket is what an instance bears: a rate and a second's burst; beyond it fails.
type bucket struct {
	at    time.Time
	level float64
}

func (b *bucket) take(now time.Time, rate float64) bool {
	b.level = max(0, b.level-now.Sub(b.at).Seconds()*rate)
	b.at = now
	if b.level >= rate {
		return false
	}
	b.level++
	return true
}

// The known cascade of fail-backs (github.com/cilium/cilium/issues/46633): a cluster
// scales from nothing to thirty instances, one by one, while a far one carries the full
// load. The first that was ready there got all of it, died, and so did each after it.
// Here no instance gets more than 1.2 times its fair share, and no call fails.
func TestTheKnownCascade(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before bool // the cluster carried the load before it was lost
		every  time.Duration
		peer   bool // it is a peer's, near by; else the own
	}{
		{"new, one in 5 s", false, 5 * time.Second, false},
		{"new, one in 20 s", false, 20 * time.Second, false},
		{"lost and back, one in 5 s", true, 5 * time.Second, false},
		{"lost and back, one in 20 s", true, 20 * time.Second, false},
		{"a peer, new, one in 10 s", false, 10 * time.Second, true},
		{"a peer, lost and back, one in 10 s", true, 10 * time.Second, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cascade{t: t, instances: make(map[string]*bucket), window: make(map[string]int), turn: make(map[string]int)}
			c.stage = newStage(t, 1, nil)
			c.serve = c.bear
			c.ready["far"] = cascadeInstances
			scale := func(n int) {
				if tc.peer {
					c.ready["near"] = n
				} else {
					c.own = n
				}
				c.table()
			}
			scale(0)
			if tc.before {
				scale(cascadeInstances)
			}
			c.run(2 * time.Minute)
			if tc.before {
				scale(0)
				c.run(2 * time.Minute)
			}
			c.worst, c.calls, c.lost, c.failed = 0, 0, 0, 0 // how a cluster is lost is another story
			for n := range cascadeInstances {
				scale(n + 1)
				c.run(tc.every)
			}
			up := c.now
			for c.share < 0.999 && c.now.Sub(up) < 10*time.Minute {
				c.run(cascadeWindow)
			}
			t.Logf("figure: cascade, %s: an instance has %.2f of its fair share at most, %d of %d calls lost, %d of them failed at first, full service %v after the last instance",
				tc.name, c.worst, c.lost, c.calls, c.failed, c.now.Sub(up))
			if c.worst > cascadeBound || c.lost > 0 || c.failed > 0 {
				t.Errorf("worst %.2f at %s, %d lost, %d failed at first", c.worst, c.worstAt, c.lost, c.failed)
			}
			if c.share < 0.999 {
				t.Errorf("after 10 min the share is %.2f", c.share)
			}
		})
	}
}

type cascade struct {
	*stage
	t                   *testing.T
	instances           map[string]*bucket
	window              map[string]int // calls of the running window, by instance
	turn                map[string]int // of the peers' instances
	began               time.Time
	here                int // of its calls, those that stayed near
	worst               float64
	worstAt             string
	share               float64 // of calls that stayed near, in the last window
	calls, lost, failed int
}

// bear lets an instance serve a call, or break under it. Peers spread evenly.
func (c *cascade) bear(s *stage, choice *route.Choice) (time.Duration, bool) {
	var id string
	if choice.Endpoint != nil {
		id = choice.Endpoint.ID
	} else {
		cluster := string(choice.Target.Cluster)
		c.turn[cluster]++
		id = fmt.Sprintf("%s-%02d", cluster, c.turn[cluster]%max(1, s.ready[cluster]))
	}
	c.window[id]++
	b := c.instances[id]
	if b == nil {
		b = new(bucket)
		c.instances[id] = b
	}
	if !b.take(s.now, cascadeBound*cascadeFair) {
		c.failed++
		return time.Millisecond, false
	}
	return 20 * time.Millisecond, true
}

func (c *cascade) run(d time.Duration) {
	for until := c.now.Add(d); c.now.Before(until); c.now = c.now.Add(time.Second / cascadeRate) {
		first, lost := c.call()
		c.calls++
		if lost {
			c.lost++
		}
		if first.Target.Cluster != "far" {
			c.here++
		}
		if c.now.Sub(c.began) >= cascadeWindow {
			c.judge()
		}
	}
}

// judge ends a window.
func (c *cascade) judge() {
	seconds := c.now.Sub(c.began).Seconds()
	total := 0
	for _, n := range c.window {
		total += n
	}
	for id, n := range c.window {
		if x := float64(n) / seconds / cascadeFair; x > c.worst && !c.began.IsZero() {
			c.worst, c.worstAt = x, fmt.Sprintf("%s, %d of %d calls, own %d, ready %v", id, n, total, c.own, c.ready)
		}
	}
	c.share = float64(c.here) / float64(max(total, 1))
	clear(c.window)
	c.began, c.here = c.now, 0
}
