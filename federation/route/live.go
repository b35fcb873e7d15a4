package route

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// Live is the registry of live counters. It outlives plans: Compile resolves
// what a plan needs once, so that Pick reads counters without a look-up, and a
// recompile forgets no latency. It is safe for concurrent use.
type Live struct {
	mu      sync.Mutex
	targets map[Target]*Counters
	zones   map[zoneTarget]*Counters
	meters  map[PortKey]*Meter
	// reported says that the counters are those of a report, which has none of zones:
	// they are the sums of the endpoints'.
	reported  bool
	endpoints map[EndpointKey]*Counters
	forecasts map[Target]*Forecast
	sizes     map[Target]*Sizes // of a port, wherever it is served: without a cluster
	backlogs  map[catalog.ClusterName]*Backlog
	rotations map[rotationKey]*atomic.Uint64
	crowds    map[rotationKey]*atomic.Int64
	// hashes are the tables of consistent hashes, by what they are made of; gen counts
	// the plans.
	hashes map[tableKey]*hashTable
	gen    uint64
	// drill is the one that decisions take part in.
	drill atomic.Pointer[armed]
}

// rotationKey names one round-robin position: a tier of a port, or the
// endpoints of one zone. They are apart because a position shared by two lists
// would alias (every second turn of one list of two is always the same entry).
type rotationKey struct {
	target Target
	list   string
}

// zoneTarget is a target in the own cluster, in one of its zones.
type zoneTarget struct {
	target Target
	zone   catalog.Locality
}

// NewLive returns an empty registry.
func NewLive() *Live {
	return &Live{
		targets:   make(map[Target]*Counters),
		zones:     make(map[zoneTarget]*Counters),
		meters:    make(map[PortKey]*Meter),
		endpoints: make(map[EndpointKey]*Counters),
		forecasts: make(map[Target]*Forecast),
		sizes:     make(map[Target]*Sizes),
		backlogs:  make(map[catalog.ClusterName]*Backlog),
		rotations: make(map[rotationKey]*atomic.Uint64),
		crowds:    make(map[rotationKey]*atomic.Int64),
		hashes:    make(map[tableKey]*hashTable),
	}
}

// Target returns the counters of t, made at first use.
func (l *Live) Target(t Target) *Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return obtain(l.targets, t)
}

// Forecast returns what is learned of the predictions of t, made at first use.
func (l *Live) Forecast(t Target) *Forecast {
	l.mu.Lock()
	defer l.mu.Unlock()
	return obtain(l.forecasts, t)
}

// Forecasts are those of all targets that are in use.
func (l *Live) Forecasts() map[Target]*Forecast {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.forecasts)
}

// Sizes returns those of a port of a service, made at first use.
func (l *Live) Sizes(service catalog.ServiceName, port string) *Sizes {
	l.mu.Lock()
	defer l.mu.Unlock()
	return obtain(l.sizes, Target{Service: service, Port: port})
}

// Endpoint returns the counters of a local endpoint, made at first use.
func (l *Live) Endpoint(k EndpointKey) *Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return obtain(l.endpoints, k)
}

// obtain returns m's value of k, made at first use.
func obtain[K comparable, V any](m map[K]*V, k K) *V {
	v := m[k]
	if v == nil {
		v = new(V)
		m[k] = v
	}
	return v
}

// Prune drops the counters of everything that the plan's table no longer holds.
// A call that still holds dropped counters may end them; nobody reads them.
func (l *Live) Prune(p *Plan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := range l.targets {
		if !p.knows(t) {
			delete(l.targets, t)
		}
	}
	for k := range l.zones {
		if !p.knows(k.target) {
			delete(l.zones, k)
		}
	}
	for t := range l.forecasts {
		if !p.knows(t) {
			delete(l.forecasts, t)
		}
	}
	for t := range l.sizes {
		if !p.knows(t) {
			delete(l.sizes, t)
		}
	}
	for name := range l.backlogs {
		if p.peers[name] == nil {
			delete(l.backlogs, name)
		}
	}
	for k := range l.meters {
		if !p.knows(Target{Service: k.Service, Port: k.Port}) {
			delete(l.meters, k)
		}
	}
	for k := range l.rotations {
		if !p.knows(k.target) {
			delete(l.rotations, k)
		}
	}
	for k := range l.crowds {
		if !p.knows(k.target) {
			delete(l.crowds, k)
		}
	}
	for k, table := range l.hashes {
		if table.gen+1 < l.gen { // neither of the last plan nor of the one before
			delete(l.hashes, k)
		}
	}
	known := make(map[EndpointKey]struct{}, len(l.endpoints))
	for _, s := range p.list {
		for i := range s.service.Endpoints {
			ep := &s.service.Endpoints[i]
			known[EndpointKey{Service: s.service.Name, Port: ep.Port, ID: ep.ID}] = struct{}{}
		}
	}
	for k := range l.endpoints {
		if _, ok := known[k]; !ok {
			delete(l.endpoints, k)
		}
	}
}

// knows reports whether t is a port of a service in a cluster that hosts it; the
// cluster "" stands for any.
func (p *Plan) knows(t Target) bool {
	s := p.of(t.Service)
	if s == nil || s.port(t.Port) == nil {
		return false
	}
	if t.Cluster == "" || t.Cluster == p.table.Cluster.Name {
		return true
	}
	for i := range s.service.Remote {
		if s.service.Remote[i].Cluster == t.Cluster {
			return true
		}
	}
	return false
}
