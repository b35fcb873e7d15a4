package drill

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/federation/simulate"
)

// MostServices bounds the services of a report.
const MostServices = 50

// Forecast is what was predicted of one service's port at one gateway.
type Forecast struct {
	Service   catalog.ServiceName `json:"service"`
	Port      string              `json:"port"`
	Gateway   string              `json:"gateway"`
	PerSecond float64             `json:"per_second"`
	Parts     []ForecastPart      `json:"parts"`
}

// ForecastPart is where a part of the calls goes.
type ForecastPart struct {
	Cluster   catalog.ClusterName `json:"cluster,omitempty"` // "": nowhere
	Share     float64             `json:"share"`             // of 1
	Took      time.Duration       `json:"took_ns,omitempty"`
	Estimated bool                `json:"estimated,omitempty"`
}

// ForecastsOf are a simulation's at a moment, the most called first. What would be decided
// without regard to health goes nowhere: a drill spares it. Ports are given their names.
func ForecastsOf(s *resource.Simulation, moment string, t *route.Table) []Forecast {
	out := make([]Forecast, 0, len(s.Services))
	for i := range s.Services {
		x := &s.Services[i]
		f := Forecast{Service: x.Service, Port: portName(t, x.Service, x.Port), Gateway: x.Gateway, PerSecond: x.PerSecond}
		parts := x.Settled
		if moment == simulate.AtOnce {
			parts = x.AtOnce
		}
		nowhere := 0.0
		for _, p := range parts {
			if p.Cluster == "" {
				nowhere += p.Share / 100
				continue
			}
			nowhere += p.InPanic / 100
			if left := (p.Share - p.InPanic) / 100; left > 0 {
				f.Parts = append(f.Parts, ForecastPart{Cluster: p.Cluster, Share: left, Took: p.Took, Estimated: p.Estimated})
			}
		}
		if nowhere > 0 {
			f.Parts = append(f.Parts, ForecastPart{Share: nowhere})
		}
		out = append(out, f)
	}
	slices.SortStableFunc(out, func(a, b Forecast) int { return cmp.Compare(b.PerSecond, a.PerSecond) })
	return out
}

func portName(t *route.Table, service catalog.ServiceName, port string) string {
	for i := range t.Services {
		if t.Services[i].Name == service {
			if p, ok := catalog.FindPort(t.Services[i].Ports, port); ok {
				return p.Name
			}
		}
	}
	return port
}

// Account is one gateway's count.
type Account struct {
	Gateway string
	Rows    []route.DrillRow
}

// tally is the calls of one service's port, or of all.
type tally struct {
	drilled, others sums
	to              map[catalog.ClusterName]*destination
	spared          uint64
}

type destination struct {
	sums
	predicted float64 // calls
	took      float64 // nanoseconds, of the predicted calls
	known     float64 // how many of them it is known of
	estimated bool
}

type sums struct {
	calls, failed, late, answered uint64
	took                          time.Duration
}

func (s *sums) add(r *route.DrillRow) {
	s.calls, s.failed, s.late, s.answered = s.calls+r.Calls, s.failed+r.Failed, s.late+r.Late, s.answered+r.Answered
	s.took += r.AnsweredTotal
}

func (s *sums) out() resource.DrillCalls {
	c := resource.DrillCalls{Calls: s.calls, Failed: s.failed, Late: s.late}
	if s.answered > 0 {
		c.Took = s.took / time.Duration(s.answered)
	}
	return c
}

type portAt struct {
	route.PortKey
	gateway string
}

