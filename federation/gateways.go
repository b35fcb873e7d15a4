package federation

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// maxGateways bounds the gateways of one cluster, and so what their reports
	// hold in memory.
	maxGateways = 256
	// aliveFor is how old the last report of a living gateway may be: five of
	// them missed. What an older one says is no evidence.
	aliveFor = 5 * time.Second
	// forgetAfter is when a silent gateway leaves the lists.
	forgetAfter = time.Minute
)

var errTooManyGateways = errors.New("too many gateways report")

// heard is the last report of one gateway, and when it came by our own clock:
// theirs may be anything.
type heard struct {
	report *route.Report
	at     time.Time
}

// gateways holds the own gateways' last reports. Time is an argument of every
// question.
type gateways struct {
	mu   sync.Mutex
	last map[string]heard
	// roster is what peers were told last. It is never replaced by an empty one:
	// where no gateway is heard it is us who hear nothing.
	roster []catalog.Gateway
}

func newGateways() *gateways { return &gateways{last: make(map[string]heard)} }

// take keeps a report whose sender is who it says, and tells whether the
// gateway is new, and whether the report says more than the one before.
func (g *gateways) take(r *route.Report, now time.Time) (joined, news bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, known := g.last[r.Gateway.Name]
	if !known && len(g.last) >= maxGateways {
		return false, false, fmt.Errorf("gateway %s: %w: at most %d", r.Gateway.Name, errTooManyGateways, maxGateways)
	}
	g.last[r.Gateway.Name] = heard{report: r, at: now}
	return !known || now.Sub(before.at) > aliveFor, !known || saysMore(before.report, r), nil
}

// sweep forgets gateways that have been silent for long, and says which.
func (g *gateways) sweep(now time.Time) (forgotten []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, h := range g.last {
		if now.Sub(h.at) > forgetAfter {
			delete(g.last, name)
			forgotten = append(forgotten, name)
		}
	}
	slices.Sort(forgotten)
	return forgotten
}

// all are the gateways' last reports by name, silent ones included.
func (g *gateways) all() []heard {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := slices.Collect(maps.Values(g.last))
	slices.SortFunc(out, func(a, b heard) int { return cmp.Compare(a.report.Gateway.Name, b.report.Gateway.Name) })
	return out
}

// fresh are the reports that are evidence now, by name.
func (g *gateways) fresh(now time.Time) []heard {
	return slices.DeleteFunc(g.all(), func(h heard) bool { return !h.alive(now) })
}

func (h heard) alive(now time.Time) bool { return now.Sub(h.at) <= aliveFor }

// rosterNow is what peers are told of the own gateways, by name.
func (g *gateways) rosterNow(now time.Time) []catalog.Gateway {
	fresh := g.fresh(now)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(fresh) == 0 {
		return g.roster
	}
	roster := make([]catalog.Gateway, len(fresh))
	for i, h := range fresh {
		roster[i] = h.report.Gateway
	}
	if !slices.EqualFunc(g.roster, roster, catalog.Gateway.Equal) {
		g.roster = roster
	}
	return g.roster
}

// toward are the living gateways that have a control listener, the likeliest to
// reach peer first: a link that is up, then the freshest report.
func (g *gateways) toward(peer catalog.ClusterName, now time.Time) []*route.Report {
	fresh := slices.DeleteFunc(g.fresh(now), func(h heard) bool { return h.report.Control == "" })
	slices.SortStableFunc(fresh, func(a, b heard) int {
		if up, down := linked(a.report, peer), linked(b.report, peer); up != down {
			if up {
				return -1
			}
			return 1
		}
		return b.at.Compare(a.at)
	})
	out := make([]*route.Report, len(fresh))
	for i, h := range fresh {
		out[i] = h.report
	}
	return out
}

// linked reports whether the gateway has a link to the cluster that is up.
func linked(r *route.Report, cluster catalog.ClusterName) bool {
	return slices.ContainsFunc(r.Links, func(l route.LinkReport) bool { return l.Cluster == cluster && l.State == "up" })
}

// count is how many gateways there are, those included that are silent for a moment.
func (g *gateways) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.last)
}

// named returns the last report of one gateway.
func (g *gateways) named(name string) (heard, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	h, ok := g.last[name]
	return h, ok
}
