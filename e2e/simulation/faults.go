package simulation

import (
	"slices"
	"time"
)

// faults are made at random moments, each for a while; heal ends them all.
type faults struct {
	s        *Sim
	ends     time.Duration
	healed   bool
	undo     map[uint64]func()
	order    []uint64
	serial   uint64
	kinds    []fault
	weights  int
	lastLoss map[*cluster]time.Duration // when a disk was lost or a source lied last
}

type fault struct {
	name   string
	weight int
	make   func()
}

func newFaults(s *Sim, from, to time.Duration) *faults {
	f := &faults{s: s, ends: to, undo: make(map[uint64]func()), lastLoss: make(map[*cluster]time.Duration)}
	f.kinds = []fault{
		{"cut", 6, f.cut},
		{"weather", 4, f.weather},
		{"stall", 5, f.stall},
		{"crash of a gateway", 4, f.crashGateway},
		{"crash of a federation", 4, f.crashFederation},
		{"lie of a source", 6, f.lie},
		{"sick instance", 7, f.sicken},
		{"scaling", 5, f.scale},
		{"change of rules", 6, f.rule},
		{"parted gateway", 3, f.part},
		{"replay", 4, f.replay},
		{"poison", 2, f.poison},
		{"removed peer", 1, f.removePeer},
	}
	for _, k := range f.kinds {
		f.weights += k.weight
	}
	s.at(from, f.next)
	s.at(from, f.drills)
	return f
}

// next makes a fault and plans the one after.
func (f *faults) next() {
	s := f.s
	if f.healed {
		return
	}
	n := s.rng.IntN(f.weights)
	for _, k := range f.kinds {
		if n -= k.weight; n < 0 {
			s.stats.Faults++
			s.note("fault", k.name, 0)
			k.make()
			break
		}
	}
	s.after(s.between(50*time.Millisecond, 1500*time.Millisecond), f.next)
}

// until runs undo after a while, or when all is healed.
func (f *faults) until(d time.Duration, undo func()) {
	f.serial++
	id := f.serial
	f.undo[id] = undo
	f.order = append(f.order, id)
	f.s.after(d, func() { f.end(id) })
}

func (f *faults) end(id uint64) {
	if undo := f.undo[id]; undo != nil {
		delete(f.undo, id)
		undo()
	}
}

// heal ends every fault, and with them the time in which anything may go wrong.
func (f *faults) heal() {
	f.healed = true
	for _, id := range f.order {
		f.end(id)
	}
	f.s.note("faults", "end", 0)
	f.s.oracle.healed()
}

// twoClusters draws two that differ.
func (f *faults) twoClusters() (a, b *cluster) {
	a = pick(&f.s.engine, f.s.clusters)
	for b = a; b == a; {
		b = pick(&f.s.engine, f.s.clusters)
	}
	return a, b
}

func (f *faults) some() time.Duration {
	if f.s.chance(0.3) {
		return f.s.between(2*time.Second, 8*time.Second)
	}
	return f.s.between(100*time.Millisecond, 2*time.Second)
}

// cut takes a way: both directions or one, of clusters, of two gateways, or all
// ways of one cluster.
func (f *faults) cut() {
	n, s := f.s.net, f.s
	a, b := f.twoClusters()
	d := f.some()
	way := func(from, to *cluster) {
		n.cut[from.index][to.index]++
		f.until(d, func() { n.cut[from.index][to.index]--; n.bad[from.index][to.index] = s.now })
	}
	switch s.rng.IntN(4) {
	case 0:
		way(a, b)
	case 1:
		way(a, b)
		way(b, a)
	case 2:
		for _, c := range s.clusters {
			if c != a {
				way(a, c)
				way(c, a)
			}
		}
	default:
		x, y := pick(&s.engine, a.gateways), pick(&s.engine, b.gateways)
		key := [2]*gateway{x, y}
		n.alone[key]++
		f.until(d, func() { n.alone[key]--; n.bad[a.index][b.index] = s.now })
	}
}

