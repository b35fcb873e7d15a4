package drill

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Slack is what a call may take beyond twice what it should.
	Slack = 500 * time.Millisecond
	// Interval is how often Judge is to be asked while a drill is under way.
	Interval = 100 * time.Millisecond
)

// Options configure a Monitor.
type Options struct {
	// Gateway and StartedAt are this process, as its reports name it.
	Gateway   string
	StartedAt time.Time
	// Drills puts a drill into force for decisions until a time, "" none: route.Live.Drills.
	Drills func(id string, until time.Time)
	// Ended is told when a drill ends; nil: nobody is.
	Ended func()
	// Now is the clock; nil means the real one.
	Now func() time.Time
	// Log receives starts and ends; nil discards them.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Monitor takes part in one drill after the other. It is safe for concurrent use.
type Monitor struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	started chan struct{}

	mu  sync.Mutex
	run *run // the last one, nil before the first
}

// run is the part in one drill.
type run struct {
	drill    *route.Drill
	report   route.DrillReport
	deadline time.Time // by the own clock
	up       map[catalog.ClusterName]bool
	ejected  map[route.Target]bool // at the start
	based    bool                  // the two above are known
	seen     *route.Evidence
	rows     map[rowKey]*route.DrillRow
	ports    map[route.PortKey]*pair
	all      pair
	open     map[*Call]struct{} // drilled calls without an answer
}

type rowKey struct {
	port    route.PortKey
	side    route.DrillSide
	cluster catalog.ClusterName
	spared  string
}

// New returns a Monitor that drills nothing.
func New(o Options) (*Monitor, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Ended == nil {
		o.Ended = func() {}
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Monitor{o: o, log: log, metrics: m, started: make(chan struct{}, 1)}, nil
}

// Started has a token after a drill has begun.
func (m *Monitor) Started() <-chan struct{} { return m.started }

// SetTable follows a table that is in force: a drill that names this process begins, and
// one that is no longer there ends. Why is what an operator has set at the gateway, which
// goes before any drill, "" for nothing.
func (m *Monitor) SetTable(t *route.Table, why string) {
	now := m.o.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	d := t.Drill
	if m.running() && (d == nil || d.ID != m.run.drill.ID) {
		m.end(now, route.DrillWithdrawn, "")
	}
	if d == nil || m.run != nil && m.run.drill.ID == d.ID || !d.Has(m.o.Gateway, m.o.StartedAt) || d.Validate() != nil {
		return
	}
	m.run = &run{
		drill: d, deadline: now.Add(d.For), rows: make(map[rowKey]*route.DrillRow), ports: make(map[route.PortKey]*pair),
		open: make(map[*Call]struct{}), report: route.DrillReport{ID: d.ID, Running: true, StartedAt: now.UTC()},
	}
	switch {
	case !now.Before(d.Until):
		m.end(now, route.DrillOver, "it was over when it was heard of")
		return
	case why != "":
		m.end(now, route.DrillSwitched, why)
		return
	}
	m.metrics.running.Set(1)
	m.log.Warn("drill begins", "drill", d.ID, "duration", d.For, "reason", fmt.Sprintf("%.2f %% of calls as if %v %v were lost", float64(d.Share)/100, d.Down, d.Zones))
	m.o.Drills(d.ID, m.run.deadline)
	select {
	case m.started <- struct{}{}:
	default:
	}
}

// Conditions are what a drill goes on under.
type Conditions struct {
	// Heard is when the federation took a report last.
	Heard time.Time
	// Switched says what an operator has set at the gateway, "" nothing.
	Switched string
	// Evidence is what the plan in force rests on; nil where there is none.
	Evidence *route.Evidence
}

// Judge ends a drill that must not go on, and reports whether one goes on.
func (m *Monitor) Judge(c Conditions) bool {
	now := m.o.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running() {
		return false
	}
	r := m.run
	switch {
	case !now.Before(r.deadline) || !now.Before(r.drill.Until):
		m.end(now, route.DrillOver, "")
	case c.Switched != "":
		m.end(now, route.DrillSwitched, c.Switched)
	case now.Sub(c.Heard) >= route.DrillLease:
		m.end(now, route.DrillSilence, fmt.Sprintf("it took the last report %s ago", now.Sub(c.Heard).Round(time.Millisecond)))
	default:
		if reason, detail := r.realFailure(c.Evidence); reason != "" {
			m.end(now, reason, detail)
		} else {
			m.late(now)
		}
	}
	return m.running()
}

// Stop ends a drill because the gateway stops.
func (m *Monitor) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running() {
		m.end(m.o.Now(), route.DrillStopped, "")
	}
}

// Report is what became of the last drill, nil before the first.
func (m *Monitor) Report() *route.DrillReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run == nil {
		return nil
	}
	out := m.run.report
	out.Rows = make([]route.DrillRow, 0, len(m.run.rows))
	for _, row := range m.run.rows {
		out.Rows = append(out.Rows, *row)
	}
	slices.SortFunc(out.Rows, route.DrillRow.Compare)
	return &out
}

func (m *Monitor) running() bool { return m.run != nil && m.run.report.Running }

// end ends the drill, for decisions before for anybody else. m.mu is held.
func (m *Monitor) end(now time.Time, reason route.DrillEnd, detail string) {
	m.o.Drills("", time.Time{})
	r := &m.run.report
	r.Running, r.EndedAt, r.Reason, r.Detail = false, now.UTC(), reason, detail
	m.metrics.running.Set(0)
	m.metrics.ends.WithLabelValues(string(reason)).Inc()
	text := string(reason)
	if detail != "" {
		text += ": " + detail
	}
	if reason.Aborts() {
		m.log.Error("drill aborted", "drill", r.ID, "reason", text, "duration", now.Sub(r.StartedAt))
	} else {
		m.log.Warn("drill ends", "drill", r.ID, "reason", text, "duration", now.Sub(r.StartedAt))
	}
	m.o.Ended()
}

// realFailure looks for what was well when the drill began and is not now. Evidence that
// was looked at is not looked at again.
func (r *run) realFailure(e *route.Evidence) (route.DrillEnd, string) {
	if e == nil || e == r.seen {
		return "", ""
	}
	r.seen = e
	if !r.based {
		r.based, r.up, r.ejected = true, make(map[catalog.ClusterName]bool), make(map[route.Target]bool)
		for name, l := range e.Links {
			r.up[name] = l.Up
		}
		for t, ev := range e.Targets {
			r.ejected[t] = ev.EjectedUntil.After(e.Now)
		}
		return "", ""
	}
	for name := range r.up {
		if l := e.Links[name]; r.up[name] && !l.Up {
			what := "is down"
			if l.Draining {
				what = "drains"
			}
			return route.DrillLinkDown, fmt.Sprintf("the link to %s %s", name, what)
		}
	}
	for t, ev := range e.Targets {
		if ev.EjectedUntil.After(e.Now) && !r.ejected[t] && r.drill.Covers(t.Service) {
			return route.DrillEjected, fmt.Sprintf("%s in %s: %s", t.Service, t.Cluster, ev.Reason)
		}
	}
	return "", ""
}
