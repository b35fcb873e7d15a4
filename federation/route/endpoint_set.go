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
}

func (s *endpointSet) finish(c *compiler, alg policy.Algorithm) {
	s.healthy = s.newWheel(c, alg, true)
	s.all = s.healthy
	if s.ready < len(s.members) {
		s.all = s.newWheel(c, alg, false)
	}
}

// wheel returns the one that a state of mind draws from.
func (s *endpointSet) wheel(byHealth bool) *wheel {
	if byHealth {
		return s.healthy
	}
	return s.all
}

func (s *endpointSet) newWheel(c *compiler, alg policy.Algorithm, byHealth bool) *wheel {
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
			lanes: 1, index: int32(i), weight: weight, sound: m.reason == "",
		})
	}
	w.finish(c)
	if alg == policy.RoundRobin {
		w.rotate(c, rotationKey{target: s.target, list: s.list + s.locality.String()})
	}
	return w
}
