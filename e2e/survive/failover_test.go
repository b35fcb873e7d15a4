package survive

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/tunneltest"
)

// The promises, at round trips of up to 100 ms.
const (
	failoverP99 = time.Second
	failoverMax = 1500 * time.Millisecond
	agreeMax    = 1200 * time.Millisecond
	drainSlack  = 50 * time.Millisecond
)

// maxOneWay is half of the longest round trip.
const maxOneWay = 50 * time.Millisecond

// trialsPerWorld share one set of gateways: making one costs more than a trial.
const trialsPerWorld = 10

func trials() int {
	if full() {
		return 500
	}
	if n, err := strconv.Atoi(os.Getenv("ISTHMUS_SURVIVE")); err == nil {
		return max(n, trialsPerWorld)
	}
	return 10
}

// fault is one way in which first is lost, and how it comes back.
type fault struct {
	name         string
	strike, heal func(w *world)
}

var faults = []fault{
	{
		"black hole",
		func(w *world) { w.cut(true, true) },
		func(w *world) { w.cut(false, false) },
	},
	{
		"hang",
		func(w *world) { w.network.Stop(w.sites[first].host.Addr()) },
		func(w *world) { w.network.Resume(w.sites[first].host.Addr()) },
	},
	{
		"one-way cut, near to first",
		func(w *world) { w.cut(true, false) },
		func(w *world) { w.cut(false, false) },
	},
	{
		"one-way cut, first to near",
		func(w *world) { w.cut(false, true) },
		func(w *world) { w.cut(false, false) },
	},
	{
		"kill",
		func(w *world) { w.sites[first].kill() },
		func(w *world) { w.sites[first].boot(); w.push() },
	},
}

// cut cuts the path from near to first, and the one back.
func (w *world) cut(there, back bool) {
	p := w.path(near, first)
	p.Cut = there
	w.oneWay(near, first, p)
	p = w.path(first, near)
	p.Cut = back
	w.oneWay(first, near, p)
}

// distances draws the paths of a trial.
func (w *world) distances() {
	draw := func() tunneltest.Path {
		p := tunneltest.Path{Delay: time.Duration(1+w.random.Int64N(int64(maxOneWay/time.Microsecond))) * time.Microsecond}
		if w.random.IntN(2) == 0 { // half of them are bad paths
			p.Loss = 0.01 * w.random.Float64()
			p.Jitter = time.Duration(w.random.Int64N(int64(min(p.Delay, maxOneWay-p.Delay)) + 1))
		}
		return p
	}
	w.between(near, first, draw())
	w.between(near, second, draw())
	w.between(first, second, draw())
}

// findings are what the trials of a fault measured.
type findings struct {
	// web and line are from the fault to the first answer by second; each is the
	// time that a request begun after the fault took; agree is until both ends had
	// given up all links.
	web, line, each, agree times
	calls, lost            int // requests, all idempotent
	cut                    int // connections that were reset
	broken                 int // answers that had begun before the fault, and broke
}

// TestFailover: the region that serves is lost without a word.
func TestFailover(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			var found findings
			for seed := *firstSeed; seed < *firstSeed+uint64(trials()/trialsPerWorld); seed++ {
				inWorld(t, seed, bothServe, func(w *world) {
					l := w.load(40*time.Millisecond, 80*time.Millisecond)
					defer l.stop()
					for range trialsPerWorld {
						w.trial(l, f, &found)
					}
				})
			}
			t.Logf("figure: %s: first request on the next region: %v", f.name, found.web)
			t.Logf("figure: %s: first connection on the next region: %v", f.name, found.line)
			t.Logf("figure: %s: a request after the fault took %v; %d of %d were lost, %d answers that had begun broke, %d connections were reset",
				f.name, found.each, found.lost, found.calls, found.broken, found.cut)
			t.Logf("figure: %s: both ends agree that the links are down: %v", f.name, found.agree)
			for what, d := range map[string]times{"request": found.web, "connection": found.line} {
				// Of few trials the greatest would be asked for the p99's promise.
				if p99, most := d.at(0.99), d.at(1); len(d) >= 100 && p99 > failoverP99 || most > failoverMax {
					t.Errorf("first %s on the next region: p99 %v, max %v, want at most %v and %v", what, p99, most, failoverP99, failoverMax)
				}
			}
			if most := found.each.at(1); most > failoverMax {
				t.Errorf("a request took %v", most)
			}
			if found.lost > 0 {
				t.Errorf("%d of %d idempotent requests were lost", found.lost, found.calls)
			}
			if most := found.agree.at(1); f.name != "kill" && most > agreeMax {
				t.Errorf("the ends agreed after %v, want at most %v", most, agreeMax)
			}
		})
	}
}

