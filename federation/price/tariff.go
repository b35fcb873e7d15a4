package price

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// at is the price of a direction at a place towards another, at a moment. The most
// specific price wins: one that names the other region goes before one that names the
// other cloud, that before one that names none; among those one that names the own
// region before one that does not. Of one place, direction and peer the latest holds
// that has begun.
func (b *Book) at(d Direction, place, peer catalog.Locality, now time.Time) (perGB float64, known bool) {
	best, since := -1, time.Time{}
	for i := range b.Prices {
		p := &b.Prices[i]
		rank := p.covers(d, place, peer)
		if rank < 0 || p.ValidFrom.After(now) || rank < best || rank == best && !p.ValidFrom.After(since) {
			continue
		}
		best, since, perGB, known = rank, p.ValidFrom.Time, *p.PerGB, true
	}
	return perGB, known
}

// covers is how specific a price is for a pair, -1 where it is for another one.
func (p *Price) covers(d Direction, place, peer catalog.Locality) int {
	if p.Direction != d || p.Cloud != place.Cloud || p.Region != "" && p.Region != place.Region {
		return -1
	}
	rank := 0
	if p.Region != "" {
		rank = 1
	}
	switch p.Peer {
	case "":
		return rank
	case peer.Cloud:
		return rank + 2
	case peer.Cloud + "/" + peer.Region:
		return rank + 4
	}
	return -1
}

// zonal reports whether what lies between two places are zones at most.
func zonal(a, b catalog.Locality) bool {
	return a.Cloud != "" && a.Region != "" && a.Cloud == b.Cloud && a.Region == b.Region
}

// path is what a byte from one place to another costs: what leaving the first and
// entering the second is billed. Where the first has no price for what leaves it the
// whole is not known, and nothing; an entry that is not listed is free.
func (b *Book) path(from, to catalog.Locality, now time.Time) (perGB float64, known bool) {
	if zonal(from, to) {
		return b.at(InterZone, from, to, now)
	}
	if from.Cloud == "" || to.Cloud == "" {
		return 0, false
	}
	out, known := b.at(Egress, from, to, now)
	if !known {
		return 0, false
	}
	in, _ := b.at(Ingress, to, from, now)
	return out + in, true
}

// steps are the prices of a path from now on.
func (b *Book) steps(from, to catalog.Locality, now time.Time) []route.PriceStep {
	days := []time.Time{now}
	for i := range b.Prices {
		p := &b.Prices[i]
		if p.ValidFrom.After(now) && (p.covers(Egress, from, to) >= 0 || p.covers(Ingress, to, from) >= 0 || p.covers(InterZone, from, to) >= 0) {
			days = append(days, p.ValidFrom.Time)
		}
	}
	slices.SortFunc(days, time.Time.Compare)
	days = slices.CompactFunc(days, time.Time.Equal)
	var out []route.PriceStep
	for i, day := range days {
		perGB, known := b.path(from, to, day)
		if !known || len(out) > 0 && out[len(out)-1].PerGB == perGB || len(out) == route.MaxPriceSteps {
			continue
		}
		s := route.PriceStep{From: day, PerGB: perGB}
		if i == 0 {
			s.From = time.Time{} // it holds already: a time would change with every look
		}
		out = append(out, s)
	}
	return out
}

// Site is a cluster and where it is.
type Site struct {
	Cluster  catalog.ClusterName
	Locality catalog.Locality
}

// Tariff is what the book says of the paths between a place and others, from a moment
// on; nil where there is no book.
func (b *Book) Tariff(own catalog.Locality, others []Site, now time.Time) *route.Tariff {
	if b == nil {
		return nil
	}
	t := &route.Tariff{Zones: b.steps(own, own, now)}
	if !zonal(own, own) {
		t.Zones = nil
	}
	for _, o := range others {
		t.Paths = append(t.Paths, route.PathPrice{
			Cluster: o.Cluster, Zonal: zonal(own, o.Locality),
			Out: b.steps(own, o.Locality, now), In: b.steps(o.Locality, own, now),
		})
	}
	slices.SortFunc(t.Paths, func(x, y route.PathPrice) int { return cmp.Compare(x.Cluster, y.Cluster) })
	return t
}

// Sites are the peers of a table.
func Sites(peers []route.Peer) []Site {
	out := make([]Site, len(peers))
	for i := range peers {
		out[i] = Site{peers[i].Name, peers[i].Locality}
	}
	return out
}

// Next is when the book next begins to say something else; zero is never.
func (b *Book) Next(now time.Time) (next time.Time) {
	if b == nil {
		return next
	}
	for i := range b.Prices {
		if from := b.Prices[i].ValidFrom.Time; from.After(now) && (next.IsZero() || from.Before(next)) {
			next = from
		}
	}
	return next
}
