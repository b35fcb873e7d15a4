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
func applyRules(all []candidate, t *policy.Traffic) (kept []candidate, out []exclusion) {
	drop := func(c *candidate, r Reason, detail string) {
		out = append(out, exclusion{cluster: c.target.Cluster, zone: c.zone, reason: r, detail: detail})
	}
	kept = all[:0]
	for i := range all {
		c := &all[i]
		weight, listed := t.Weights[c.target.Cluster]
		entry := slices.Index(t.Clusters, c.target.Cluster)
		switch {
		case t.Pin != "" && c.target.Cluster != t.Pin:
			drop(c, PolicyPin, fmt.Sprintf("traffic policy %q pins the service to %s", t.Name, t.Pin))
			continue
		case len(t.Clusters) > 0 && entry < 0:
			drop(c, PolicyClusterList, fmt.Sprintf("traffic policy %q does not list it", t.Name))
			continue
		case listed && weight == 0:
			drop(c, PolicyWeightZero, fmt.Sprintf("traffic policy %q weighs it 0", t.Name))
			continue
		}
		c.weight, c.listed = uint64(weight), listed
		if entry >= 0 && !c.quarantined {
			c.place = place{list: entry, inner: c.place.list}
		}
		kept = append(kept, *c)
	}
	if len(t.Clusters) == 0 {
		placeByDistance(kept)
	}
	placeByWeight(kept)
	if t.DisableFailover {
		kept = firstTier(kept, func(c *candidate) {
			drop(c, PolicyFailoverOff, fmt.Sprintf("traffic policy %q disables failover", t.Name))
		})
	}
	return kept, out
}

// placeByDistance splits the peers of one rank beyond the region into bands.
func placeByDistance(all []candidate) {
	for rank := rankCloud; rank <= rankElsewhere; rank++ {
		var members []int
		var distances []time.Duration
		for i := range all {
			if !all[i].own() && all[i].place.list == rank {
				members = append(members, i)
				distances = append(distances, all[i].distance)
			}
		}
		for k, band := range bandsOf(distances) {
			all[members[k]].place.band = band
		}
	}
}

// placeByWeight puts the clusters that weights name into one tier, at the best
// of their places: a split between clusters of different tiers would otherwise
// never happen. What shares that place without a weight comes right behind, so
// that the split is the one that was written and failover is kept.
func placeByWeight(all []candidate) {
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
	case len(t.Clusters) > 0:
		text := "policy entry " + string(clusterAt(t.Clusters, c.place.list))
		if c.own() {
			text += ", " + rankText(c.place.inner)
		}
		return text
	}
	text := rankText(c.place.list)
	if c.place.list <= rankRegion && c.place.peer == 1 {
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
