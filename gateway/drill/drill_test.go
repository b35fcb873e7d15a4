package drill_test

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/drill"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	billing = catalog.MustServiceName("billing.shop")
	epoch   = time.Unix(1_800_000_000, 0)
	started = epoch.Add(-time.Hour)
)

// stand is a Monitor on a clock of its own.
type stand struct {
	t     *testing.T
	m     *drill.Monitor
	now   time.Time
	heard time.Time
	armed string
	until time.Time
	ended int
	// evidence is what Judge is shown.
	evidence *route.Evidence
	switched string
	took     time.Duration
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{t: t, now: epoch, heard: epoch, took: 20 * time.Millisecond, evidence: &route.Evidence{
		Now:     epoch,
		Links:   map[catalog.ClusterName]route.LinkEvidence{"west": {Up: true}, "north": {Up: true}, "south": {}},
		Targets: map[route.Target]route.TargetEvidence{},
	}}
	var err error
	s.m, err = drill.New(drill.Options{
		Gateway: "gw-1", StartedAt: started, Now: func() time.Time { return s.now },
		Drills: func(id string, until time.Time) { s.armed, s.until = id, until }, Ended: func() { s.ended++ }, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func table(change func(*route.Drill)) *route.Table {
	d := &route.Drill{
		ID: "d1", Down: []catalog.ClusterName{"west"}, Share: 500, Until: epoch.Add(10 * time.Minute), For: 10 * time.Minute,
		Members: []route.DrillMember{{Gateway: "gw-1", StartedAt: started}},
	}
	if change != nil {
		change(d)
	}
	return &route.Table{Drill: d}
}

// begin starts the drill and looks at the world once.
func (s *stand) begin() *stand {
	s.t.Helper()
	s.m.SetTable(table(nil), "")
	if s.armed != "d1" || !s.until.Equal(epoch.Add(10*time.Minute)) {
		s.t.Fatalf("the drill is not in force: %q until %v", s.armed, s.until)
	}
	s.judge()
	return s
}

func (s *stand) judge() bool {
	return s.m.Judge(drill.Conditions{Heard: s.heard, Switched: s.switched, Evidence: s.evidence})
}

// pass lets time go by, with reports that are taken.
func (s *stand) pass(d time.Duration) bool {
	s.now = s.now.Add(d)
	s.heard = s.now
	return s.judge()
}

func choice(side route.DrillSide) *route.Choice {
	c := &route.Choice{Status: route.OK, Drill: side, Target: route.Target{Service: billing, Port: "http", Cluster: "north"}}
	if side == route.DrillSpared {
		c.Spared = "residency"
	}
	return c
}

// call makes one call of a side; hang leaves it open.
func (s *stand) call(side route.DrillSide, outcome route.Outcome) {
	c := s.m.Begin(billing, "", choice(side), s.took, s.now)
	c.End(outcome, s.now.Add(s.took))
}

func (s *stand) wantEnd(reason route.DrillEnd) *route.DrillReport {
	s.t.Helper()
	r := s.m.Report()
	if r == nil || r.Running || r.Reason != reason || s.armed != "" || r.EndedAt.IsZero() {
		s.t.Fatalf("in force %q, report %+v, want an end by %s", s.armed, r, reason)
	}
	return r
}

// Every way in which a drill ends, and that none ever goes on after it.
func TestADrillEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		do     func(*stand)
		reason route.DrillEnd
		detail string
	}{
		"its time is over":                     {func(s *stand) { s.pass(10 * time.Minute) }, route.DrillOver, ""},
		"by its own clock, if that is ahead":   {func(s *stand) { s.pass(11 * time.Minute) }, route.DrillOver, ""},
		"it is withdrawn":                      {func(s *stand) { s.m.SetTable(&route.Table{}, "") }, route.DrillWithdrawn, ""},
		"another takes its place":              {func(s *stand) { s.m.SetTable(table(func(d *route.Drill) { d.ID, d.Members = "d2", nil }), "") }, route.DrillWithdrawn, ""},
		"the federation is silent":             {func(s *stand) { s.now = s.now.Add(route.DrillLease); s.judge() }, route.DrillSilence, "10s ago"},
		"a switch is set":                      {func(s *stand) { s.switched = "frozen by ann"; s.judge() }, route.DrillSwitched, "frozen by ann"},
		"the gateway stops":                    {func(s *stand) { s.m.Stop() }, route.DrillStopped, ""},
		"a link goes down":                     {func(s *stand) { s.link("north", route.LinkEvidence{}) }, route.DrillLinkDown, "the link to north is down"},
		"a peer drains":                        {func(s *stand) { s.link("north", route.LinkEvidence{Draining: true}) }, route.DrillLinkDown, "the link to north drains"},
		"what counts as lost is lost for real": {func(s *stand) { s.link("west", route.LinkEvidence{}) }, route.DrillLinkDown, "west"},
		"a service is ejected": {func(s *stand) {
			s.see(func(e *route.Evidence) {
				e.Targets[route.Target{Service: billing, Port: "http", Cluster: "north"}] = route.TargetEvidence{EjectedUntil: s.now.Add(time.Second), Reason: "5 failures in a row"}
			})
		}, route.DrillEjected, "5 failures in a row"},
		"drilled calls fail": {func(s *stand) { s.calls(50, route.Success, route.ServiceFailure) }, route.DrilledWorse, "of 6 drilled calls 6 failed"},
		"drilled calls are late": {func(s *stand) {
			for range 50 {
				s.took = time.Millisecond
				s.call(route.DrillControl, route.Success)
				s.m.Begin(billing, "", choice(route.Drilled), time.Millisecond, s.now).End(route.Success, s.now.Add(time.Second))
			}
		}, route.DrilledWorse, "were late"},
		"drilled calls hang": {func(s *stand) {
			for range 12 {
				s.m.Begin(billing, "", choice(route.Drilled), 10*time.Millisecond, s.now)
				s.pass(100 * time.Millisecond)
			}
		}, route.DrilledWorse, "6 were late"},
		"others fail": {func(s *stand) { s.calls(50, route.ServiceFailure, route.Success) }, route.OthersFail, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t).begin()
			tt.do(s)
			r := s.wantEnd(tt.reason)
			if !strings.Contains(r.Detail, tt.detail) {
				t.Errorf("detail %q, want %q", r.Detail, tt.detail)
			}
			if s.ended != 1 {
				t.Errorf("its end was told %d times", s.ended)
			}
			// It never begins again, whatever its federation says.
			s.m.SetTable(table(nil), "")
			if s.pass(time.Second) || s.armed != "" || s.m.Report().Reason != tt.reason && tt.detail != "" {
				t.Errorf("it goes on: %q, %+v", s.armed, s.m.Report())
			}
		})
	}
}

