package simulate

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// line is the demand of one service's port.
type line struct {
	service    catalog.ServiceName
	port       string
	calls      float64 // per second
	out, in    float64 // bytes per call, of requests and answers
	perCluster map[catalog.ClusterName]route.Flow
	// askers are who asks, rates their calls a second by priority.
	askers []asker
	rates  route.ByPriority
}

type asker struct {
	caller    string
	priority  route.Priority
	perSecond float64
}

func (l *line) bytes() float64 { return l.out + l.in }

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
		l.out += float64(f.Sent) / seconds
		l.in += float64(f.Received) / seconds
		was := l.perCluster[f.Cluster]
		was.Answered += f.Answered
		was.AnsweredTotal += f.AnsweredTotal
		l.perCluster[f.Cluster] = was
	}
	for _, a := range g.Askers {
		if l := lines[key{a.Service, a.Port}]; l != nil && a.Calls > 0 {
			rate := float64(a.Calls) / seconds
			l.askers = append(l.askers, asker{a.Caller, a.Priority, rate})
			l.rates[a.Priority%route.Priorities] += rate
		}
	}
	out := make([]line, 0, len(lines))
	for _, l := range lines {
		l.out, l.in = l.out/l.calls, l.in/l.calls
		if l.rates.Sum() == 0 {
			l.unnamed(g)
		}
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b line) int {
		return cmp.Or(cmp.Compare(b.calls, a.calls), a.service.Compare(b.service), cmp.Compare(a.port, b.port))
	})
	return out[:min(len(out), MaxServices)]
}

// unnamed takes priorities from the demand of the port, of whose callers nothing is
// known.
func (l *line) unnamed(g *Gateway) {
	port := l.port
	for i := range g.Table.Services {
		if s := &g.Table.Services[i]; s.Name == l.service {
			if p, ok := catalog.FindPort(s.Ports, l.port); ok {
				port = p.Name
			}
		}
	}
	for _, p := range g.Report.Ports {
		if p.Service == l.service && p.Port == port {
			l.rates = p.Rate
		}
	}
	if sum := l.rates.Sum(); sum > 0 {
		for p := range l.rates {
			if l.rates[p] *= l.calls / sum; l.rates[p] > 0 {
				l.askers = append(l.askers, asker{"", route.Priority(p), l.rates[p]})
			}
		}
		return
	}
	l.rates[route.PriorityDefault] = l.calls
	l.askers = []asker{{"", route.PriorityDefault, l.calls}}
}

// inFlight is how many of the line's calls are under way at once, by what they took.
func (l *line) inFlight() float64 {
	longest := time.Duration(0)
	for _, f := range l.perCluster {
		longest = max(longest, f.Mean())
	}
	return l.calls * longest.Seconds()
}
