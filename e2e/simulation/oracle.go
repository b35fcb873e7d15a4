package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/exchange"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Invariant names what must hold. I1 to I10 are those of the design; the others
// say what else its rules promise and a simulation can see.
type Invariant string

// The invariants.
const (
	AllowList    Invariant = "I1 allow-list"      // no route to an identity that is not in the local allow-list
	Monotonic    Invariant = "I2 monotonic"       // for each origin the applied version never falls
	Routable     Invariant = "I3 routable"        // a service with an endpoint that is healthy on the data path is routable
	Agreement    Invariant = "I4 agreement"       // after faults stop all nodes are equal within 10 s + 2 RTT
	Ownership    Invariant = "I5 ownership"       // no entry that A owns is changed by B
	Amplified    Invariant = "I6 amplification"   // attempts are at most 1.2 x calls + 3 in any 10 s
	Bounded      Invariant = "I7 bounded"         // each queue is at most its bound
	Once         Invariant = "I8 once"            // no request that is not idempotent is executed twice
	Hops         Invariant = "I9 hops"            // a call passes two gateways at most
	Revoked      Invariant = "I10 revoked"        // what is denied or withdrawn has an effect within 1 s on every reachable node
	Blame        Invariant = "I11 blame"          // only what has failed is ejected
	Ramped       Invariant = "I12 ramp"           // what comes back gets nothing while it is on hold and others can take it
	CauseOfDeath Invariant = "I13 cause of death" // a link dies only where it, or its other end, was silent
	NotTwice     Invariant = "I14 not twice"      // no attempt goes where the same call has failed
	Drilled      Invariant = "I15 drilled"        // a drill moves at most its share, and no call after its end
)

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant Invariant
	At        time.Duration
	What      string
}

func (v *Violation) String() string {
	return fmt.Sprintf("%s violated at %.6f s: %s", v.Invariant, v.At.Seconds(), v.What)
}

// The bounds that the oracle holds the product to.
const (
	maxControlQueue = 2  // one report that waits, and one that is being sent again
	maxStreamQueue  = 64 // lines that wait for a way
	revokedWithin   = time.Second
	lookEvery       = 250 * time.Millisecond
	// settled is how long things must have been well before they are relied on.
	settled = 8 * time.Second
)

// oracle knows the truth and what must follow from it. It judges by its own,
// simpler reading of the rules, never by the product's functions.
type oracle struct {
	s         *Sim
	violation *Violation
	quiet     time.Duration // since when nothing fails; 0 is not yet

	history map[*cluster][]ruling
	// A federation that lost its disk, or was restored, may number anew what it says
	// until it hears of the numbers that were used: table and said keep what was ever
	// said by a number.
	table    map[tableKey][]rules
	said     map[saidKey][][]*catalog.Summary
	last     map[*federation]map[catalog.ClusterName][]*catalog.Summary
	seen     map[heldKey]exchange.Position
	parted   map[*gateway]time.Duration
	lied     map[*cluster]time.Duration
	routable map[routeKey]*standing
}

// ruling is the rules of a cluster from a moment on.
type ruling struct {
	from  time.Duration
	rules rules
}

type tableKey struct {
	cluster        catalog.ClusterName
	epoch, version uint64
}

type saidKey struct {
	from, to *cluster
	at       exchange.Position
}

type heldKey struct{ at, of *cluster }

type routeKey struct {
	g       *gateway
	service catalog.ServiceName
	at      *cluster
}

func newOracle(s *Sim) *oracle {
	o := &oracle{
		s: s, history: make(map[*cluster][]ruling), table: make(map[tableKey][]rules), said: make(map[saidKey][][]*catalog.Summary),
		last: make(map[*federation]map[catalog.ClusterName][]*catalog.Summary), seen: make(map[heldKey]exchange.Position),
		parted: make(map[*gateway]time.Duration), lied: make(map[*cluster]time.Duration), routable: make(map[routeKey]*standing),
	}
	s.after(lookEvery, o.look)
	return o
}

// violated ends the run with the first violation.
func (o *oracle) violated(i Invariant, format string, args ...any) {
	if o.violation != nil {
		return
	}
	o.violation = &Violation{Invariant: i, At: o.s.now, What: fmt.Sprintf(format, args...)}
	o.s.note("oracle", o.violation.String(), 0)
}

func (o *oracle) healed() { o.quiet = o.s.now }

// ruled is told that a cluster's rules have changed.
func (o *oracle) ruled(c *cluster) {
	o.history[c] = append(o.history[c], ruling{o.s.now, c.rules.clone()})
}

// refusedSince is since when every ruling says no; -1 where the last one says yes.
func (o *oracle) refusedSince(c *cluster, yes func(rules) bool) time.Duration {
	since := time.Duration(-1)
	for _, r := range slices.Backward(o.history[c]) {
		if yes(r.rules) {
			break
		}
		since = r.from
	}
	return since
}

// mustKnow reports whether a gateway must have what its federation was told then.
func (o *oracle) mustKnow(g *gateway, then time.Duration) bool {
	now := o.s.now
	apart, ever := o.parted[g]
	return now-then > revokedWithin && g.runs(then-revokedWithin) && g.home.fed.runs(then-settled) &&
		!g.home.parted[g] && (!ever || apart <= then-revokedWithin)
}

// unreachable is told that a gateway is parted from its federation, or no longer.
func (o *oracle) unreachable(g *gateway) { o.parted[g] = o.s.now }

// lies is told that a source lies.
func (o *oracle) lies(c *cluster) { o.lied[c] = o.s.now }

