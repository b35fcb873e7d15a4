package simulate

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

const (
	// month is the hours of a mean month, as clouds bill them.
	month = 730 * time.Hour
	// turnover is how often the calls in flight are made anew where slots are counted,
	// mostTurnover bounds the calls of that.
	turnover     = 4
	mostTurnover = 100_000
)

// moment is where the calls of one line go at one moment.
type moment struct {
	parts []resource.SimulatedPart
	// lost is the part of each priority's calls that goes nowhere.
	lost route.ByPriority
}

// rehearse makes the calls of one line at one moment.
func (s *simulation) rehearse(l *line, t *route.Table, r *route.Report) moment {
	one, of := only(t, r, l.service)
	evidence, live := route.EvidenceFromReport(of)
	plan := route.Compile(one, evidence, live)
	measured := func(target route.Target) (time.Duration, bool) {
		if f, ok := l.perCluster[target.Cluster]; ok && f.Answered > 0 {
			return f.Mean(), false
		}
		return l.guess(target.Cluster, one, of), true
	}
	re := route.Rehearsal{
		Request: route.Request{Service: l.service, Port: l.port, NowNanos: of.At.UnixNano()},
		Calls:   s.calls, Every: time.Duration(float64(time.Second) / l.calls), Seed: s.seed,
		Took: func(target route.Target) time.Duration { d, _ := measured(target); return d },
	}
	for p, rate := range l.rates {
		if rate > 0 {
			re.Classes = append(re.Classes, route.Class{Priority: route.Priority(p), Weight: rate})
		}
	}
	if roomy(of) {
		// Slots fill as calls come and go: that must have settled before it is counted.
		if n := l.inFlight(); n > mostTurnover/turnover {
			s.unknown(fmt.Sprintf("%s: more calls are in flight than can be made here: what is shed is told too low", l.service))
		} else {
			re.Calls = max(re.Calls, int(turnover*n))
		}
		re.Warm = re.Calls / 2
	}
	out := moment{}
	lost := make([]float64, len(re.Classes))
	merged := make(map[string]int)
	ready := readyOf(one, of, l.service, l.port)
	for _, p := range plan.Rehearse(re) {
		if p.Status != route.OK && p.Class < len(lost) {
			lost[p.Class] += p.Share
		}
		key := string(p.Cluster) + " " + p.Status.String()
		at, known := merged[key]
		if !known {
			at = len(out.parts)
			merged[key] = at
			out.parts = append(out.parts, resource.SimulatedPart{Cluster: p.Cluster, Status: p.Status.String()})
		}
		x := &out.parts[at]
		x.Share, x.InPanic = x.Share+100*p.Share, x.InPanic+100*p.InPanic
		if p.Status == route.OK {
			x.Spend += p.Share * l.calls * p.Price.Dollars(l.out, l.in) * month.Seconds()
			x.Unpriced = x.Unpriced || !p.Price.Known && one.Tariff != nil
		}
	}
	for i := range out.parts {
		x := &out.parts[i]
		if x.Status != route.OK.String() {
			continue
		}
		d, guessed := measured(route.Target{Cluster: x.Cluster})
		x.Took, x.Estimated = d, guessed && d > 0
		if x.Ready = ready[x.Cluster]; x.Ready > 0 {
			x.PerEndpoint = x.Share / 100 * l.calls / float64(x.Ready)
		}
	}
	sum := l.rates.Sum()
	for i, c := range re.Classes {
		out.lost[c.Priority] = lost[i] * sum / c.Weight
	}
	slices.SortFunc(out.parts, func(a, b resource.SimulatedPart) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Status, b.Status))
	})
	return out
}

// roomy reports whether the capacity of anything is known.
func roomy(r *route.Report) bool {
	return len(r.Ports) > 0 || slices.ContainsFunc(r.Targets, func(t route.TargetReport) bool { return t.Room != nil })
}

// only is what of a table and a report concerns one service: a plan of it alone costs
// little. The calls in flight are left out, since they are made anew.
func only(t *route.Table, r *route.Report, name catalog.ServiceName) (*route.Table, *route.Report) {
	table, report := *t, *r
	table.Services, report.Targets, report.Endpoints, report.Ports = nil, nil, nil, nil
	table.Intentions = policy.Intentions{}
	if i, ok := slices.BinarySearchFunc(t.Services, name, func(s route.Service, n catalog.ServiceName) int { return s.Name.Compare(n) }); ok {
		table.Services = t.Services[i : i+1]
	}
	for i := range r.Targets {
		if r.Targets[i].Target.Service == name {
			x := r.Targets[i]
			x.InFlight = 0
			report.Targets = append(report.Targets, x)
		}
	}
	for i := range r.Endpoints {
		if r.Endpoints[i].Endpoint.Service == name {
			x := r.Endpoints[i]
			x.InFlight = 0
			report.Endpoints = append(report.Endpoints, x)
		}
	}
	for i := range r.Ports {
		if r.Ports[i].Service == name {
			report.Ports = append(report.Ports, r.Ports[i])
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
