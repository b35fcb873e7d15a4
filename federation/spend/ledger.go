package spend

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// takeEvery is how often one gateway's counts are taken: they come every second.
	takeEvery = 10 * time.Second
	// memory is how fast the forecast forgets: a day is there in full, the day before
	// by a third.
	memory = 24 * time.Hour
	// trackedAtLeast is how long is counted before a forecast is made.
	trackedAtLeast = 10 * time.Minute
	// maxRows bounds services times clusters, maxGateways the gateways whose counts are
	// remembered, forgetAfter for how long one that is silent is.
	maxRows     = 100_000
	maxGateways = 256
	forgetAfter = 7 * 24 * time.Hour
)

// Path is what is counted apart: the calls to one service that one cluster serves.
type Path struct {
	Service catalog.ServiceName `json:"service"`
	Cluster catalog.ClusterName `json:"cluster"`
}

func (p Path) compare(o Path) int {
	return cmp.Or(p.Service.Compare(o.Service), cmp.Compare(p.Cluster, o.Cluster))
}

// Sum is what moved and what it cost, in bytes and dollars.
type Sum struct {
	Sent     uint64  `json:"sent_bytes"`
	Received uint64  `json:"received_bytes"`
	Spent    float64 `json:"spent_dollars"`
	// Unpriced bytes are of paths whose price was not known.
	Unpriced uint64 `json:"unpriced_bytes,omitempty"`
}

func (s *Sum) add(o Sum) {
	s.Sent, s.Received, s.Spent, s.Unpriced = s.Sent+o.Sent, s.Received+o.Received, s.Spent+o.Spent, s.Unpriced+o.Unpriced
}

// since is what was counted after an earlier count; all of it where it counts anew.
func (s Sum) since(before Sum) Sum {
	if s.Sent < before.Sent || s.Received < before.Received || s.Unpriced < before.Unpriced || s.Spent < before.Spent {
		return s
	}
	return Sum{s.Sent - before.Sent, s.Received - before.Received, s.Spent - before.Spent, s.Unpriced - before.Unpriced}
}

// row is the account of one path.
type row struct {
	Path
	Sum
	// LastMonth is what it cost in the month before.
	LastMonth float64 `json:"last_month_dollars,omitempty"`
	// Faded is what was spent, of which a part of 1/e is left after each memory; at is
	// when it was looked at last, Began since when the path is counted.
	Faded float64   `json:"faded_dollars"`
	At    time.Time `json:"at"`
	Began time.Time `json:"began"`
}

// spend adds what was spent until now.
func (r *row) spend(s Sum, now time.Time) {
	r.fade(now)
	r.add(s)
	r.Faded += s.Spent
}

func (r *row) fade(now time.Time) {
	if dt := now.Sub(r.At); dt > 0 {
		r.Faded *= math.Exp(-float64(dt) / float64(memory))
		r.At = now
	}
}

// perSecond is the rate of the last day, or of as long as the path is counted; 0 while
// that is too short to tell.
func (r *row) perSecond(now time.Time) float64 {
	tracked := now.Sub(r.Began)
	if tracked < trackedAtLeast {
		return 0
	}
	r.fade(now)
	// A constant rate x has faded to x * memory * (1 - e^(-tracked/memory)).
	return r.Faded / (memory.Seconds() * (1 - math.Exp(-float64(tracked)/float64(memory))))
}

// gateway is what one gateway had counted when it was taken last.
type gateway struct {
	Started time.Time    `json:"started"`
	Heard   time.Time    `json:"heard"`
	Counts  map[Path]Sum `json:"-"`
}

// Ledger is the account. The zero value begins with the first report.
type Ledger struct {
	mu    sync.Mutex
	began time.Time
	// forgot is when a gateway was heard last that is forgotten since: what one that is
	// not known has counted before may have been charged.
	forgot   time.Time
	month    time.Time
	rows     map[Path]*row
	gateways map[string]*gateway
	states   map[catalog.ServiceName]State
	dirty    bool
	dropped  bool
}