func (f *faults) weather() {
	n, s := f.s.net, f.s
	a, b := f.twoClusters()
	n.sky[a.index][b.index] = weather{loss: s.rng.Float64() * 0.3, twice: 0.1 * s.rng.Float64(), jitter: s.between(0, 80*time.Millisecond)}
	f.until(f.some(), func() { n.sky[a.index][b.index] = fair; n.bad[a.index][b.index] = s.now })
}

// stall takes the CPU from a process.
func (f *faults) stall() {
	s := f.s
	d := s.between(50*time.Millisecond, 3*time.Second)
	if d > f.ends-s.now {
		d = max(0, f.ends-s.now)
	}
	if s.chance(0.3) {
		pick(&s.engine, s.clusters).fed.stall(d)
		return
	}
	pick(&s.engine, s.gateways).stall(d)
}

func (f *faults) crashGateway() {
	s := f.s
	g := pick(&s.engine, s.gateways)
	if !g.up {
		return
	}
	// A gateway that has lost its disk needs its federation.
	g.crash(s.chance(0.2))
	f.until(s.between(100*time.Millisecond, 4*time.Second), func() {
		g.skew = s.between(-time.Minute, time.Minute)
		g.boot()
	})
}

// crashFederation ends one; its disk stays, is lost, or is an old backup.
func (f *faults) crashFederation() {
	s := f.s
	c := pick(&s.engine, s.clusters)
	fed := c.fed
	// A federation that has lost its disk learns of it by its gateways' reports: one
	// that crashes once more before has no way to know.
	if last, lost := f.lastLoss[c]; !fed.up || lost && s.now-last < 5*time.Second {
		return
	}
	backup := fed.disk.clone()
	fed.crash()
	down := s.between(200*time.Millisecond, 6*time.Second)
	kind := s.rng.IntN(10)
	f.until(down, func() {
		switch {
		case kind < 6 || c.source.tells != honest:
			fed.disk.rules = c.rules.clone() // a change while it was down is made at its start
		case kind < 8:
			s.note(fed.name, "has lost its disk", 0)
			fed.disk = newDisk(c.rules)
			f.lastLoss[c] = s.now
		default:
			s.note(fed.name, "is restored from a backup", 0)
			fed.disk = f.older(c, backup)
			fed.disk.rules = c.rules.clone()
			f.lastLoss[c] = s.now
		}
		s.oracle.disk(fed)
		fed.skew = s.between(-time.Minute, time.Minute)
		fed.boot()
	})
}

// older is a backup of before: with epochs and states that time has gone over.
func (f *faults) older(c *cluster, backup *disk) *disk {
	d := backup.clone()
	d.epoch = max(1, d.epoch/2)
	for _, p := range f.s.clusters {
		if n := d.exchange[p.name]; n > 1 {
			d.exchange[p.name] = n / 2
		}
		if p.index%2 == 0 {
			delete(d.kept, p.name)
		}
	}
	d.source = nil
	if old := c.truth(); old.Len() > 0 {
		d.source = old
	}
	return d
}

// lie makes a source wrong for a while.
func (f *faults) lie() {
	s := f.s
	c := pick(&s.engine, s.clusters)
	if c.source.tells != honest || !c.fed.up || c.fed.guard.Effective() == nil || s.now-c.fed.born < 3*time.Second {
		return
	}
	// Between two lies the truth is read at least once: a lie that lasts is believed.
	if last, lied := f.lastLoss[c]; lied && s.now-last < 3*pollEvery {
		return
	}
	c.source.old = c.truth()
	c.source.tells = lie(s.number(int(empty), int(mute)))
	s.note(string(c.name), "source lies", uint64(c.source.tells))
	s.oracle.lies(c)
	// Shorter than the guard's window: what is said for longer is believed.
	f.until(s.between(500*time.Millisecond, s.guard.Window-100*time.Millisecond), func() {
		c.source.tells = honest
		f.lastLoss[c] = s.now
	})
}

// sicken makes one instance behave otherwise.
func (f *faults) sicken() {
	s := f.s
	c := pick(&s.engine, s.clusters)
	if len(c.services) == 0 {
		return
	}
	v := pick(&s.engine, c.services)
	how := behaviour(s.number(int(slow), int(fails)))
	n := 1
	if s.chance(0.3) {
		n = len(v.instances)
	}
	for _, i := range v.instances[:n] {
		if i.does != answers {
			continue
		}
		i.set(how)
		f.until(f.some(), func() { i.set(answers) })
	}
}

