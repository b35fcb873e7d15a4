package spend_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/spend"
	"pgregory.net/rapid"
)

var (
	start   = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC)
	billing = catalog.MustServiceName("billing")
)

// counter is a gateway that counts.
type counter struct {
	name    string
	started time.Time
	flow    route.Flow
}

func newCounter(name string, started time.Time) *counter {
	return &counter{name, started, route.Flow{Service: billing, Port: "http", Cluster: "gcp"}}
}

func (c *counter) carry(bytes uint64, dollars float64) {
	c.flow.Calls++
	c.flow.Sent += bytes
	c.flow.SpentOut += dollars
}

func (c *counter) report() *route.Report {
	return &route.Report{Gateway: catalog.Gateway{Name: c.name}, StartedAt: c.started, Flows: []route.Flow{c.flow}}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9*max(1, math.Abs(want)) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func only(t *testing.T, l *spend.Ledger, now time.Time) spend.Account {
	t.Helper()
	m := l.Month(now)
	if len(m.Accounts) != 1 {
		t.Fatalf("%d accounts: %+v", len(m.Accounts), m.Accounts)
	}
	return m.Accounts[0]
}

// A hand-worked example: a cent a minute from the 11th on. After ten days 144 dollars
// are spent, and of the ten that are left each costs 14.40.
func TestTheEstimateOfAMonth(t *testing.T) {
	var l spend.Ledger
	g := newCounter("g", start)
	now := start
	l.Take(g.report(), now)
	for now.Before(start.AddDate(0, 0, 10)) {
		now = now.Add(time.Minute)
		g.carry(1e6, 0.01)
		l.Take(g.report(), now)
	}
	a := only(t, &l, now)
	near(t, "spent", a.Spent, 144)
	if a.Sent != 14400*1e6 {
		t.Errorf("%d bytes", a.Sent)
	}
	if math.Abs(a.Estimate-288) > 1 {
		t.Errorf("estimate %v, want 288", a.Estimate)
	}
	// It goes by the last day: an end of the calls is soon an end of the costs.
	later := only(t, &l, now.AddDate(0, 0, 5))
	if later.Spent != a.Spent || later.Estimate > 145.1 {
		t.Errorf("five days after the last call: %+v", later)
	}
	// The next month begins with nothing, and knows the one before.
	next := only(t, &l, time.Date(2026, 12, 1, 0, 0, 1, 0, time.UTC))
	near(t, "the month before", next.LastMonth, 144)
	near(t, "spent in the new month", next.Spent, 0)
	if l.Month(time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)).Accounts[0].LastMonth != 0 {
		t.Error("a month without calls is said to have cost something")
	}
}

// Nothing is counted twice or lost, however gateways and the federation restart.
func TestRestartsLoseAndDoubleNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := new(spend.Ledger)
		now := start
		g := newCounter("g", now)
		l.Take(g.report(), now)
		want := 0.0
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(10, 3600).Draw(t, "seconds")) * time.Second)
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0: // the gateway restarts, with a last word
				l.Take(g.report(), now)
				g = newCounter("g", now)
			case 1: // the federation restarts; what was counted meanwhile is not lost
				data, err := l.Save()
				if err != nil {
					t.Fatal(err)
				}
				if data == nil {
					break // nothing is new
				}
				g.carry(500, 2)
				want += 2
				l = new(spend.Ledger)
				if err := l.Load(data); err != nil {
					t.Fatal(err)
				}
			default:
				g.carry(1000, 1)
				want++
			}
			l.Take(g.report(), now)
			l.Take(g.report(), now.Add(time.Second)) // too soon: for the next one
		}
		got := 0.0
		for _, a := range l.Month(now).Accounts {
			got += a.Spent
		}
		if math.Abs(got-want) > 1e-6 {
			t.Fatalf("%v dollars, want %v", got, want)
		}
	})
}

// What a gateway carried before there was a ledger is nobody's month.
func TestWhatWasBeforeIsNotCharged(t *testing.T) {
	var l spend.Ledger
	l.Month(start)
	g := newCounter("g", start.AddDate(0, -1, 0))
	g.carry(1e12, 90)
	l.Take(g.report(), start.Add(time.Second))
	if m := l.Month(start.Add(time.Minute)); len(m.Accounts) != 0 {
		t.Errorf("%+v", m.Accounts)
	}
	g.carry(1e9, 1)
	l.Take(g.report(), start.Add(time.Minute))
	near(t, "spent", only(t, &l, start.Add(time.Minute)).Spent, 1)
	fresh := newCounter("h", start.Add(2*time.Minute))
	fresh.carry(1e9, 1)
	l.Take(fresh.report(), start.Add(3*time.Minute))
	near(t, "with a gateway that is new", only(t, &l, start.Add(3*time.Minute)).Spent, 2)
}

