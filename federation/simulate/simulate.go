package simulate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// budget bounds the calls that are made in all, leastCalls and mostCalls those of
	// one service at one gateway at one moment: 4,000 tell a share to within a percent.
	budget     = 3_000_000
	leastCalls = 200
	mostCalls  = 4_000
	// overload is how much more an endpoint must carry to be told of.
	overload = 2.0
	// MaxServices bounds the services that are worked out: those called most.
	MaxServices = 5_000
)

// The moments that are looked at.
const (
	AtOnce  = "at_once"
	Settled = "settled"
)

// Simulate works out what would become of a recording's demand. seed makes the draws.
func Simulate(rec *Recording, c Change, seed uint64) *resource.Simulation {
	out := &resource.Simulation{RecordedAt: rec.At, Services: []resource.SimulatedService{}, Clusters: []resource.SimulatedCluster{}}
	s := &simulation{out: out, change: &c, seed: seed, clusters: make(map[catalog.ClusterName]*resource.SimulatedCluster)}
	lines := 0
	for i := range rec.Gateways {
		lines += len(demandOf(&rec.Gateways[i]))
	}
	s.calls = min(max(budget/(3*max(lines, 1)), leastCalls), mostCalls)
	for i := range rec.Gateways {
		s.gateway(&rec.Gateways[i])
	}
	out.Clusters = make([]resource.SimulatedCluster, 0, len(s.clusters))
	for _, name := range slices.Sorted(maps.Keys(s.clusters)) {
		out.Clusters = append(out.Clusters, *s.clusters[name])
		if s.clusters[name].Down {
			out.Down = append(out.Down, name)
		}
	}
	if len(out.Services) == 0 {
		s.unknown("nothing was called of late: there is no demand to work with")
	}
	for _, x := range []string{
		"what callers of other clusters send: their federations know it",
		"capacities that are not advertised: load is told per ready endpoint",
	} {
		s.unknown(x)
	}
	return out
}

type simulation struct {
	out      *resource.Simulation
	change   *Change
	seed     uint64
	calls    int
	clusters map[catalog.ClusterName]*resource.SimulatedCluster
}

func (s *simulation) unknown(text string) {
	if !slices.Contains(s.out.Unknown, text) {
		s.out.Unknown = append(s.out.Unknown, text)
	}
}

// line is the demand of one service's port.
type line struct {
	service    catalog.ServiceName
	port       string
	calls      float64 // per second
	bytes      float64 // per call
	perCluster map[catalog.ClusterName]route.Flow
}

// demandOf sums a gateway's demand by service and port, the most called first.
func demandOf(g *Gateway) []line {
	type key struct {
		service catalog.ServiceName
		port    string
	}
	seconds := max(g.Window.Seconds(), 1)
	lines := make(map[key]*line)
	for _, f := range g.Demand {
		if f.Calls == 0 {
			continue
		}
		k := key{f.Service, f.Port}
		l := lines[k]
		if l == nil {
			l = &line{service: f.Service, port: f.Port, perCluster: make(map[catalog.ClusterName]route.Flow)}
			lines[k] = l
		}
		l.calls += float64(f.Calls) / seconds
		l.bytes += float64(f.Sent+f.Received) / seconds
		was := l.perCluster[f.Cluster]
		was.Answered += f.Answered
		was.AnsweredTotal += f.AnsweredTotal
		l.perCluster[f.Cluster] = was
	}
	out := make([]line, 0, len(lines))
	for _, l := range lines {
		l.bytes /= l.calls
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b line) int {
		return cmp.Or(cmp.Compare(b.calls, a.calls), a.service.Compare(b.service), cmp.Compare(a.port, b.port))
	})
	return out[:min(len(out), MaxServices)]
}