// Compare sets what was predicted against what was counted. Each gateway's prediction
// counts by the calls that it drilled, so that what is compared is where calls go and not
// how many there are; before the first call it counts by what was called.
func Compare(forecasts []Forecast, accounts []Account) resource.DrillReport {
	ports := make(map[route.PortKey]*tally)
	all := newTally()
	of := func(k route.PortKey) *tally {
		if ports[k] == nil {
			ports[k] = newTally()
		}
		return ports[k]
	}
	drilled := make(map[portAt]float64)
	spared := make(map[string]uint64)
	for _, a := range accounts {
		for i := range a.Rows {
			r := &a.Rows[i]
			k := route.PortKey{Service: r.Service, Port: r.Port}
			for _, t := range []*tally{of(k), all} {
				t.count(r)
			}
			if r.Side == route.Drilled || r.Side == route.DrillSpared {
				drilled[portAt{k, a.Gateway}] += float64(r.Calls)
			}
			if r.Side == route.DrillSpared {
				spared[r.Spared] += r.Calls
			}
		}
	}
	none := len(drilled) == 0
	for i := range forecasts {
		f := &forecasts[i]
		k := route.PortKey{Service: f.Service, Port: f.Port}
		weight := drilled[portAt{k, f.Gateway}]
		if none {
			weight = f.PerSecond
		}
		if weight > 0 {
			of(k).predict(f, weight)
			all.predict(f, weight)
		}
	}
	out := resource.DrillReport{Drilled: all.drilled.out(), Others: all.others.out(), Services: []resource.DrillService{}}
	out.Split, out.Error, out.Noise = all.split()
	for _, reason := range slices.Sorted(maps.Keys(spared)) {
		out.Spared = append(out.Spared, resource.DrillSpared{Reason: reason, Calls: spared[reason]})
	}
	for k, t := range ports {
		s := resource.DrillService{Service: k.Service, Port: k.Port, Drilled: t.drilled.out(), Others: t.others.out()}
		s.Split, s.Error, s.Noise = t.split()
		out.Services = append(out.Services, s)
	}
	slices.SortFunc(out.Services, func(a, b resource.DrillService) int {
		return cmp.Or(cmp.Compare(b.Drilled.Calls+b.Others.Calls, a.Drilled.Calls+a.Others.Calls), a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port))
	})
	out.Services = out.Services[:min(len(out.Services), MostServices)]
	return out
}

func newTally() *tally { return &tally{to: make(map[catalog.ClusterName]*destination)} }

func (t *tally) at(c catalog.ClusterName) *destination {
	if t.to[c] == nil {
		t.to[c] = new(destination)
	}
	return t.to[c]
}

func (t *tally) count(r *route.DrillRow) {
	switch r.Side {
	case route.Drilled:
		t.drilled.add(r)
		t.at(r.Cluster).add(r)
	case route.DrillSpared:
		t.spared += r.Calls
		t.at("").add(r)
		t.others.add(r)
	default:
		t.others.add(r)
	}
}

func (t *tally) predict(f *Forecast, weight float64) {
	for _, p := range f.Parts {
		d := t.at(p.Cluster)
		d.predicted += weight * p.Share
		if p.Took > 0 {
			d.took, d.known = d.took+weight*p.Share*float64(p.Took), d.known+weight*p.Share
			d.estimated = d.estimated || p.Estimated
		}
	}
}

// split are the destinations, the largest difference in points, and how large it is by
// chance: 1.96 standard deviations of the share that differs most.
func (t *tally) split() (parts []resource.DrillPart, worst, noise float64) {
	var predicted float64
	for _, d := range t.to {
		predicted += d.predicted
	}
	observed := float64(t.drilled.calls + t.spared)
	parts = make([]resource.DrillPart, 0, len(t.to))
	for _, name := range slices.Sorted(maps.Keys(t.to)) {
		d := t.to[name]
		p := resource.DrillPart{Cluster: name, DrillCalls: d.out(), Estimated: d.estimated}
		if predicted > 0 {
			p.Predicted = 100 * d.predicted / predicted
		}
		if observed > 0 {
			p.Observed = 100 * float64(d.calls) / observed
			worst = max(worst, math.Abs(p.Predicted-p.Observed))
			share := max(min(p.Predicted/100, 1), 0)
			noise = max(noise, 196*math.Sqrt(share*(1-share)/observed))
		}
		if d.known > 0 {
			p.PredictedTook = time.Duration(d.took / d.known)
		}
		parts = append(parts, p)
	}
	slices.SortStableFunc(parts, func(a, b resource.DrillPart) int { return cmp.Compare(b.Predicted, a.Predicted) })
	return parts, worst, noise
}