// Gateways whose names are of one process each are forgotten for new ones; one that comes
// back after that is not charged twice.
func TestGatewaysThatComeAndGo(t *testing.T) {
	var l spend.Ledger
	l.Month(start)
	first := newCounter("g0", start)
	want, now := 0.0, start
	for i := range 600 {
		now = now.Add(time.Minute)
		g := newCounter(fmt.Sprint("g", i), now.Add(-time.Second))
		if i == 0 {
			g = first
		}
		g.carry(1, 1)
		want++
		l.Take(g.report(), now)
	}
	l.Take(first.report(), now.Add(time.Minute)) // it was there all the time
	near(t, "spent", only(t, &l, now.Add(time.Minute)).Spent, want)
	first.carry(1, 1)
	l.Take(first.report(), now.Add(2*time.Minute))
	near(t, "what it carries from then on", only(t, &l, now.Add(2*time.Minute)).Spent, want+1)
}

func TestHowBudgetsStand(t *testing.T) {
	var l spend.Ledger
	g := newCounter("g", start)
	budget := &policy.Budget{Monthly: 100, Save: &policy.Saving{FromPercent: 90, PriceWeight: 1000}}
	of := func(catalog.ServiceName) *policy.Budget { return budget }
	now := start
	l.Take(g.report(), now)
	step := func(dollars float64, after time.Duration) (spend.Standing, bool) {
		t.Helper()
		now = now.Add(after)
		g.carry(1, dollars)
		l.Take(g.report(), now)
		all, news := l.Judge(now, of)
		if len(all) != 1 {
			t.Fatalf("%+v", all)
		}
		return all[0], len(news) == 1
	}
	for i, c := range []struct {
		dollars float64
		after   time.Duration
		state   spend.State
		news    bool
		saving  bool
	}{
		{0.1, time.Hour, spend.Within, false, false},
		{20, 24 * time.Hour, spend.Forecast, true, false}, // at that pace 20 days cost 400
		{1, time.Minute, spend.Forecast, false, false},
		{60, time.Hour, spend.Near, true, false}, // 81.1
		{9, time.Hour, spend.Near, false, true},  // 90.1
		{20, time.Hour, spend.Over, true, true},
		{0, 24 * time.Hour, spend.Over, false, true},
	} {
		got, news := step(c.dollars, c.after)
		if got.State != c.state || news != c.news || got.Saving != c.saving {
			t.Errorf("step %d: %s, news %v, saving %v; want %s, %v, %v: %s", i, got.State, news, got.Saving, c.state, c.news, c.saving, got.Text())
		}
	}
	// A restart tells nothing again, a new month that all is well.
	data, err := l.Save()
	if err != nil {
		t.Fatal(err)
	}
	again := new(spend.Ledger)
	if err := again.Load(data); err != nil {
		t.Fatal(err)
	}
	if all, news := again.Judge(now, of); len(news) != 0 || all[0].State != spend.Over || len(spend.Saving(all)) != 1 {
		t.Errorf("after a restart: %+v, news %+v", all, news)
	}
	if all, news := again.Judge(time.Date(2026, 12, 20, 0, 0, 0, 0, time.UTC), of); len(news) != 1 || all[0].State != spend.Within || len(spend.Saving(all)) != 0 {
		t.Errorf("in the new month: %+v, news %+v", all, news)
	}
	if all, _ := again.Judge(now, func(catalog.ServiceName) *policy.Budget { return nil }); len(all) != 0 {
		t.Error("a service without a budget has a standing")
	}
}

func FuzzLoad(f *testing.F) {
	var l spend.Ledger
	g := newCounter("g", start)
	l.Take(g.report(), start)
	g.carry(10, 1)
	l.Take(g.report(), start.Add(time.Minute))
	data, err := l.Save()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var l spend.Ledger
		if l.Load(data) != nil {
			return
		}
		for _, a := range l.Month(start).Accounts {
			if a.Spent < 0 || math.IsNaN(a.Estimate) {
				t.Errorf("%+v", a)
			}
		}
	})
}
