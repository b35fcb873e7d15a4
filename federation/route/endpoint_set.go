package route

import (
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// endpointSet is the own endpoints of one port in one zone.
type endpointSet struct {
	cluster  catalog.ClusterName
	locality catalog.Locality
	members  []member
	ready    int
	// target and list name the round-robin position in the zone.
	target Target
	list   string
	// healthy and all draw among the ready members and, for a panic, among all;
	// they are one and the same where all are ready.
	healthy, all *wheel
}

// member is one endpoint with what is known of it.
type member struct {
	endpoint *catalog.Endpoint
	counters *Counters
	reason   Reason // "" is ready
	detail   string
	since    time.Time
	until    time.Time
	// inService is since when, in Unix nanoseconds, where the data path knows.
	inService int64
}

func (s *endpointSet) finish(c *compiler, t *policy.Traffic) {
	s.healthy = s.newWheel(c, t, true)
	s.all = s.healthy
	if s.ready < len(s.members) {
		s.all = s.newWheel(c, t, false)
	}
}

// wheel returns the one that a state of mind draws from.
func (s *endpointSet) wheel(byHealth bool) *wheel {
	if byHealth {
		return s.healthy
	}
	return s.all
}

func (s *endpointSet) newWheel(c *compiler, t *policy.Traffic, byHealth bool) *wheel {
	alg := t.Algorithm
	w := &wheel{algorithm: alg, items: make([]item, 0, len(s.members))}
	for i := range s.members {
		m := &s.members[i]
		if byHealth && m.reason != "" {
			continue
		}
		weight := uint64(max(m.endpoint.Weight, 1))
		if alg == policy.Random {
			weight = 1
		}
		w.add(item{
			cluster: s.cluster, endpoint: m.endpoint.ID, counters: m.counters,
			terms: terms{lanes: 1}, index: int32(i), weight: weight, sound: m.reason == "", since: m.inService,
		})
	}
	w.slow = slowStartOf(t.SlowStart, w.items, c.evidence.Now)
	w.finish(c)
	if alg == policy.RoundRobin {
		w.rotate(c, rotationKey{target: s.target, list: s.list + s.locality.String()})
	}
	if alg.Hashes() {
		c.hashOf(w, t, saltEndpoint, s.belonging(), func(it *item) int { return int(it.index) }, s.crowd(c, byHealth), s.target)
	}
	return w
}

// belonging are all members: who is sick keeps its keys for when it is back.
func (s *endpointSet) belonging() []belonging {
	who := make([]belonging, len(s.members))
	for i := range s.members {
		e := s.members[i].endpoint
		who[i] = belonging{name: e.ID, weight: uint64(max(e.Weight, 1))}
	}
	return who
}

// crowd names the count of the set's calls in progress; a subset has none of its own,
// and adds up.
func (s *endpointSet) crowd(c *compiler, byHealth bool) string {
	if c.subset != nil || !byHealth {
		return ""
	}
	return s.list + s.locality.String()
}

// inFlight is how many calls to the endpoints are under way.
func (s *endpointSet) inFlight() (n int64) {
	for i := range s.members {
		n += s.members[i].counters.InFlight()
	}
	return n
}
