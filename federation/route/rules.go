package route

import (
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// applyRules leaves out what the traffic policy rules out, and gives the rest
// their places.
func (c *compiler) applyRules(all []candidate, t *policy.Traffic) (kept []candidate, out []exclusion) {
	drop := func(cand *candidate, r Reason, detail string) {
		out = append(out, exclusion{
			cluster: cand.target.Cluster, zone: cand.zone, reason: r, detail: detail, able: cand.usable(),
		})
	}
	split := splitOf(t, c.plan.self)
	kept = all[:0]
	for i := range all {
		cand := &all[i]
		part, listed := split.of(cand)
		entry := slices.Index(t.Clusters, cand.target.Cluster)
		switch {
		case !resides(t.Residency, cand):
			drop(cand, PolicyResidency, fmt.Sprintf("traffic policy %q keeps calls out of %s", t.Name, placeOf(cand)))
			continue
		case t.Pin != "" && cand.target.Cluster != t.Pin:
			drop(cand, PolicyPin, fmt.Sprintf("traffic policy %q pins the service to %s", t.Name, t.Pin))
			continue
		case len(t.Clusters) > 0 && entry < 0:
			drop(cand, PolicyClusterList, fmt.Sprintf("traffic policy %q does not list it", t.Name))
			continue
		case listed && part.weight == 0:
			drop(cand, PolicyWeightZero, fmt.Sprintf("traffic policy %q weighs it 0", t.Name))
			continue
		}
		cand.weight, cand.listed, cand.split = part.weight, listed, part.name
		c.placeByPolicy(cand, t, entry)
		kept = append(kept, *cand)
	}
	if len(t.Clusters) == 0 && !t.Algorithm.Hashes() { // what is measured differs between gateways
		placeByDistance(kept)
	}
	placeByWeight(kept, len(t.Distribute) > 0)
	if t.DisableFailover {
		kept = firstTier(kept, func(cand *candidate) {
			drop(cand, PolicyFailoverOff, fmt.Sprintf("traffic policy %q disables failover", t.Name))
		})
	}
	return kept, out
}

// placeByPolicy gives a candidate the place that a list of clusters, or labels, say.
func (c *compiler) placeByPolicy(cand *candidate, t *policy.Traffic, entry int) {
	switch {
	case cand.quarantined:
	case entry >= 0:
		cand.place = place{list: entry, inner: cand.rank}
	case len(t.LabelPriorities) > 0:
		cand.differs = c.firstMismatch(cand, t.LabelPriorities)
		cand.place = place{list: len(t.LabelPriorities) - cand.differs, inner: cand.rank, peer: cand.place.peer}
	}
}

// placeByDistance splits the peers of one place beyond the region into bands.
func placeByDistance(all []candidate) {
	for done := make([]bool, len(all)); ; {
		var members []int
		var distances []time.Duration
		for i := range all {
			c := &all[i]
			if done[i] || c.own() || c.rank < rankCloud {
				continue
			}
			if len(members) > 0 && c.place != all[members[0]].place {
				continue
			}
			done[i] = true
			members = append(members, i)
			distances = append(distances, c.distance)
		}
		if len(members) == 0 {
			return
		}
		for k, band := range bandsOf(distances) {
			all[members[k]].place.band = band
		}
	}
}

// placeByWeight puts what a split names into one tier, at the best of their places: a
// split between clusters of different tiers would otherwise never happen. What shares
// that place without a weight comes right behind, so that the split is the one that
// was written and failover is kept. A distribution says where all calls go: it comes
// before everything that it does not name (first).
func placeByWeight(all []candidate, first bool) {
	best := -1
	for i := range all {
		if c := &all[i]; c.listed && !c.quarantined && (best < 0 || c.place.compare(all[best].place) < 0) {
			best = i
		}
	}
	if best < 0 {
		return
	}
	shared := all[best].place
	if first {
		shared = place{list: firstPlace}
	}
	for i := range all {
		switch c := &all[i]; {
		case c.quarantined:
		case c.listed:
			c.place = shared
		case c.place == shared:
			c.place.unlisted = 1
		}
	}
}

// firstTier keeps the candidates of the first place.
func firstTier(all []candidate, drop func(*candidate)) []candidate {
	if len(all) == 0 {
		return all
	}
	first := slices.MinFunc(all, func(a, b candidate) int { return a.place.compare(b.place) }).place
	kept := all[:0]
	for i := range all {
		if all[i].place != first {
			drop(&all[i])
			continue
		}
		kept = append(kept, all[i])
	}
	return kept
}

// rankText names a rank in ledgers.
func rankText(rank int) string {
	switch rank {
	case rankZone:
		return "same zone"
	case rankRegion:
		return "same region"
	case rankCloud:
		return "same cloud"
	case rankElsewhere:
		return "elsewhere"
	default:
		return "quarantined"
	}
}

// tierText names the tier of a candidate.
func tierText(c *candidate, t *policy.Traffic) string {
	switch {
	case c.quarantined:
		return "quarantined"
	case c.place.list == firstPlace:
		return "distribution"
	case len(t.Clusters) > 0:
		text := "policy entry " + string(clusterAt(t.Clusters, c.place.list))
		if c.own() {
			text += ", " + rankText(c.place.inner)
		}
		return text
	}
	text := rankText(c.rank)
	if len(t.LabelPriorities) > 0 {
		text = mismatchText(c, t.LabelPriorities) + ", " + text
	}
	if c.rank <= rankRegion && c.place.peer == 1 {
		text += ", other cluster"
	}
	if c.place.band > 0 {
		text += fmt.Sprintf(", band %d of distance", c.place.band+1)
	}
	if c.listed {
		text += ", split by weights"
	}
	return text
}

func clusterAt(list []catalog.ClusterName, i int) catalog.ClusterName {
	if i < 0 || i >= len(list) {
		return ""
	}
	return list[i]
}
