package simulation

import (
	"errors"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel/liveness"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// dataBugs are those of gateways: links, attempts, evidence.
func dataBugs() []*Bug {
	return []*Bug{
		{"retries have no budget", []Invariant{Amplified}, func(s *seams) {
			s.failed = func(c *call, err error, replay attempt.Replay) (time.Duration, error) {
				delay, failed := c.attempt.Failed(c.ctx, err, replay)
				var last *attempt.Error
				if errors.As(failed, &last) && !last.Denied && last.Undelivered && last.Attempts < 5 {
					return 10 * time.Millisecond, nil
				}
				return delay, failed
			}
		}},
		{"what may be executed twice is not asked", []Invariant{Once}, func(s *seams) {
			s.replay = func(*call) attempt.Replay { return attempt.Always }
		}},
		{"what was tried is forgotten", []Invariant{NotTwice, Amplified}, func(s *seams) {
			s.nextAttempt = func(c *call) (*attempt.Attempt, error) {
				if c.sequence.Attempts() > 0 && !c.local {
					if again, err := c.at.router.Start(c.ask(c.service)); err == nil {
						c.at.oracle.called(c)
						c.sequence = again
					}
				}
				return c.sequence.Next()
			}
		}},
		{"a far gateway routes on", []Invariant{Hops, Revoked, AllowList, Amplified}, func(s *seams) {
			s.startInbound = func(g *gateway, c *call, service catalog.ServiceName) (*attempt.Sequence, error) {
				if _, err := g.router.StartInbound(c.ask(service), c.peer); err != nil {
					return nil, err
				}
				return g.router.Start(c.ask(service))
			}
		}},
		{"a far gateway does not ask its intentions", []Invariant{AllowList}, func(s *seams) {
			s.startInbound = func(g *gateway, c *call, service catalog.ServiceName) (*attempt.Sequence, error) {
				if sequence, err := g.router.StartInbound(c.ask(service), c.peer); err == nil {
					return sequence, nil
				}
				return g.router.Start(attempt.Call{Service: service, Caller: callerOf(g.home.name), Pin: g.home.name})
			}
		}},
		{"calls that are no longer allowed go on", []Invariant{Revoked}, func(s *seams) {
			s.sweep = func(*gateway) {}
		}},
		{"an ejection blames all services of a cluster", []Invariant{Blame}, func(s *seams) {
			s.observe = func(g *gateway, t route.Target, e *route.EndpointKey, outcome route.Outcome, certain bool) {
				g.board.Observe(t, e, outcome, certain)
				if outcome != route.ServiceFailure || t.Cluster == g.home.name {
					return
				}
				for _, row := range g.table.Services {
					if row.Name != t.Service && slices.ContainsFunc(row.Remote, func(r route.Remote) bool { return r.Cluster == t.Cluster }) {
						g.board.Observe(route.Target{Service: row.Name, Port: t.Port, Cluster: t.Cluster}, nil, outcome, certain)
					}
				}
			}
		}},
		{"a dead link is blamed on the service", []Invariant{Blame}, func(s *seams) {
			s.observe = func(g *gateway, t route.Target, e *route.EndpointKey, outcome route.Outcome, certain bool) {
				if outcome == route.LinkFailure {
					outcome = route.ServiceFailure
				}
				g.board.Observe(t, e, outcome, certain)
			}
		}},
		{"what comes back has no ramp", []Invariant{Ramped}, func(s *seams) {
			s.ramp = func(route.RampOptions) route.RampOptions { return route.RampOptions{Hold: 1, Step: 1, Interval: 1} }
		}},
		{"a prober that was late blames the link", []Invariant{CauseOfDeath}, func(s *seams) {
			s.prober = func(_ *gateway, interval time.Duration, now time.Time) prober {
				return &hastyProber{Prober: liveness.New(interval, now), heard: now}
			}
		}},
		{"a drill has no end at a gateway", []Invariant{Drilled}, func(s *seams) {
			s.drills = func(g *gateway, id string, _ time.Time) {
				if id != "" {
					g.board.Live().Drills(id, time.Time{})
				}
			}
		}},
		{"reports wait one behind the other", []Invariant{Bounded}, func(s *seams) {
			s.sendReport = func(e *end, r wire.Report) {
				for range 1 + len(r.Services) {
					e.queueReport(r)
				}
			}
		}},
	}
}

// hastyProber takes the ticks that it was late for as probes that it missed.
type hastyProber struct {
	*liveness.Prober
	heard   time.Time
	packets uint64
}

func (p *hastyProber) Tick(now time.Time, packets uint64) (probe wire.Probe, due, late bool, v liveness.Verdict) {
	probe, due, late, v = p.Prober.Tick(now, packets)
	if packets != p.packets {
		p.packets, p.heard = packets, now
	} else if late && now.Sub(p.heard) >= 2*probeInterval {
		v = liveness.Deaf
	}
	return probe, due, late, v
}
