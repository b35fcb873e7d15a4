package drill

import (
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Call is the first attempt of a call that a drill concerns. A nil one is of none.
type Call struct {
	m       *Monitor
	run     *run
	port    route.PortKey
	row     *route.DrillRow
	began   time.Time
	allowed time.Duration
	judged  bool // it counts as bad or good already
	ended   bool
}

// Begin takes a decision that a drill has a part in, and returns nil for others.
// predicted is how long the first word of the answer should take.
func (m *Monitor) Begin(service catalog.ServiceName, port string, choice *route.Choice, predicted time.Duration, now time.Time) *Call {
	if m == nil || choice.Drill == route.NotDrilled {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return nil // it ended while the decision was made
	}
	r := m.run
	if choice.Status == route.OK {
		port = choice.Target.Port
	}
	c := &Call{m: m, run: r, port: route.PortKey{Service: service, Port: port}, began: now}
	if c.row = r.row(rowKey{c.port, choice.Drill, choice.Target.Cluster, choice.Spared}); c.row == nil {
		return nil
	}
	c.row.Calls++
	m.metrics.calls.WithLabelValues(choice.Drill.String()).Inc()
	c.allowed = Slack + 2*max(predicted, time.Duration(r.pair(c.port).mean()))
	if choice.Drill == route.Drilled {
		r.open[c] = struct{}{}
	}
	return c
}

// row counts the calls of one kind; nil where there are too many kinds.
func (r *run) row(k rowKey) *route.DrillRow {
	row := r.rows[k]
	if row == nil && len(r.rows) < route.MaxDrillRows {
		row = &route.DrillRow{Service: k.port.Service, Port: k.port.Port, Side: k.side, Cluster: k.cluster, Spared: k.spared}
		r.rows[k] = row
	}
	return row
}

func (r *run) pair(k route.PortKey) *pair {
	p := r.ports[k]
	if p == nil {
		p = new(pair)
		r.ports[k] = p
	}
	return p
}

// End takes how the attempt went, once: when its answer began or it failed.
func (c *Call) End(outcome route.Outcome, now time.Time) {
	if c == nil {
		return
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	delete(c.run.open, c)
	took := max(now.Sub(c.began), 0)
	late := took > c.allowed
	switch outcome {
	case route.Success:
		c.row.Answered++
		c.row.AnsweredTotal += took
		if c.row.Side != route.Drilled {
			for _, p := range []*pair{c.run.pair(c.port), &c.run.all} {
				p.answered, p.took = p.answered+1, p.took+int64(took)
			}
		}
	case route.CallerFailure:
		if !late {
			return // it says nothing
		}
	case route.ServiceFailure, route.LinkFailure, route.Refusal:
		c.row.Failed++
		c.m.metrics.failed.WithLabelValues(c.row.Side.String()).Inc()
		c.judge(true, now)
		return
	}
	c.judgeLate(late, now)
}

func (c *Call) judgeLate(late bool, now time.Time) {
	if late && !c.judged {
		c.row.Late++
		c.m.metrics.late.WithLabelValues(c.row.Side.String()).Inc()
	}
	c.judge(late, now)
}

// judge moves the scores by one call. m.mu is held.
func (c *Call) judge(bad bool, now time.Time) {
	r := c.run
	if c.judged || r != c.m.run || !r.report.Running {
		return
	}
	c.judged = true
	for _, p := range []*pair{r.pair(c.port), &r.all} {
		if c.row.Side != route.Drilled {
			p.rate.add(bad)
			if p.others.add(bad, UsualOthers, WorseOthers) {
				c.m.end(now, route.OthersFail, r.figures(c.port))
				return
			}
			continue
		}
		usual, worse := marks(p.rate.share())
		if p.drilled.add(bad, usual, worse) {
			c.m.end(now, route.DrilledWorse, r.figures(c.port))
			return
		}
	}
}

// late judges drilled calls that wait for their answer too long. m.mu is held.
func (m *Monitor) late(now time.Time) {
	for c := range m.run.open {
		if now.Sub(c.began) > c.allowed {
			delete(m.run.open, c)
			c.judgeLate(true, now)
		}
	}
}

// figures say how the calls of a port went.
func (r *run) figures(k route.PortKey) string {
	var drilled, others [3]uint64
	for _, row := range r.rows {
		if row.Service != k.Service || row.Port != k.Port {
			continue
		}
		to := &others
		if row.Side == route.Drilled {
			to = &drilled
		}
		to[0], to[1], to[2] = to[0]+row.Calls, to[1]+row.Failed, to[2]+row.Late
	}
	return fmt.Sprintf("%s: of %d drilled calls %d failed and %d were late, of %d others %d and %d",
		k.Service, drilled[0], drilled[1], drilled[2], others[0], others[1], others[2])
}
