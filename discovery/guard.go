package discovery

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// The guard's defaults.
const (
	DefaultGuardCount  = 3
	DefaultGuardShare  = 0.2
	DefaultGuardReads  = 3
	DefaultGuardWindow = time.Minute
)

// GuardOptions say which withdrawals are suspect and for how long they are held
// back. The zero value is the default of each field.
type GuardOptions struct {
	// A read that withdraws more than the larger of Count endpoints and Share of
	// all is suspect.
	Count int
	Share float64
	// A held withdrawal takes effect after Reads complete reads that agree with
	// it, over at least Window.
	Reads  int
	Window time.Duration
}

func (o GuardOptions) withDefaults() GuardOptions {
	o.Count = cmp.Or(o.Count, DefaultGuardCount)
	o.Share = cmp.Or(o.Share, DefaultGuardShare)
	o.Reads = cmp.Or(o.Reads, DefaultGuardReads)
	o.Window = cmp.Or(o.Window, DefaultGuardWindow)
	return o
}

// Quarantined is what the guard holds back of one service.
type Quarantined struct {
	Service catalog.ServiceName `json:"service"`
	// Endpoints are the IDs that the source no longer lists.
	Endpoints []string `json:"endpoints"`
	// Since is the first read without them; Reads counts the reads since.
	Since time.Time `json:"since"`
	Reads int       `json:"reads"`
}

// Guard stands between a source and its readers and holds back withdrawals that
// are likelier a fault of the source than the truth: too many at once, or the
// last endpoint of a service. What it holds stays in the catalog, marked
// Quarantined, until enough complete reads agree, the data path has seen it dead,
// or an operator says so.
//
// It counts net withdrawals per service and port: a replaced instance is none.
// Endpoints that the source lists as critical or in maintenance are not
// withdrawn, so explicit words always pass.
//
// It is a pure state machine; time is an input. It is not safe for concurrent use.
type Guard struct {
	opts GuardOptions
	// shown is what was returned last, held endpoints included.
	shown *catalog.Snapshot
	held  map[catalog.ServiceName]*hold
}

// hold is the quarantine of one service.
type hold struct {
	endpoints []catalog.Endpoint
	ports     []catalog.Port
	since     time.Time
	reads     int
	// let is set when the withdrawal may take effect with the next read.
	let bool
}

// NewGuard returns a Guard that has shown nothing yet, or, after a restart, the
// last good snapshot.
func NewGuard(opts GuardOptions, shown *catalog.Snapshot) *Guard {
	return &Guard{opts: opts.withDefaults(), shown: shown, held: map[catalog.ServiceName]*hold{}}
}

// Offer takes a complete read at a moment and returns what to show: the read,
// with what is held back added. The error is that of a snapshot which the held
// endpoints would make invalid; it does not occur while the bounds hold twice.
func (g *Guard) Offer(read *catalog.Snapshot, now time.Time) (*catalog.Snapshot, error) {
	gone := g.withdrawn(read)
	suspects := g.suspects(read, gone)
	for name := range g.held {
		if len(gone[name]) == 0 {
			delete(g.held, name) // it came back
		}
	}
	var keep []*catalog.Service
	for _, name := range slices.SortedFunc(maps.Keys(gone), catalog.ServiceName.Compare) {
		h := g.held[name]
		if h == nil {
			if !suspects[name] {
				continue
			}
			h = &hold{since: now}
			g.held[name] = h
		}
		h.reads++
		h.endpoints, h.ports = gone[name], g.shown.Get(name).Ports
		if h.let || (h.reads >= g.opts.Reads && now.Sub(h.since) >= g.opts.Window) {
			delete(g.held, name)
			continue
		}
		keep = append(keep, withHeld(read.Get(name), name, h))
	}
	shown, err := read.With(keep, nil)
	if err != nil {
		return nil, err
	}
	g.shown = shown
	return shown, nil
}

