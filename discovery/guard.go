package discovery

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// The defaults of a Guard.
const (
	DefaultGuardCount  = 3
	DefaultGuardShare  = 0.20
	DefaultGuardWindow = time.Minute
	DefaultGuardReads  = 3
)

// GuardOptions set when a withdrawal is held back; zero values are the defaults.
type GuardOptions struct {
	// Count and Share: as many withdrawals as the larger of Count and Share of
	// the source's endpoints pass, within one Window.
	Count int
	Share float64
	// Window is how long a withdrawal must be confirmed, and over what time
	// withdrawals count together.
	Window time.Duration
	// Reads is how many complete reads must confirm it.
	Reads int
}

func (o GuardOptions) withDefaults() GuardOptions {
	o.Count = cmp.Or(o.Count, DefaultGuardCount)
	o.Share = cmp.Or(o.Share, DefaultGuardShare)
	o.Window = cmp.Or(o.Window, DefaultGuardWindow)
	o.Reads = cmp.Or(o.Reads, DefaultGuardReads)
	return o
}

func (o GuardOptions) validate() error {
	if o.Count < 0 || o.Share < 0 || o.Share > 1 || o.Window < 0 || o.Reads < 0 {
		return fmt.Errorf("guard: count %d, share %v, window %v and reads %d must be 0 or above, the share at most 1",
			o.Count, o.Share, o.Window, o.Reads)
	}
	return nil
}

// EndpointKey names an endpoint of a source.
type EndpointKey struct {
	Service catalog.ServiceName `json:"service"`
	ID      string              `json:"id"`
}

// Quarantine is an endpoint that its source has withdrawn and the guard holds.
type Quarantine struct {
	EndpointKey
	Address netip.AddrPort `json:"address"`
	// Since is the first read without it, Reads their number.
	Since time.Time `json:"since"`
	Reads int       `json:"reads"`
}

// Guard holds back mass withdrawals: registries lose their memory, lose their
// leader's data, are restored from old backups, and each time tell everybody
// that the services are gone while they run on.
//
// It takes a source's reads and gives what is effective. A read may withdraw few
// endpoints: max(Count, Share of all), counted net (where a service gains an
// endpoint, the one that it lost was replaced) and over a Window, since a
// registry also forgets in many small steps. Withdrawals beyond that, and those
// of a service's last usable endpoint, are quarantined: the endpoints stay,
// marked, until Reads complete reads over a Window have confirmed that they are
// gone, the data path says so (Fail), or an operator (Release). What the source
// calls critical or in maintenance is taken at its word.
//
// It is a pure state machine: the clock is an argument, and it does no I/O. It
// is not safe for concurrent use.
type Guard struct {
	opts GuardOptions
	// read is the last read, effective what is published: read and held.
	read, effective *catalog.Snapshot
	held            map[catalog.ServiceName]map[string]*hold
	recent          []withdrawal
	// refused counts reads that did not fit besides what is held, from
	// refusedSince on.
	refused      int
	refusedSince time.Time
}

// hold is one quarantined endpoint.
type hold struct {
	address netip.AddrPort
	since   time.Time
	reads   int
}

// withdrawal is what a read took from a service without being held.
type withdrawal struct {
	at      time.Time
	service catalog.ServiceName
	net     int
}

// NewGuard returns a guard that has seen nothing: its first read is effective
// as it is.
func NewGuard(o GuardOptions) (*Guard, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Guard{opts: o.withDefaults(), held: map[catalog.ServiceName]map[string]*hold{}}, nil
}

// Seed starts from a snapshot that was effective in an earlier process; what is
// marked in it is held from now on.
func (g *Guard) Seed(now time.Time, s *catalog.Snapshot) {
	g.read, g.effective, g.recent = s, s, nil
	clear(g.held)
	for svc := range s.All() {
		for _, e := range svc.Endpoints {
			if e.Quarantined {
				g.hold(now, svc.Name, e)
			}
		}
	}
}

// Effective is the last result; nil before the first.
func (g *Guard) Effective() *catalog.Snapshot { return g.effective }