func (s *simulation) gateway(g *Gateway) {
	down, unknown := clusters(g.Table, s.change.Down)
	for _, p := range unknown {
		s.unknown(fmt.Sprintf("%s: no cluster, region or cloud that is known here", p))
	}
	for _, k := range s.change.Capacity {
		if _, unknown := clusters(g.Table, []Place{k.Place}); len(unknown) > 0 {
			s.unknown(fmt.Sprintf("%s: no cluster, region or cloud that is known here", k.Place))
		}
	}
	s.out.Cluster = g.Table.Cluster.Name
	each(g.Table, func(name catalog.ClusterName, l catalog.Locality) {
		if s.clusters[name] == nil {
			s.clusters[name] = &resource.SimulatedCluster{Cluster: name, Locality: l, Down: down[name]}
		}
	})
	own := g.Table.Cluster.Name
	nothing := Change{}
	beforeTable, beforeReport := nothing.apply(g.Table, g.Report, nil, true)
	atOnce, atOnceReport := s.change.apply(g.Table, g.Report, down, false)
	settled, settledReport := s.change.apply(g.Table, g.Report, down, true)
	for _, l := range demandOf(g) {
		row := resource.SimulatedService{Service: l.service, Port: l.port, Gateway: g.Report.Gateway.Name, PerSecond: l.calls}
		row.Before = s.rehearse(&l, beforeTable, beforeReport)
		if down[own] {
			// Its callers are gone with it, and so is this gateway.
			row.AtOnce, row.Settled = []resource.SimulatedPart{}, []resource.SimulatedPart{}
			s.unknown(fmt.Sprintf("%s: the own cluster is down, and its callers with it; ask the federations of others", own))
		} else {
			row.AtOnce = s.rehearse(&l, atOnce, atOnceReport)
			row.Settled = s.rehearse(&l, settled, settledReport)
		}
		s.charge(&l, &row)
		s.breaks(&row)
		s.out.Services = append(s.out.Services, row)
	}
}

// rehearse makes the calls of one line at one moment.
func (s *simulation) rehearse(l *line, t *route.Table, r *route.Report) []resource.SimulatedPart {
	one, of := only(t, r, l.service)
	evidence, live := route.EvidenceFromReport(of)
	plan := route.Compile(one, evidence, live)
	measured := func(target route.Target) (time.Duration, bool) {
		if f, ok := l.perCluster[target.Cluster]; ok && f.Answered > 0 {
			return f.Mean(), false
		}
		return l.guess(target.Cluster, one, of), true
	}
	parts := plan.Rehearse(route.Rehearsal{
		Request: route.Request{Service: l.service, Port: l.port, NowNanos: of.At.UnixNano()},
		Calls:   s.calls, Every: time.Duration(float64(time.Second) / l.calls), Seed: s.seed,
		Took: func(target route.Target) time.Duration { d, _ := measured(target); return d },
	})
	ready := readyOf(one, of, l.service, l.port)
	out := make([]resource.SimulatedPart, 0, len(parts))
	for _, p := range parts {
		x := resource.SimulatedPart{
			Cluster: p.Cluster, Status: p.Status.String(), Share: 100 * p.Share, InPanic: 100 * p.InPanic,
		}
		if p.Status == route.OK {
			d, guessed := measured(route.Target{Cluster: p.Cluster})
			x.Took, x.Estimated = d, guessed && d > 0
			if x.Ready = ready[p.Cluster]; x.Ready > 0 {
				x.PerEndpoint = p.Share * l.calls / float64(x.Ready)
			}
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b resource.SimulatedPart) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Cluster, b.Cluster))
	})
	return out
}

// only is what of a table and a report concerns one service: a plan of it alone costs
// little.
func only(t *route.Table, r *route.Report, name catalog.ServiceName) (*route.Table, *route.Report) {
	table, report := *t, *r
	table.Services, report.Targets, report.Endpoints = nil, nil, nil
	table.Intentions = policy.Intentions{}
	if i, ok := slices.BinarySearchFunc(t.Services, name, func(s route.Service, n catalog.ServiceName) int { return s.Name.Compare(n) }); ok {
		table.Services = t.Services[i : i+1]
	}
	for i := range r.Targets {
		if r.Targets[i].Target.Service == name {
			report.Targets = append(report.Targets, r.Targets[i])
		}
	}
	for i := range r.Endpoints {
		if r.Endpoints[i].Endpoint.Service == name {
			report.Endpoints = append(report.Endpoints, r.Endpoints[i])
		}
	}
	return &table, &report
}

// guess is what a call to a cluster takes that was not called: the round trip, and
// what the service takes where it was called, beyond the round trip to there.
func (l *line) guess(to catalog.ClusterName, t *route.Table, r *route.Report) time.Duration {
	work := time.Duration(-1)
	for name, f := range l.perCluster {
		if f.Answered == 0 {
			continue
		}
		if w := max(f.Mean()-rttTo(name, t, r), 0); work < 0 || w < work {
			work = w
		}
	}
	if work < 0 {
		return 0
	}
	return rttTo(to, t, r) + work
}

