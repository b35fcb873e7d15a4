package route

import (
	"sync"
	"sync/atomic"
)

// Live is the registry of live counters. It outlives plans: Compile resolves
// what a plan needs once, so that Pick reads counters without a look-up, and a
// recompile forgets no latency. It is safe for concurrent use.
type Live struct {
	mu        sync.Mutex
	targets   map[Target]*Counters
	endpoints map[EndpointKey]*Counters
	rotations map[rotationKey]*atomic.Uint64
}

// rotationKey names one round-robin position: a tier of a port, or the
// endpoints of one zone. They are apart because a position shared by two lists
// would alias (every second turn of one list of two is always the same entry).
type rotationKey struct {
	target Target
	list   string
}

// NewLive returns an empty registry.
func NewLive() *Live {
	return &Live{
		targets:   make(map[Target]*Counters),
		endpoints: make(map[EndpointKey]*Counters),
		rotations: make(map[rotationKey]*atomic.Uint64),
	}
}

// Target returns the counters of t, made at first use.
func (l *Live) Target(t Target) *Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return obtain(l.targets, t)
}

// Endpoint returns the counters of a local endpoint, made at first use.
func (l *Live) Endpoint(k EndpointKey) *Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return obtain(l.endpoints, k)
}

func (l *Live) rotation(k rotationKey) *atomic.Uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return obtain(l.rotations, k)
}

func obtain[K comparable, V any](m map[K]*V, k K) *V {
	v := m[k]
	if v == nil {
		v = new(V)
		m[k] = v
	}
	return v
}