// withdrawn are the endpoints that were shown and are not in read, by service.
func (g *Guard) withdrawn(read *catalog.Snapshot) map[catalog.ServiceName][]catalog.Endpoint {
	gone := map[catalog.ServiceName][]catalog.Endpoint{}
	for s := range g.shown.All() {
		now := read.Get(s.Name)
		if now == s {
			continue
		}
		there := map[string]bool{}
		if now != nil {
			for _, e := range now.Endpoints {
				there[e.Port+"\x00"+e.ID] = true
			}
		}
		for _, e := range s.Endpoints {
			if !there[e.Port+"\x00"+e.ID] {
				gone[s.Name] = append(gone[s.Name], e)
			}
		}
	}
	return gone
}

// suspects are the services whose withdrawal is to be held back.
func (g *Guard) suspects(read *catalog.Snapshot, gone map[catalog.ServiceName][]catalog.Endpoint) map[catalog.ServiceName]bool {
	suspects := map[catalog.ServiceName]bool{}
	total, shrinking := 0, []catalog.ServiceName(nil)
	for name, endpoints := range gone {
		net, emptied := netLoss(g.shown.Get(name), read.Get(name), endpoints)
		if net == 0 {
			continue // replaced
		}
		if emptied {
			suspects[name] = true
		}
		total += net
		shrinking = append(shrinking, name)
	}
	limit := max(float64(g.opts.Count), g.opts.Share*float64(g.shown.EndpointCount()))
	if float64(total) > limit {
		for _, name := range shrinking {
			suspects[name] = true
		}
	}
	return suspects
}

// netLoss counts, over the ports, how many endpoints fewer there are; emptied
// reports whether a port that had endpoints has none.
func netLoss(before, after *catalog.Service, gone []catalog.Endpoint) (net int, emptied bool) {
	count := func(s *catalog.Service) map[string]int {
		n := map[string]int{}
		if s != nil {
			for _, e := range s.Endpoints {
				n[e.Port]++
			}
		}
		return n
	}
	had, has := count(before), count(after)
	seen := map[string]bool{}
	for _, e := range gone {
		if seen[e.Port] {
			continue
		}
		seen[e.Port] = true
		net += max(0, had[e.Port]-has[e.Port])
		emptied = emptied || has[e.Port] == 0
	}
	return net, emptied
}

// withHeld is the service as read with the held endpoints, marked.
func withHeld(read *catalog.Service, name catalog.ServiceName, h *hold) *catalog.Service {
	s := &catalog.Service{Name: name}
	if read != nil {
		s = read.Clone()
	}
	for _, e := range h.endpoints {
		e.Quarantined = true
		s.Endpoints = append(s.Endpoints, e)
		if _, ok := catalog.FindPort(s.Ports, e.Port); ok {
			continue
		}
		if p, ok := catalog.FindPort(h.ports, e.Port); ok {
			s.Ports = append(s.Ports, p)
		}
	}
	return s
}

// Failed tells that the data path has found a held endpoint dead; when all of a
// service's held endpoints are, the next Offer lets the withdrawal take effect.
func (g *Guard) Failed(service catalog.ServiceName, endpointID string) {
	h := g.held[service]
	if h == nil {
		return
	}
	h.endpoints = slices.DeleteFunc(slices.Clone(h.endpoints), func(e catalog.Endpoint) bool { return e.ID == endpointID })
	h.let = h.let || len(h.endpoints) == 0
}

// Release is the operator's word: the next Offer lets the withdrawals of that
// service take effect, or of all services for the zero name. It reports whether
// anything was held.
func (g *Guard) Release(service catalog.ServiceName) bool {
	found := false
	for name, h := range g.held {
		if service.IsZero() || name == service {
			h.let, found = true, true
		}
	}
	return found
}

// Held lists what is held back, by service.
func (g *Guard) Held() []Quarantined {
	var out []Quarantined
	for _, name := range slices.SortedFunc(maps.Keys(g.held), catalog.ServiceName.Compare) {
		h := g.held[name]
		q := Quarantined{Service: name, Since: h.since, Reads: h.reads}
		for _, e := range h.endpoints {
			q.Endpoints = append(q.Endpoints, e.ID)
		}
		out = append(out, q)
	}
	return out
}

// Shown is what the last Offer returned, nil before.
func (g *Guard) Shown() *catalog.Snapshot { return g.shown }