// disk is told that the disk of a federation is another one than it was.
func (o *oracle) disk(f *federation) {
	for k := range o.seen {
		if k.at == f.home {
			delete(o.seen, k)
		}
	}
}

// published is told of a new table: I5 for the view that it was made of.
func (o *oracle) published(f *federation) {
	o.s.stats.Tables++
	key := tableKey{f.home.name, f.disk.epoch, f.version}
	o.table[key] = append(o.table[key], f.disk.rules.clone())
	effective := f.guard.Effective()
	for v := range f.view.All() {
		if v.Local != nil {
			own := effective.Get(v.Name)
			for i := range v.Local.Endpoints {
				e := v.Local.Endpoints[i]
				if own == nil || !slices.ContainsFunc(own.Endpoints, func(x catalog.Endpoint) bool { return x.ID == e.ID && x.Address == e.Address }) {
					o.violated(Ownership, "%s has endpoint %s %s of its own that no source of it has", f.name, e.ID, e.Address)
				}
			}
		}
		for i := range v.Offers {
			offer := &v.Offers[i]
			if l := f.peers[offer.Cluster]; l == nil || !offers(l, offer.Name, offer.Rows) {
				o.violated(Ownership, "%s has an offer of %s by %s that %s has not made", f.name, v.Name, offer.Cluster, offer.Cluster)
			}
		}
	}
}

func offers(l *listener, name catalog.ServiceName, rows []catalog.SummaryRow) bool {
	for _, s := range l.applier.Snapshot().Services() {
		if s.Service == name {
			return slices.Equal(s.Rows, rows)
		}
	}
	return false
}

// told is told what peers are told.
func (o *oracle) told(f *federation) {
	of := make(map[catalog.ClusterName][]*catalog.Summary)
	for _, c := range o.s.clusters {
		if f.peers[c.name] != nil {
			of[c.name] = f.exports.For(c.name)
		}
	}
	o.last[f] = of
}

// wrote is told where a stream's listener will stand.
func (o *oracle) wrote(w *watch, at exchange.Position) {
	to := w.to.fed.home
	key, said := saidKey{w.from.home, to, at}, o.last[w.from][to.name]
	if all := o.said[key]; len(all) == 0 || !sameSummaries(all[len(all)-1], said) {
		o.said[key] = append(all, said)
	}
}

func sameSummaries(a, b []*catalog.Summary) bool {
	return slices.EqualFunc(a, b, func(x, y *catalog.Summary) bool { return x.Equal(*y) })
}

// listens is told of a listener at its start: it has what is on its disk.
func (o *oracle) listens(l *listener) {
	key := heldKey{l.fed.home, l.peer}
	if at := l.applier.Snapshot().Position(); o.seen[key].Before(at) {
		o.seen[key] = at
	}
	// What was not kept yet is not known any more.
	o.seen[key] = l.applier.Snapshot().Position()
}

// listenerApplied is told of a new snapshot: I2 and I5.
func (o *oracle) listenerApplied(l *listener) {
	o.s.stats.Batches++
	at := l.applier.Snapshot().Position()
	key := heldKey{l.fed.home, l.peer}
	if at.Before(o.seen[key]) {
		o.violated(Monotonic, "%s applies (%d, %d) of %s after (%d, %d)", l.fed.name, at.Epoch, at.Version, l.peer.name, o.seen[key].Epoch, o.seen[key].Version)
	}
	o.seen[key] = at
	want, ok := o.said[saidKey{l.peer, l.fed.home, at}]
	if !ok {
		o.violated(Ownership, "%s has a state (%d, %d) of %s that it has never said", l.fed.name, at.Epoch, at.Version, l.peer.name)
		return
	}
	have := l.applier.Snapshot().Services()
	if !slices.ContainsFunc(want, func(said []*catalog.Summary) bool { return sameSummaries(have, said) }) {
		o.violated(Ownership, "%s has at (%d, %d) of %s another state than it said", l.fed.name, at.Epoch, at.Version, l.peer.name)
	}
}

// tableApplied is told that a gateway has put a table in force: I2.
func (o *oracle) tableApplied(g *gateway) {
	w, t := &g.watch, g.table
	if t.Epoch < w.epoch || t.Epoch == w.epoch && t.Version <= w.version {
		o.violated(Monotonic, "%s applies table %d.%d after %d.%d", g.name, t.Epoch, t.Version, w.epoch, w.version)
	}
	w.epoch, w.version = t.Epoch, t.Version
	// A peer that is removed and comes back is a new one.
	for c := range w.back {
		if !slices.ContainsFunc(t.Peers, func(p route.Peer) bool { return p.Name == c }) {
			delete(w.back, c)
		}
	}
}

// queued is told how long a queue is: I7.
func (o *oracle) queued(who, what string, n, most int) {
	if n > most {
		o.violated(Bounded, "%s: %s holds %d, at most %d", who, what, n, most)
	}
}

// linkDies is told of a verdict on a link: I13.
func (o *oracle) linkDies(e *end) {
	o.s.stats.LinksLost++
	s, a, b := o.s, e.gateway, e.far.gateway
	const before = 1500 * time.Millisecond
	for _, way := range [][2]*gateway{{a, b}, {b, a}} {
		x, y := way[0], way[1]
		sky := s.net.sky[x.home.index][y.home.index]
		if s.net.blocked(x, y) || s.now-s.net.bad[x.home.index][y.home.index] < before || sky.loss > 0.02 {
			return
		}
	}
	if !b.runs(s.now-before) || !e.far.open {
		return
	}
	o.violated(CauseOfDeath, "%s gives the link with %s up, which has been well", a.name, b.name)
}