// monthOf is the beginning of a moment's month.
func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// Take counts what a gateway has carried since it was taken last. Reports that come
// faster than every takeEvery are left for the next one.
func (l *Ledger) Take(r *route.Report, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	g := l.gateways[r.Gateway.Name]
	same := g != nil && g.Started.Equal(r.StartedAt)
	if same && now.Sub(g.Heard) < takeEvery && !r.Gateway.Draining {
		return
	}
	if g == nil && len(l.gateways) >= maxGateways {
		l.forgetOldest()
	}
	counts := countsOf(r)
	// What a gateway had counted before there was a ledger was spent before, too.
	charge := g != nil || !r.StartedAt.Before(l.began) && r.StartedAt.After(l.forgot)
	if charge {
		for p, sum := range counts {
			if same {
				sum = sum.since(g.Counts[p])
			}
			l.charge(p, sum, now)
		}
	}
	if l.gateways == nil {
		l.gateways = make(map[string]*gateway)
	}
	l.gateways[r.Gateway.Name] = &gateway{Started: r.StartedAt, Heard: now, Counts: counts}
	l.dirty = true
}

// forgetOldest makes room for another gateway: names may be of one process each.
func (l *Ledger) forgetOldest() {
	oldest := ""
	for name, g := range l.gateways {
		if oldest == "" || g.Heard.Before(l.gateways[oldest].Heard) || g.Heard.Equal(l.gateways[oldest].Heard) && name < oldest {
			oldest = name
		}
	}
	l.forget(oldest)
}

func (l *Ledger) forget(name string) {
	if heard := l.gateways[name].Heard; heard.After(l.forgot) {
		l.forgot = heard
	}
	delete(l.gateways, name)
}

// countsOf sums the flows of a report over ports.
func countsOf(r *route.Report) map[Path]Sum {
	out := make(map[Path]Sum, len(r.Flows))
	for i := range r.Flows {
		f := &r.Flows[i]
		if f.Cluster == "" {
			continue
		}
		p := Path{f.Service, f.Cluster}
		sum := out[p]
		sum.add(Sum{f.Sent, f.Received, dollars(f.SpentOut) + dollars(f.SpentIn), f.Unpriced})
		out[p] = sum
	}
	return out
}

// dollars is x where it is an amount: reports come from other processes.
func dollars(x float64) float64 {
	if !(x >= 0) || math.IsInf(x, 1) {
		return 0
	}
	return x
}

func (l *Ledger) charge(p Path, s Sum, now time.Time) {
	if s == (Sum{}) {
		return
	}
	r := l.rows[p]
	if r == nil {
		if len(l.rows) >= maxRows {
			l.dropped = true
			return
		}
		if l.rows == nil {
			l.rows = make(map[Path]*row)
		}
		r = &row{Path: p, Began: now, At: now}
		l.rows[p] = r
	}
	r.spend(s, now)
}

// turn begins the ledger, and each month.
func (l *Ledger) turn(now time.Time) {
	if l.began.IsZero() {
		l.began, l.month = now, monthOf(now)
	}
	month := monthOf(now)
	if !month.After(l.month) {
		return
	}
	follows := l.month.AddDate(0, 1, 0).Equal(month)
	for p, r := range l.rows {
		if r.Sum == (Sum{}) && r.LastMonth == 0 {
			delete(l.rows, p)
			continue
		}
		r.LastMonth = 0
		if follows {
			r.LastMonth = r.Spent
		}
		r.Sum = Sum{}
	}
	for name, g := range l.gateways {
		if now.Sub(g.Heard) > forgetAfter {
			l.forget(name)
		}
	}
	l.month, l.dirty = month, true
}

// Account is what one path has cost.
type Account struct {
	Path
	Sum
	// Estimate is what the month is going to cost: what was spent, and for the rest of
	// it what the last day cost.
	Estimate  float64
	LastMonth float64
}

// Month is the account of the month of now, by service and cluster.
type Month struct {
	// Begins is the month's first moment, Since since when is counted within it.
	Begins, Since time.Time
	Accounts      []Account
	// Partial says that there were more paths than are counted.
	Partial bool
}

// Month reads the ledger.
func (l *Ledger) Month(now time.Time) Month {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(now)
	return l.read(now)
}

func (l *Ledger) read(now time.Time) Month {
	m := Month{Begins: l.month, Since: l.began, Partial: l.dropped, Accounts: make([]Account, 0, len(l.rows))}
	if m.Since.Before(m.Begins) {
		m.Since = m.Begins
	}
	rest := max(l.month.AddDate(0, 1, 0).Sub(now).Seconds(), 0)
	for _, r := range l.rows {
		m.Accounts = append(m.Accounts, Account{
			Path: r.Path, Sum: r.Sum, Estimate: r.Spent + r.perSecond(now)*rest, LastMonth: r.LastMonth,
		})
	}
	slices.SortFunc(m.Accounts, func(a, b Account) int { return a.compare(b.Path) })
	return m
}
