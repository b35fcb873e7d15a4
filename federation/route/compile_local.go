package route

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// zoneKey groups the own endpoints of a port.
type zoneKey struct {
	locality    catalog.Locality
	quarantined bool
}

// local makes the own cluster's candidates of a port: one per zone, and one of
// the quarantined endpoints of all zones.
//
// Where calls are kept together by keys, the zones are one: gateways of different zones
// must come to the same endpoint.
func (c *compiler) local(s *Service, port catalog.Port, t *policy.Traffic) []candidate {
	sets := make(map[zoneKey]*endpointSet)
	var keys []zoneKey
	held := make(map[string]bool, len(s.Quarantined))
	for _, id := range s.Quarantined {
		held[id] = true
	}
	for i := range s.Endpoints {
		ep := &s.Endpoints[i]
		if ep.Port != port.Name || !c.subset.takes(ep.Labels) {
			continue
		}
		key := zoneKey{locality: c.ownLocality(ep)}
		if t.Algorithm.Hashes() {
			key.locality = c.table.Cluster.Locality
		}
		if ep.Quarantined || held[ep.ID] {
			key = zoneKey{quarantined: true}
		}
		set := sets[key]
		if set == nil {
			set = &endpointSet{cluster: c.table.Cluster.Name, locality: key.locality}
			sets[key] = set
			keys = append(keys, key)
		}
		m := c.member(s, ep)
		if m.reason == "" {
			set.ready++
		}
		set.members = append(set.members, m)
	}
	slices.SortFunc(keys, func(a, b zoneKey) int {
		return cmp.Or(a.locality.Compare(b.locality), cmp.Compare(truth(a.quarantined), truth(b.quarantined)))
	})
	target := Target{Service: s.Name, Port: port.Name, Cluster: c.table.Cluster.Name}
	out := make([]candidate, 0, len(keys))
	for _, key := range keys {
		out = append(out, c.ownCandidate(target, port, key, sets[key], t))
	}
	sumCluster(out)
	return out
}

func (c *compiler) ownCandidate(target Target, port catalog.Port, key zoneKey, set *endpointSet, t *policy.Traffic) candidate {
	slices.SortFunc(set.members, func(a, b member) int { return a.endpoint.Compare(*b.endpoint) })
	set.target, set.list = target, "zone "+c.subset.name()
	cand := candidate{
		target: target, name: target.Service, port: port,
		counters:  obtain(c.live.targets, target),
		forecast:  obtain(c.live.forecasts, target),
		zone:      key.locality.Zone,
		endpoints: set, quarantined: key.quarantined,
		known: uint32(set.ready), ready: uint32(set.ready), total: uint32(len(set.members)),
		source: sourceDataPath, share: whole,
		place: place{list: c.ownRank(key.locality)},
	}
	if t.Algorithm.Hashes() && cand.place.list == rankRegion {
		cand.place.list = rankZone // before peers, whichever zone the gateway is in
	}
	cand.locality, cand.rank = key.locality, cand.place.list
	c.ownRoom(&cand, t.PerEndpoint())
	if cand.room.known {
		cand.zoneCounters = obtain(c.live.zones, zoneTarget{target, key.locality})
		if c.live.reported {
			cand.zoneCounters.inFlight.Store(set.inFlight())
		}
	}
	if key.quarantined {
		cand.locality = c.table.Cluster.Locality
		set.list = "quarantined" + c.subset.name()
		cand.place = place{list: lastPlace}
	}
	if set.ready == 0 {
		cand.exclude(NoReadyEndpoints, cand.since, "none of its endpoints is ready")
	}
	if !t.Algorithm.Hashes() { // whose zones are one
		c.ejectZone(&cand)
	}
	return cand
}

// ownLocality fills what a source left out: an endpoint without a locality is
// where its cluster is.
func (c *compiler) ownLocality(ep *catalog.Endpoint) catalog.Locality {
	if ep.Locality.Cloud == "" {
		return c.table.Cluster.Locality
	}
	return ep.Locality
}

// ownRank is the distance to own endpoints: never farther than the region if
// either side's place is not known.
func (c *compiler) ownRank(l catalog.Locality) int {
	if c.plan.self.Cloud == "" || l.Cloud == "" {
		return rankRegion
	}
	return rankOf(c.plan.self, l)
}

// member judges one own endpoint: what its source calls out of service is out,
// and what the source calls in service is still out if the data path says so.
func (c *compiler) member(s *Service, ep *catalog.Endpoint) member {
	key := EndpointKey{Service: s.Name, Port: ep.Port, ID: ep.ID}
	m := member{endpoint: ep, counters: obtain(c.live.endpoints, key)}
	ev, seen := c.evidence.Endpoints[key]
	switch {
	case ep.Health == catalog.Maintenance:
		m.reason, m.detail = SourceMaintenance, sourceSays(ep)
	case ep.Health == catalog.Critical:
		m.reason, m.detail = SourceCritical, sourceSays(ep)
	case !seen:
	case ev.EjectedUntil.After(c.evidence.Now):
		m.reason, m.detail, m.since, m.until = Ejected, ev.Reason, ev.Since, ev.EjectedUntil
	case !ev.EjectedUntil.IsZero():
		m.reason, m.detail, m.since, m.until = OnProbation, ev.Reason, ev.EjectedUntil, ev.EjectedUntil
	case !ev.Healthy:
		m.reason, m.detail, m.since = Unhealthy, ev.Reason, ev.Since
	case !ev.Since.IsZero():
		m.inService = ev.Since.UnixNano()
	}
	return m
}

func sourceSays(ep *catalog.Endpoint) string {
	if ep.Source == "" {
		return fmt.Sprintf("its source says %q", string(ep.Health))
	}
	return fmt.Sprintf("source %q says %q", ep.Source, string(ep.Health))
}

// chargeOwn applies what this gateway holds against the own cluster's service
// as a whole, for calls of its own callers.
func (c *compiler) chargeOwn(cand *candidate) {
	te := c.evidence.Targets[cand.target]
	cand.share = shareOf(te.Withheld)
	cand.processing = te.Processing
	if cand.reason == "" {
		c.eject(cand, te)
	}
}

// ownWithheld reports whether chargeOwn changes anything.
func (c *compiler) ownWithheld(local []candidate) bool {
	if len(local) == 0 {
		return false
	}
	te := c.evidence.Targets[local[0].target]
	return te.Withheld > 0 || !te.EjectedUntil.IsZero()
}

// eject takes a candidate out while it is ejected or on probation.
func (c *compiler) eject(cand *candidate, te TargetEvidence) {
	switch {
	case te.EjectedUntil.IsZero():
	case te.EjectedUntil.After(c.evidence.Now):
		cand.exclude(Ejected, c.evidence.Now, te.Reason)
		cand.until = te.EjectedUntil
	default:
		cand.exclude(OnProbation, te.EjectedUntil, te.Reason)
		cand.until = te.EjectedUntil
	}
}

// sumCluster tells each candidate of one cluster the counts of all of them.
func sumCluster(own []candidate) {
	var ready, total uint32
	for i := range own {
		ready, total = ready+own[i].ready, total+own[i].total
	}
	for i := range own {
		own[i].clusterReady, own[i].clusterTotal = ready, total
	}
}

// shareOf turns a withheld part into a share in units of 1/whole.
func shareOf(withheld float64) uint64 {
	switch {
	case !(withheld > 0): // also NaN: evidence may have been read from outside
		return whole
	case withheld >= 1:
		return 0
	}
	return uint64((1-withheld)*whole + 0.5)
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