// scale registers or takes away an instance, truly.
func (f *faults) scale() {
	s := f.s
	c := pick(&s.engine, s.clusters)
	if len(c.services) == 0 || c.source.tells != honest {
		return
	}
	v := pick(&s.engine, c.services)
	var there []*instance
	for _, i := range v.instances {
		if i.registered {
			there = append(there, i)
		}
	}
	if len(there) > 1 && s.chance(0.5) {
		i := pick(&s.engine, there)
		i.registered = false
		s.note(i.endpoint.ID, "goes", 0)
		return
	}
	if len(there) < 6 {
		i := v.addInstance()
		s.note(i.endpoint.ID, "comes", 0)
	}
}

// rule changes exports, imports or denials.
func (f *faults) rule() {
	s := f.s
	a, b := f.twoClusters()
	name := pick(&s.engine, s.names)
	kind := s.rng.IntN(3)
	s.note(string(a.name), "changes its rules on "+name.Name()+" and "+string(b.name), uint64(kind))
	a.fed.rule(func(r *rules) {
		switch kind {
		case 0:
			r.denied[name] = toggled(r.denied[name], b.name)
		case 1:
			r.exported[name] = toggled(r.exported[name], b.name)
		default:
			r.imported[b.name] = toggled(r.imported[b.name], name)
		}
	})
	s.oracle.ruled(a)
}

func toggled[T comparable](list []T, v T) []T {
	if i := slices.Index(list, v); i >= 0 {
		return slices.Delete(slices.Clone(list), i, i+1)
	}
	return append(slices.Clone(list), v)
}

// removePeer takes a peer out of the configuration, and back.
func (f *faults) removePeer() {
	s := f.s
	a, b := f.twoClusters()
	if slices.Contains(a.rules.removed, b.name) {
		return
	}
	change := func() {
		s.note(string(a.name), "changes its peers", uint64(b.index))
		a.fed.rule(func(r *rules) { r.removed = toggled(r.removed, b.name) })
		s.oracle.ruled(a)
	}
	change()
	f.until(f.some(), change)
}

// part keeps a gateway from its federation.
func (f *faults) part() {
	s := f.s
	g := pick(&s.engine, s.gateways)
	c := g.home
	if c.parted[g] {
		return
	}
	c.parted[g] = true
	if g.fed != nil {
		g.fed.unsubscribe(g)
	}
	s.oracle.unreachable(g)
	f.until(f.some(), func() { delete(c.parted, g); s.oracle.unreachable(g) })
}

// replay sends a listener what it was sent before.
func (f *faults) replay() {
	s := f.s
	a, b := f.twoClusters()
	l := a.fed.peers[b.name]
	if !a.fed.up || l == nil || len(l.sent) == 0 {
		return
	}
	from := s.rng.IntN(len(l.sent))
	for _, lines := range slices.Clone(l.sent[from:]) {
		if l.watch == nil {
			return
		}
		s.stats.Refused++
		if err := l.take(lines); err != nil {
			l.watch.refused(err)
			return
		}
	}
}

// poison sends a listener what its peer has no right to say.
func (f *faults) poison() {
	s := f.s
	a, b := f.twoClusters()
	l := a.fed.peers[b.name]
	if !a.fed.up || l == nil || l.watch == nil {
		return
	}
	evil := []string{
		`{"type":"begin","format":1,"cluster":"` + string(a.name) + `","epoch":9999,"version":9}`,
		`{"type":"begin","format":1,"cluster":"` + string(b.name) + `","epoch":1,"version":1}`,
		`{"type":"sync","epoch":9,"version":9,"services":0,"digest":""}`,
		`{"type":"remove","name":"web.shop"}`,
		`{"type":"begin","format":7,"cluster":"` + string(b.name) + `","epoch":9999,"version":9}`,
	}
	if err := l.take([]byte(pick(&s.engine, evil) + "\n")); err != nil {
		s.stats.Refused++
		l.watch.refused(err)
	}
}
