package route

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// MaxReported bounds the targets and the endpoints of one report each: with
// every figure at its largest it then stays below 16 MiB.
const MaxReported = 20_000

// Fill sets the clusters, targets and endpoints of r from evidence and live
// counters, in order, at nowNanos (Unix time). What has neither evidence nor
// calls is left out.
func (r *Report) Fill(e *Evidence, l *Live, nowNanos int64) {
	r.Clusters, r.Targets, r.Endpoints, r.Ports, r.Zones = nil, nil, nil, nil, nil
	for _, name := range slices.Sorted(maps.Keys(e.Links)) {
		r.Clusters = append(r.Clusters, ClusterReport{Cluster: name, LinkEvidence: e.Links[name]})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range keysOf(e.Targets, l.targets) {
		if tr, told := targetReport(t, e, l, nowNanos); told && len(r.Targets) < MaxReported {
			r.Targets = append(r.Targets, tr)
		}
	}
	gated := gatedPorts(e)
	for _, k := range slices.SortedFunc(maps.Keys(e.Demands), PortKey.Compare) {
		if gated[k] && len(r.Ports) < MaxReported {
			r.Ports = append(r.Ports, PortReport{k, e.Demands[k]})
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(e.Zones), ZoneKey.Compare) {
		if len(r.Zones) < MaxReported {
			r.Zones = append(r.Zones, ZoneReport{k, e.Zones[k]})
		}
	}
	for _, k := range keysOf(e.Endpoints, l.endpoints) {
		if er, told := endpointReport(k, e, l, nowNanos); told && len(r.Endpoints) < MaxReported {
			r.Endpoints = append(r.Endpoints, er)
		}
	}
}

func targetReport(t Target, e *Evidence, l *Live, nowNanos int64) (TargetReport, bool) {
	ev, known := e.Targets[t]
	out := TargetReport{
		Target: t, EjectedUntil: ev.EjectedUntil, Reason: ev.Reason, Withheld: ev.Withheld,
		Reported: ev.Reported, Ready: ev.Ready, Total: ev.Total, ReportedAt: ev.ReportedAt,
		Processing: ev.Processing, Others: ev.Others,
	}
	if s := l.sizes[Target{Service: t.Service, Port: t.Port}]; s != nil {
		out.MeanRequest, out.MeanAnswer = s.Means(nowNanos)
	}
	room := TargetCapacity{Capacity: ev.Capacity, Carried: ev.InFlight, GrantedUntil: ev.GrantedUntil, Share: ev.Share}
	room.SetSpare(ev.Spare)
	room.SetGrant(ev.Granted)
	if room != (TargetCapacity{}) {
		out.Room = &room
	}
	if c := l.targets[t]; c != nil {
		out.InFlight, out.EWMA, out.Requests, out.Failures = c.InFlight(), c.EWMA(nowNanos), c.Requests(), c.Failures()
		if f := l.forecasts[t]; f != nil {
			out.Forecast = f.Report(nowNanos, c)
		}
	}
	return out, known || out.Requests > 0
}

func endpointReport(k EndpointKey, e *Evidence, l *Live, nowNanos int64) (EndpointReport, bool) {
	ev, known := e.Endpoints[k]
	out := EndpointReport{
		Endpoint: k, Known: known, Healthy: ev.Healthy, Reason: ev.Reason, Since: ev.Since,
		EjectedUntil: ev.EjectedUntil,
	}
	if c := l.endpoints[k]; c != nil {
		out.InFlight, out.EWMA, out.Requests, out.Failures = c.InFlight(), c.EWMA(nowNanos), c.Requests(), c.Failures()
	}
	return out, known || out.Requests > 0
}

// keysOf both maps, sorted, each once.
func keysOf[K interface {
	comparable
	Compare(K) int
}, A, B any](a map[K]A, b map[K]B) []K {
	keys := make([]K, 0, len(a)+len(b))
	keys = slices.AppendSeq(keys, maps.Keys(a))
	keys = slices.AppendSeq(keys, maps.Keys(b))
	slices.SortFunc(keys, K.Compare)
	return slices.Compact(keys)
}

// EvidenceFromReport rebuilds the evidence and the live counters that a gateway
// reported, so that its federation can explain the gateway's decisions. A
// report without Clusters is read by its links.
func EvidenceFromReport(r *Report) (*Evidence, *Live) {
	e := &Evidence{
		Now: r.At, Self: r.Locality, Switches: r.Switches,
		Links:     linksOf(r),
		Targets:   make(map[Target]TargetEvidence, len(r.Targets)),
		Endpoints: make(map[EndpointKey]EndpointEvidence, len(r.Endpoints)),
		Demands:   make(map[PortKey]PortDemand, len(r.Ports)),
	}
	l := NewLive()
	l.reported = true
	if r.Drill != nil && r.Drill.Running {
		l.Drills(r.Drill.ID, time.Time{})
	}
	at := r.At.UnixNano()
	for _, t := range r.Targets {
		ev := TargetEvidence{
			EjectedUntil: t.EjectedUntil, Reason: t.Reason, Withheld: t.Withheld,
			Reported: t.Reported, Ready: t.Ready, Total: t.Total, ReportedAt: t.ReportedAt,
			Processing: t.Processing, Others: t.Others,
		}
		l.Forecast(t.Target).restore(at, t.Forecast, l.Target(t.Target))
		if t.MeanRequest > 0 || t.MeanAnswer > 0 {
			s := l.Sizes(t.Target.Service, t.Target.Port)
			s.out.restore(at, t.MeanRequest)
			s.in.restore(at, t.MeanAnswer)
		}
		if room := t.Room; room != nil {
			ev.Capacity, ev.Spare, ev.InFlight, ev.Granted = room.Capacity, room.GradedSpare(), room.Carried, room.GradedGrant()
			ev.GrantedUntil, ev.Share = room.GrantedUntil, room.Share
		}
		e.Targets[t.Target] = ev
		l.Target(t.Target).restore(at, t.InFlight, t.Requests, t.Failures, t.EWMA)
	}
	for _, p := range r.Ports {
		e.Demands[p.PortKey] = p.PortDemand
	}
	if len(r.Zones) > 0 {
		e.Zones = make(map[ZoneKey]ZoneEvidence, len(r.Zones))
	}
	for _, z := range r.Zones {
		e.Zones[z.ZoneKey] = z.ZoneEvidence
	}
	for _, ep := range r.Endpoints {
		if ep.Known {
			e.Endpoints[ep.Endpoint] = EndpointEvidence{
				Healthy: ep.Healthy, Reason: ep.Reason, Since: ep.Since, EjectedUntil: ep.EjectedUntil,
			}
		}
		l.Endpoint(ep.Endpoint).restore(at, ep.InFlight, ep.Requests, ep.Failures, ep.EWMA)
	}
	return e, l
}

func (c *Counters) restore(at int64, inFlight int64, requests, failures uint64, ewma time.Duration) {
	c.inFlight.Store(max(inFlight, 0))
	c.requests.Store(requests)
	c.failures.Store(failures)
	if ewma > 0 {
		c.ewma.sample(at, ewma)
	}
}

// linksOf prefers what the gateway compiled by; a gateway that told its links
// alone is read by the best of each cluster's.
func linksOf(r *Report) map[catalog.ClusterName]LinkEvidence {
	out := make(map[catalog.ClusterName]LinkEvidence, len(r.Clusters))
	for _, c := range r.Clusters {
		out[c.Cluster] = c.LinkEvidence
	}
	if len(r.Clusters) > 0 {
		return out
	}
	links := slices.Clone(r.Links)
	slices.SortStableFunc(links, func(a, b LinkReport) int {
		return cmp.Or(cmp.Compare(linkOrder(a.State), linkOrder(b.State)), cmp.Compare(a.RTT, b.RTT))
	})
	for _, l := range links {
		if _, done := out[l.Cluster]; !done {
			out[l.Cluster] = LinkEvidence{
				Up: l.State == "up", Draining: l.State == "draining", Since: l.Since, RTT: l.RTT, Loss: l.Loss,
				BandwidthOut: l.BandwidthOut, BandwidthIn: l.BandwidthIn,
			}
		}
	}
	return out
}

func linkOrder(state string) int {
	switch state {
	case "up":
		return 0
	case "draining":
		return 1
	default:
		return 2
	}
}

// gatedPorts are those whose capacity is known anywhere, or shared out.
func gatedPorts(e *Evidence) map[PortKey]bool {
	out := make(map[PortKey]bool)
	for t, ev := range e.Targets {
		if ev.Capacity > 0 || ev.Share > 0 {
			out[PortKey{t.Service, t.Port}] = true
		}
	}
	return out
}