func (s *stand) see(change func(*route.Evidence)) {
	e := &route.Evidence{Now: s.now, Links: map[catalog.ClusterName]route.LinkEvidence{}, Targets: map[route.Target]route.TargetEvidence{}}
	maps.Copy(e.Links, s.evidence.Links)
	change(e)
	s.evidence = e
	s.judge()
}

func (s *stand) link(name catalog.ClusterName, l route.LinkEvidence) {
	s.see(func(e *route.Evidence) { e.Links[name] = l })
}

// calls makes n undrilled and n drilled calls, by turns.
func (s *stand) calls(n int, others, drilled route.Outcome) {
	for range n {
		s.call(route.DrillControl, others)
		s.call(route.Drilled, drilled)
	}
}

func TestWhoTakesNoPart(t *testing.T) {
	for name, tt := range map[string]struct {
		change   func(*route.Drill)
		switched string
		reason   route.DrillEnd // "" where nothing is said of it
	}{
		"one that was not named":    {change: func(d *route.Drill) { d.Members = nil }},
		"one that has started anew": {change: func(d *route.Drill) { d.Members[0].StartedAt = started.Add(-time.Second) }},
		"one that hears of it late": {change: func(d *route.Drill) { d.Until = epoch }, reason: route.DrillOver},
		"one that cannot read it":   {change: func(d *route.Drill) { d.Share = 0 }},
		"one with a switch":         {switched: "pinned", reason: route.DrillSwitched},
	} {
		s := newStand(t)
		s.m.SetTable(table(tt.change), tt.switched)
		if s.armed != "" || s.judge() {
			t.Errorf("%s takes part", name)
		}
		if r := s.m.Report(); (r == nil) != (tt.reason == "") || r != nil && (r.Running || r.Reason != tt.reason) {
			t.Errorf("%s reports %+v", name, r)
		}
	}
}

