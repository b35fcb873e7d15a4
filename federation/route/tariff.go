package route

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Tariff is what bytes cost between this cluster and others, as its federation found
// it in the price book. What is not in it costs nothing, and is called unknown.
type Tariff struct {
	// Zones are the prices of a GB between two zones of the own region.
	Zones []PriceStep `json:"zones,omitempty"`
	// Paths are those to peers, by name.
	Paths []PathPrice `json:"paths,omitempty"`
	// Saving are the services (sorted) of which a budget says that price counts more
	// for now: Budget.Save of their traffic policies.
	Saving []catalog.ServiceName `json:"saving,omitempty"`
}

// PathPrice is what a GB of payload costs between this cluster and a peer: what leaving
// the one cloud and what entering the other one costs, whoever is billed.
type PathPrice struct {
	Cluster catalog.ClusterName `json:"cluster"`
	// Zonal: both are of one region, and the prices are those between its zones. Within
	// a zone a byte costs nothing.
	Zonal bool `json:"zonal,omitempty"`
	// Out is of requests, In of answers; empty is not known.
	Out []PriceStep `json:"out,omitempty"`
	In  []PriceStep `json:"in,omitempty"`
}

// PriceStep is a price from a day on, in dollars for 10^9 bytes.
type PriceStep struct {
	From  time.Time `json:"from,omitzero"`
	PerGB float64   `json:"per_gb"`
}

const (
	// MaxPriceSteps bounds the prices of one direction of a path: those of now, and what
	// is announced.
	MaxPriceSteps = 32
	// MaxPricePerGB is far above what any network costs.
	MaxPricePerGB = 1000
)

// Price is what a GB costs on the way to a place, and back.
type Price struct {
	Out float64 `json:"out_per_gb"`
	In  float64 `json:"in_per_gb"`
	// Known is false where the price book has nothing for one of the directions, which
	// is then 0.
	Known bool `json:"known"`
}

// Dollars is what so many bytes of requests and answers cost.
func (p Price) Dollars(out, in float64) float64 { return (out*p.Out + in*p.In) / 1e9 }

// at is the step of a moment; the steps are in order.
func at(steps []PriceStep, now time.Time) (perGB float64, known bool) {
	for _, s := range steps {
		if s.From.After(now) {
			break
		}
		perGB, known = s.PerGB, true
	}
	return perGB, known
}

// Toward is the price of the path to a peer; sameZone says that the call stays in the
// zone that it comes from.
func (t *Tariff) Toward(cluster catalog.ClusterName, sameZone bool, now time.Time) Price {
	if t == nil {
		return Price{}
	}
	i, found := slices.BinarySearchFunc(t.Paths, cluster, func(p PathPrice, c catalog.ClusterName) int { return cmp.Compare(p.Cluster, c) })
	if !found {
		return Price{}
	}
	p := &t.Paths[i]
	if p.Zonal && sameZone {
		return Price{Known: true}
	}
	return priceOf(p.Out, p.In, now)
}

func priceOf(out, in []PriceStep, now time.Time) (p Price) {
	var outKnown, inKnown bool
	p.Out, outKnown = at(out, now)
	p.In, inKnown = at(in, now)
	p.Known = outKnown && inKnown
	return p
}

// BetweenZones is the price between zones of the own region.
func (t *Tariff) BetweenZones(now time.Time) Price {
	if t == nil {
		return Price{}
	}
	return priceOf(t.Zones, t.Zones, now)
}

// saves reports whether a budget makes price count more for a service now.
func (t *Tariff) saves(s catalog.ServiceName) bool {
	if t == nil {
		return false
	}
	_, found := slices.BinarySearchFunc(t.Saving, s, catalog.ServiceName.Compare)
	return found
}

// Equal reports whether both say the same.
func (t *Tariff) Equal(o *Tariff) bool {
	if t == o || t == nil || o == nil {
		return t == o
	}
	same := func(a, b PriceStep) bool { return a.From.Equal(b.From) && a.PerGB == b.PerGB }
	return slices.EqualFunc(t.Zones, o.Zones, same) && slices.Equal(t.Saving, o.Saving) &&
		slices.EqualFunc(t.Paths, o.Paths, func(a, b PathPrice) bool {
			return a.Cluster == b.Cluster && a.Zonal == b.Zonal && slices.EqualFunc(a.Out, b.Out, same) && slices.EqualFunc(a.In, b.In, same)
		})
}

// steps reports whether a price begins to hold after one moment, up to another.
func (t *Tariff) steps(then, now time.Time) bool {
	if t == nil {
		return false
	}
	begins := func(s PriceStep) bool { return s.From.After(then) && !s.From.After(now) }
	return slices.ContainsFunc(t.Zones, begins) || slices.ContainsFunc(t.Paths, func(p PathPrice) bool {
		return slices.ContainsFunc(p.Out, begins) || slices.ContainsFunc(p.In, begins)
	})
}

func (c *tableCheck) tariff(t *Tariff) {
	if t == nil {
		return
	}
	if len(t.Paths) > MaxPeers {
		c.add("tariff.paths", "has %d, at most %d", len(t.Paths), MaxPeers)
		return
	}
	c.fail("tariff.zones", checkSteps(t.Zones))
	for i := range t.Paths {
		p, place := &t.Paths[i], fmt.Sprintf("tariff.paths[%d]", i)
		if !c.known[p.Cluster] {
			c.add(place+".cluster", "%q is no peer", p.Cluster)
		}
		if i > 0 && t.Paths[i-1].Cluster >= p.Cluster {
			c.add(place+".cluster", "%q: paths must be sorted by cluster, each once", p.Cluster)
		}
		c.fail(place+".out", checkSteps(p.Out))
		c.fail(place+".in", checkSteps(p.In))
	}
	if len(t.Saving) > catalog.MaxServices || !slices.IsSortedFunc(t.Saving, catalog.ServiceName.Compare) {
		c.add("tariff.saving", "must be at most %d services, sorted", catalog.MaxServices)
	}
}

func checkSteps(steps []PriceStep) error {
	if len(steps) > MaxPriceSteps {
		return fmt.Errorf("has %d prices, at most %d", len(steps), MaxPriceSteps)
	}
	for i, s := range steps {
		if most := 2.0 * MaxPricePerGB; !(s.PerGB >= 0 && s.PerGB <= most) { // also NaN; what leaves and what enters are summed
			return fmt.Errorf("price %v: must be 0 to %v dollars a GB", s.PerGB, most)
		}
		if i > 0 && !steps[i-1].From.Before(s.From) {
			return fmt.Errorf("price from %s: must be in order of time, each once", s.From.Format(time.RFC3339))
		}
	}
	return nil
}

// priced sets what the bytes to a candidate cost, and how many seconds of delay a
// dollar is worth.
func (c *compiler) priced(sp *servicePlan, cand *candidate) {
	cand.perDollar = sp.perDollar
	switch t := c.table.Tariff; {
	case !cand.own():
		cand.price = t.Toward(cand.target.Cluster, cand.rank == rankZone, c.evidence.Now)
	case cand.rank == rankZone:
		cand.price = Price{Known: true}
	case cand.rank == rankRegion && cand.zone != "" && c.plan.self.Zone != "":
		cand.price = t.BetweenZones(c.evidence.Now)
	}
}

// worth is the delay that the price of a call of a size counts for, in nanoseconds.
func (t *terms) worth(s *sizing) float64 { return float64(t.priceOut)*s.out + float64(t.priceIn)*s.in }