func rttTo(c catalog.ClusterName, t *route.Table, r *route.Report) time.Duration {
	if c == t.Cluster.Name {
		return 0
	}
	for i := range r.Clusters {
		if r.Clusters[i].Cluster == c {
			return r.Clusters[i].RTT
		}
	}
	return 0
}

// readyOf are the ready endpoints of a service by cluster.
func readyOf(t *route.Table, r *route.Report, name catalog.ServiceName, port string) map[catalog.ClusterName]uint32 {
	out := make(map[catalog.ClusterName]uint32)
	for i := range t.Services {
		s := &t.Services[i]
		if s.Name != name {
			continue
		}
		p, ok := catalog.FindPort(s.Ports, port)
		if !ok {
			return out
		}
		sick := make(map[string]bool)
		for k := range r.Endpoints {
			if e := &r.Endpoints[k]; e.Known && !e.Healthy && e.Endpoint.Port == p.Name {
				sick[e.Endpoint.ID] = true
			}
		}
		for k := range s.Endpoints {
			if e := &s.Endpoints[k]; e.Port == p.Name && e.Health.Usable() && !sick[e.ID] {
				out[t.Cluster.Name]++
			}
		}
		for k := range s.Remote {
			for _, row := range s.Remote[k].Rows {
				if row.Port == p.Name {
					out[s.Remote[k].Cluster] += row.Ready
				}
			}
		}
		for k := range r.Targets {
			if x := &r.Targets[k]; x.Reported && x.Target.Port == p.Name && r.At.Sub(x.ReportedAt) <= route.ReportFresh {
				out[x.Target.Cluster] = x.Ready
			}
		}
	}
	return out
}

// charge adds a line's calls to the clusters.
func (s *simulation) charge(l *line, row *resource.SimulatedService) {
	for _, of := range []struct {
		parts []resource.SimulatedPart
		add   func(*resource.SimulatedCluster, float64)
	}{
		{row.Before, func(c *resource.SimulatedCluster, n float64) { c.Before += n; c.BytesBefore += n * l.bytes }},
		{row.AtOnce, func(c *resource.SimulatedCluster, n float64) { c.AtOnce += n }},
		{row.Settled, func(c *resource.SimulatedCluster, n float64) { c.Settled += n; c.BytesSettled += n * l.bytes }},
	} {
		for _, p := range of.parts {
			if c := s.clusters[p.Cluster]; c != nil {
				of.add(c, p.Share/100*l.calls)
			}
		}
	}
}

// breaks notes what would go wrong that does not go wrong now.
func (s *simulation) breaks(row *resource.SimulatedService) {
	refusedNow, panicNow := troubles(row.Before)
	busiest := 0.0
	for _, p := range row.Before {
		busiest = max(busiest, p.PerEndpoint)
	}
	for _, m := range []struct {
		when  string
		parts []resource.SimulatedPart
	}{{AtOnce, row.AtOnce}, {Settled, row.Settled}} {
		note := func(what, reason string, share float64) {
			s.out.Breaks = append(s.out.Breaks, resource.SimulatedBreak{
				Service: row.Service, Port: row.Port, Gateway: row.Gateway, When: m.when, What: what, Reason: reason, Share: share,
			})
		}
		refused, inPanic := troubles(m.parts)
		for _, status := range slices.Sorted(maps.Keys(refused)) {
			if refused[status] > refusedNow[status] {
				note("refused", status, refused[status])
			}
		}
		if inPanic > panicNow {
			note("panic", "too few endpoints are ready: calls go to those that are not, too", inPanic)
		}
		for _, p := range m.parts {
			if busiest > 0 && p.PerEndpoint > overload*busiest {
				note("overload", fmt.Sprintf("an endpoint of %s gets %.3g calls/s, %.2g times as many as the busiest now", p.Cluster, p.PerEndpoint, p.PerEndpoint/busiest), p.Share)
			}
		}
	}
}

func troubles(parts []resource.SimulatedPart) (refused map[string]float64, inPanic float64) {
	refused = make(map[string]float64)
	for _, p := range parts {
		if p.Cluster == "" {
			refused[p.Status] += p.Share
		}
		inPanic += p.InPanic
	}
	return refused, inPanic
}
