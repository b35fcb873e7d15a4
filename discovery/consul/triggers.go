package consul

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// sweepEach is what a sweep may cost: after one over n services the next waits
// n times this, so that sweeps make at most 100 reads a second on average. The
// services that a trigger names do not wait for it.
const sweepEach = 10 * time.Millisecond

// minSweepGap is the least time between two sweeps.
const minSweepGap = time.Second

// triggers gathers what the two watches saw until the loop takes it.
type triggers struct {
	wake chan struct{} // has room for one
	seed maphash.Seed

	mu sync.Mutex
	// names are Consul's services as last listed, with their tags; nil before the
	// first list.
	names map[string][]string
	// prints are fingerprints of the checks of every service and every node; nil
	// before the first answer.
	prints map[checked]uint64
	// odd are services whose last read saw other checks than the last answer on
	// checks: a check that failed and passed again before the next answer shows in no
	// answer, but in a read between.
	odd map[string]bool
	// onNode are the services with an instance on a node, nodesOf the reverse.
	onNode  map[string]map[string]bool
	nodesOf map[string][]string
	// dirty services are to be read again. sweep asks for a pass over all, reset
	// says that what is known may be of another life of the datacenter.
	dirty map[string]bool
	sweep bool
	reset bool
	swept time.Time
}

// checked is what checks belong to: a service or (service "") a node.
type checked struct{ node, service string }

func newTriggers() *triggers {
	return &triggers{
		wake: make(chan struct{}, 1), seed: maphash.MakeSeed(),
		onNode: map[string]map[string]bool{}, nodesOf: map[string][]string{}, dirty: map[string]bool{}, odd: map[string]bool{},
	}
}

func (t *triggers) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// sawServices compares the list with the one before. Its index also moves when a
// registration changed in a way that the list does not show, hence the sweep.
func (t *triggers) sawServices(names map[string][]string, a arrival) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, tags := range names {
		if before, ok := t.names[name]; !ok || !slices.Equal(before, tags) {
			t.dirty[name] = true
		}
	}
	for name := range t.names {
		if _, ok := names[name]; !ok {
			t.dirty[name] = true
		}
	}
	t.names, t.sweep, t.reset = names, t.sweep || a.moved, t.reset || a.reset
	t.signal()
}

// sawChecks marks the services whose checks changed, and those on nodes whose
// checks changed.
func (t *triggers) sawChecks(checks api.HealthChecks, a arrival) {
	prints := make(map[checked]uint64, len(checks))
	for _, c := range checks {
		t.print(prints, c)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, p := range prints {
		if before, ok := t.prints[key]; t.prints != nil && (!ok || before != p) {
			t.mark(key)
		}
	}
	for key := range t.prints {
		if _, ok := prints[key]; !ok {
			t.mark(key)
		}
	}
	for name := range t.odd {
		t.dirty[name] = true
	}
	clear(t.odd)
	t.prints, t.reset = prints, t.reset || a.reset
	t.signal()
}

// print adds a check to the fingerprint of what it belongs to.
func (t *triggers) print(prints map[checked]uint64, c *api.HealthCheck) {
	key := checked{service: c.ServiceName}
	if c.ServiceName == "" {
		key.node = c.Node
	}
	// A sum, since the order of checks means nothing.
	prints[key] += maphash.Comparable(t.seed, [4]string{c.Node, c.ServiceID, c.CheckID, c.Status})
}

// sawRead compares the checks that a read of a service came with to the last
// answer on checks. The read may be the newer one.
func (t *triggers) sawRead(name string, entries []*api.ServiceEntry) {
	prints := map[checked]uint64{{service: name}: 0}
	nodes := map[string]bool{}
	for _, e := range entries {
		if e == nil || e.Node == nil {
			continue
		}
		for _, c := range e.Checks {
			if c.ServiceName != "" || !nodes[e.Node.Node] { // a node's come with each of its instances
				t.print(prints, c)
			}
		}
		nodes[e.Node.Node] = true
		prints[checked{node: e.Node.Node}] += 0 // to be compared without checks, too
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.odd, name)
	for key, p := range prints {
		if t.prints[key] != p {
			t.odd[name] = true
			return
		}
	}
}

// mark is for services that are known: others are for the list to tell.
func (t *triggers) mark(key checked) {
	if key.service == "" {
		for name := range t.onNode[key.node] {
			t.dirty[name] = true
		}
		return
	}
	if _, listed := t.names[key.service]; listed || len(t.nodesOf[key.service]) > 0 {
		t.dirty[key.service] = true
	}
}

// work is what the loop is to read now.
type work struct {
	// dirty services changed, for all that is known; swept ones may have.
	dirty, swept []string
	// sweeping: dirty and swept together are all services.
	sweeping bool
	// reset: forget how new the known answers are.
	reset bool
	// again is when to take the next work by itself; 0 is never.
	again time.Duration
}

// take returns what is to be read. now makes a sweep due at once.
func (t *triggers) take(at time.Time, now bool) work {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Nothing is read before both first answers are there: a change between the
	// read of a service and the first sight of its checks would show nowhere.
	if t.names == nil || t.prints == nil {
		return work{}
	}
	w := work{reset: t.reset}
	if t.reset || now {
		t.sweep, t.swept = true, time.Time{}
		for name := range t.names {
			t.dirty[name] = true
		}
	}
	t.reset = false
	gap := max(minSweepGap, time.Duration(len(t.names))*sweepEach)
	if wait := t.swept.Add(gap).Sub(at); t.sweep && wait > 0 {
		w.again = wait
	} else if t.sweep {
		w.sweeping, t.sweep, t.swept = true, false, at
		for name := range t.names {
			if !t.dirty[name] {
				w.swept = append(w.swept, name)
			}
		}
		slices.Sort(w.swept)
	}
	for name := range t.dirty {
		w.dirty = append(w.dirty, name)
	}
	clear(t.dirty)
	return w
}

// askSweep makes a pass over all services due.
func (t *triggers) askSweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep = true
}

// listed reports whether the last list has a service.
func (t *triggers) listed(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.names[name]
	return ok
}

// place remembers on which nodes a service runs; none forgets it.
func (t *triggers) place(name string, nodes []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.nodesOf[name] {
		if delete(t.onNode[n], name); len(t.onNode[n]) == 0 {
			delete(t.onNode, n)
		}
	}
	if len(nodes) == 0 {
		delete(t.nodesOf, name)
		return
	}
	t.nodesOf[name] = nodes
	for _, n := range nodes {
		if t.onNode[n] == nil {
			t.onNode[n] = map[string]bool{}
		}
		t.onNode[n][name] = true
	}
}