// trial strikes once, and waits until first serves again.
func (w *world) trial(l *load, f fault, found *findings) {
	w.distances()
	l.steady()
	time.Sleep(retry.Window)                                       // a budget is what the calls of this time have earned
	time.Sleep(time.Duration(w.random.Int64N(int64(time.Second)))) // the phase against probes, plans and reports
	l.take()
	w.events.forget()
	struck := time.Now()
	f.strike(w)
	time.Sleep(3 * time.Second)
	w.measure(l.take(), struck, found)
	w.agreement(f, struck, found)
	f.heal(w)
}

func (w *world) measure(calls []*call, struck time.Time, found *findings) {
	var web, line time.Duration
	for _, c := range calls {
		if c.end.Before(struck) {
			continue
		}
		if !c.tcp {
			found.calls++
		}
		if c.err != nil {
			switch {
			case c.tcp:
				found.cut++
			case c.begun && c.begin.Before(struck):
				found.broken++
			default:
				found.lost++
				w.failf("a request that began %v after the fault and took %v was lost: %v", c.begin.Sub(struck), c.took(), c.err)
			}
			continue
		}
		if !c.tcp && !c.begin.Before(struck) {
			found.each = append(found.each, c.took())
		}
		if c.by != second {
			continue
		}
		at := &web
		if c.tcp {
			at = &line
		}
		if d := c.end.Sub(struck); *at == 0 || d < *at {
			*at = d
		}
	}
	if web == 0 || line == 0 {
		w.failf("second never answered (requests %v, connections %v)%s", web, line, w.events.tail(struck))
		return
	}
	found.web, found.line = append(found.web, web), append(found.line, line)
	if max(web, line) > failoverMax {
		w.failf("second answered after %v and %v%s", web, line, w.events.tail(struck))
	}
}

// agreement measures until when both ends had given up the two links between them.
func (w *world) agreement(f fault, struck time.Time, found *findings) {
	ends := w.events.since(struck, near, "link is down", first)
	if f.name != "kill" { // the dead have no opinion
		ends = append(ends, w.events.since(struck, first, "link is down", near)...)
		if len(ends) != 4 {
			w.failf("%d link ends of 4 are down%s", len(ends), w.events.tail(struck))
			return
		}
	}
	var last time.Duration
	for _, e := range ends {
		last = max(last, e.at.Sub(struck))
	}
	found.agree = append(found.agree, last)
}

// TestDrain: the region that serves says that it leaves. From one round trip and
// 50 ms later on, new calls go to the next one directly, and none fails.
func TestDrain(t *testing.T) {
	var last, each times
	calls, failed := 0, 0
	for seed := *firstSeed; seed < *firstSeed+uint64(trials()/trialsPerWorld); seed++ {
		inWorld(t, seed, bothServe, func(w *world) {
			l := w.load(20*time.Millisecond, 40*time.Millisecond)
			defer l.stop()
			for range trialsPerWorld {
				w.distances()
				l.steady()
				time.Sleep(retry.Window + time.Duration(w.random.Int64N(int64(time.Second))))
				l.take()
				w.events.forget()
				said := time.Now()
				stopped := make(chan struct{})
				go func() { w.sites[first].stop(); close(stopped) }()
				time.Sleep(time.Second)
				<-stopped
				rtt := w.roundTrip(near, first)
				var direct time.Duration // when the last call began that first answered
				for _, c := range l.take() {
					if c.end.Before(said) {
						continue
					}
					calls++
					since := c.begin.Sub(said)
					if c.err != nil {
						failed++
						w.failf("a call that began %v after the drain failed (connection: %v): %v", since, c.tcp, c.err)
						continue
					}
					if since >= 0 {
						each = append(each, c.took())
					}
					if c.by == first {
						direct = max(direct, since)
					}
				}
				last = append(last, direct)
				if direct > rtt+drainSlack {
					w.failf("a call that began %v after the drain went to the leaving region; a round trip is %v%s", direct, rtt, w.events.tail(said))
				}
				w.sites[first].boot()
				w.push()
			}
		})
	}
	t.Logf("figure: drain: the last call to the leaving region began after %v; a call after the drain took %v; %d of %d failed", last, each, failed, calls)
}

// roundTrip is the longest that a packet and its answer take.
func (w *world) roundTrip(a, b catalog.ClusterName) time.Duration {
	there, back := w.path(a, b), w.path(b, a)
	return there.Delay + there.Jitter + back.Delay + back.Jitter
}