func TestTheAccount(t *testing.T) {
	s := newStand(t).begin()
	for range 10 {
		s.call(route.DrillControl, route.Success)
	}
	s.call(route.Drilled, route.Success)
	s.call(route.Drilled, route.ServiceFailure)
	s.call(route.Drilled, route.CallerFailure) // says nothing
	s.call(route.DrillSpared, route.Success)
	refused := &route.Choice{Status: route.Shed, Drill: route.DrillControl}
	s.m.Begin(billing, "http", refused, 0, s.now).End(route.Refusal, s.now)
	if c := s.m.Begin(billing, "", choice(route.NotDrilled), 0, s.now); c != nil {
		t.Error("a call that no drill concerns is counted")
	}
	var none *drill.Monitor
	none.Begin(billing, "", choice(route.Drilled), 0, s.now).End(route.Success, s.now)
	want := []route.DrillRow{
		{Service: billing, Port: "http", Side: route.DrillControl, Calls: 1, Failed: 1},
		{Service: billing, Port: "http", Side: route.DrillControl, Cluster: "north", Calls: 10, Answered: 10, AnsweredTotal: 10 * s.took},
		{Service: billing, Port: "http", Side: route.Drilled, Cluster: "north", Calls: 3, Failed: 1, Answered: 1, AnsweredTotal: s.took},
		{Service: billing, Port: "http", Side: route.DrillSpared, Cluster: "north", Spared: "residency", Calls: 1, Answered: 1, AnsweredTotal: s.took},
	}
	got := s.m.Report()
	if !got.Running || len(got.Rows) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got.Rows[i] != want[i] {
			t.Errorf("row %d: %+v, want %+v", i, got.Rows[i], want[i])
		}
	}
	// What was under way at the end is counted, and ends nothing twice.
	c := s.m.Begin(billing, "", choice(route.Drilled), 0, s.now)
	s.m.SetTable(&route.Table{}, "")
	c.End(route.ServiceFailure, s.now)
	c.End(route.ServiceFailure, s.now)
	if got := s.m.Report().Rows[2]; got.Failed != 2 || got.Calls != 4 {
		t.Errorf("%+v", got)
	}
}

// Both errors of the comparison, by the numbers that the documentation gives: an end for
// no reason is rare, and what is broken is found after few calls, also late in a drill.
func TestTheComparison(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	run := func(drilled, others float64, calls, good int) (ended bool, harmed, made int) {
		s := newStand(t).begin()
		for range good {
			s.call(route.Drilled, route.Success)
		}
		for made = range calls {
			for range 19 {
				s.call(route.DrillControl, outcome(random, others))
			}
			o := outcome(random, drilled)
			if o != route.Success {
				harmed++
			}
			s.call(route.Drilled, o)
			if s.armed == "" {
				return true, harmed, made + 1
			}
		}
		return false, harmed, made + 1
	}
	for name, tt := range map[string]struct {
		drilled, others float64
		good            int
		ends            bool
		mostHarmed      int
	}{
		"all fail":                      {1, 0, 0, true, 6},
		"all fail after 5,000":          {1, 0, 5000, true, 6},
		"a half fails":                  {0.5, 0, 0, true, 12},
		"a tenth fails":                 {0.1, 0.001, 0, true, 60},
		"as few as may":                 {0.005, 0, 0, false, 0},
		"as many as others":             {0.01, 0.01, 0, false, 0},
		"five times as many as others":  {0.1, 0.01, 0, true, 200},
		"others fail, and they are too": {0, 0.2, 0, true, 0},
	} {
		const trials = 40
		ended, worst, calls := 0, 0, 0
		for range trials {
			done, harmed, made := run(tt.drilled, tt.others, 2000, tt.good)
			if done {
				ended++
				worst, calls = max(worst, harmed), calls+made
			}
		}
		t.Logf("figure: drilled calls fail %.1f %%, others %.1f %% (%s): %d of %d drills of 2,000 drilled calls ended early, after %d calls on average, %d harmed at most",
			100*tt.drilled, 100*tt.others, name, ended, trials, calls/max(ended, 1), worst)
		if tt.ends && ended < trials || !tt.ends && ended > 0 {
			t.Errorf("%s: %d of %d ended", name, ended, trials)
		}
		if tt.ends && worst > tt.mostHarmed {
			t.Errorf("%s: %d drilled calls were harmed, at most %d", name, worst, tt.mostHarmed)
		}
	}
}

func outcome(random *rand.Rand, bad float64) route.Outcome {
	if random.Float64() < bad {
		return route.ServiceFailure
	}
	return route.Success
}