// Offer takes a complete read at time now and returns what is effective. An
// error (what is held does not fit besides the read) leaves what was effective
// in force; once Reads such reads over a Window have been refused, the read is
// taken as it is.
func (g *Guard) Offer(now time.Time, read *catalog.Snapshot) (*catalog.Snapshot, error) {
	if g.effective == nil {
		g.read, g.effective = read, read
		return read, nil
	}
	g.forget(now)
	before := cloneHeld(g.held)
	changes := g.changes(read)
	touched := make(map[catalog.ServiceName]bool, len(changes)+len(g.held))
	for name := range g.held {
		touched[name] = true
	}
	over := g.over(changes)
	recent := slices.Clone(g.recent)
	for _, c := range changes {
		touched[c.name] = true
		recent = g.decide(now, c, over, recent)
	}
	g.confirm(now, read)
	if err := g.compose(read, touched); err != nil {
		g.held = before
		err = g.refuse(now, read, err)
		return g.effective, err
	}
	g.read, g.recent, g.refused = read, recent, 0
	return g.effective, nil
}

// refuse keeps what is effective, for as long as a withdrawal would be held.
func (g *Guard) refuse(now time.Time, read *catalog.Snapshot, err error) error {
	if g.refused == 0 {
		g.refusedSince = now
	}
	g.refused++
	if g.refused < g.opts.Reads || now.Sub(g.refusedSince) < g.opts.Window {
		return fmt.Errorf("guard: hold withdrawn endpoints: %w", err)
	}
	g.read, g.effective, g.recent, g.refused = read, read, nil, 0
	clear(g.held)
	return nil
}

// Fail tells that the data path cannot reach these endpoints: those of them that
// are held have two witnesses against them and go at once. Others are ignored,
// so it is told again while it is true.
func (g *Guard) Fail(keys ...EndpointKey) (*catalog.Snapshot, error) {
	touched := map[catalog.ServiceName]bool{}
	for _, k := range keys {
		if _, ok := g.held[k.Service][k.ID]; ok {
			g.drop(k.Service, k.ID)
			touched[k.Service] = true
		}
	}
	err := g.compose(g.read, touched)
	return g.effective, err
}

// Release is an operator's word: what is held of these services, or of all if
// none is named, goes at once.
func (g *Guard) Release(services ...catalog.ServiceName) (*catalog.Snapshot, error) {
	touched := map[catalog.ServiceName]bool{}
	for name := range g.held {
		if len(services) == 0 || slices.Contains(services, name) {
			touched[name] = true
		}
	}
	for name := range touched {
		delete(g.held, name)
	}
	err := g.compose(g.read, touched)
	return g.effective, err
}

// Quarantined lists what is held, by service and ID.
func (g *Guard) Quarantined() []Quarantine {
	var out []Quarantine
	for name, ids := range g.held {
		for id, h := range ids {
			out = append(out, Quarantine{EndpointKey{name, id}, h.address, h.since, h.reads})
		}
	}
	slices.SortFunc(out, func(a, b Quarantine) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Held is the number of endpoints that are held.
func (g *Guard) Held() int {
	n := 0
	for _, ids := range g.held {
		n += len(ids)
	}
	return n
}

func (g *Guard) hold(now time.Time, name catalog.ServiceName, e catalog.Endpoint) {
	ids := g.held[name]
	if ids == nil {
		ids = map[string]*hold{}
		g.held[name] = ids
	}
	ids[e.ID] = &hold{address: e.Address, since: now}
}

func (g *Guard) drop(name catalog.ServiceName, id string) {
	delete(g.held[name], id)
	if len(g.held[name]) == 0 {
		delete(g.held, name)
	}
}

func cloneHeld(held map[catalog.ServiceName]map[string]*hold) map[catalog.ServiceName]map[string]*hold {
	out := make(map[catalog.ServiceName]map[string]*hold, len(held))
	for name, ids := range held {
		c := make(map[string]*hold, len(ids))
		for id, h := range ids {
			c[id] = new(*h)
		}
		out[name] = c
	}
	return out
}
