package board

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/spare"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
)

// farLoad is what one gateway of another cluster said last of capacity.
type farLoad struct {
	at time.Time
	// seq is its number, heard that of ours which it had heard; lowered says that it
	// grants less than before, which it should know that we know.
	seq, heard uint64
	lowered    bool
	// offers are of services that are imported from it, wants of those that are
	// exported to it.
	offers map[farService]offer
	wants  map[farService][route.Priorities]uint64
}

// offer is what it offers of one service.
type offer struct {
	capacity, inFlight uint64
	spare, granted     route.Graded
	until              time.Time
}

// offered is what this gateway has told its peers of one port.
type offered struct {
	slots          uint64
	spare, granted route.Graded
}

// TakeLoad takes the load of a far gateway. What it says of services that this cluster
// neither imports from it nor exports to it is not kept.
func (b *Board) TakeLoad(cluster catalog.ClusterName, gateway string, l wire.Load) {
	b.TakeDelays(cluster, gateway, l)
	ix := b.index.Load()
	if ix == nil {
		return
	}
	now := b.o.Now()
	load := farLoad{at: now, seq: l.Seq, heard: l.Heard, offers: make(map[farService]offer), wants: make(map[farService][route.Priorities]uint64)}
	for _, s := range l.Offers {
		if s.Capacity > 0 && len(ix.imports[remoteName{cluster, s.Service}]) > 0 {
			load.offers[farService{s.Service, s.Port}] = offer{
				capacity: s.Capacity, inFlight: s.InFlight, until: now.Add(s.Lease),
				spare:   route.Graded{Any: s.Spare, Default: s.SpareDefault, Critical: s.SpareCritical},
				granted: route.Graded{Any: s.Granted, Default: s.GrantedDefault, Critical: s.GrantedCritical},
			}
		}
	}
	for _, s := range l.Wants {
		if name, err := catalog.ParseServiceName(s.Service); err == nil && slices.Contains(ix.exported[name], cluster) {
			load.wants[farService{s.Service, s.Port}] = [route.Priorities]uint64{
				route.PriorityCritical: s.WantCritical, route.PriorityDefault: s.Want - s.WantCritical - s.WantLow, route.PriorityLow: s.WantLow,
			}
		}
	}
	b.mu.Lock()
	byGateway := b.loads[cluster]
	if byGateway == nil {
		byGateway = make(map[string]farLoad)
		b.loads[cluster] = byGateway
	}
	old, had := byGateway[gateway]
	load.lowered = old.lowered || lowers(old.offers, load.offers)
	if had || len(byGateway) < maxReporters {
		byGateway[gateway] = load
	}
	b.mu.Unlock()
	if !had || !sameOffers(old.offers, load.offers) {
		b.Touch()
	}
	if load.lowered || load.heard != old.heard || !sameWants(old.wants, load.wants) {
		b.noteLoad()
	}
}

func sameWants(a, b map[farService][route.Priorities]uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		w, ok := b[k]
		for p := range v {
			if !ok || !near(v[p], w[p]) {
				return false
			}
		}
	}
	return true
}

// lowers reports whether b grants less of anything than a.
func lowers(a, b map[farService]offer) bool {
	for k, v := range a {
		if !b[k].granted.Covers(v.granted) {
			return true
		}
	}
	return false
}

// sameOffers reports whether a and b lead to the same plan, but for their leases.
func sameOffers(a, b map[farService]offer) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w.capacity != v.capacity || w.granted != v.granted {
			return false
		}
	}
	return true
}

// granted adds to ev what a cluster's gateways grant of a service. b.mu is held.
func (b *Board) granted(ev *route.TargetEvidence, cluster catalog.ClusterName, name farService, now time.Time) {
	for gateway, load := range b.loads[cluster] {
		if now.Sub(load.at) > reportLife {
			delete(b.loads[cluster], gateway)
			continue
		}
		o, has := load.offers[name]
		if !has || !o.until.After(now) {
			continue
		}
		ev.Capacity, ev.InFlight = ev.Capacity+o.capacity, ev.InFlight+o.inFlight
		ev.Spare, ev.Granted = ev.Spare.Plus(o.spare), ev.Granted.Plus(o.granted)
		if o.until.After(ev.GrantedUntil) {
			ev.GrantedUntil = o.until
		}
	}
}

// demand reads the meters into e. b.compiling is held.
func (b *Board) demand(e *route.Evidence, now time.Time) {
	meters := b.live.Meters()
	for key, m := range meters {
		d := b.demands[key]
		if d == nil {
			d = new(spare.Demand)
			b.demands[key] = d
		}
		if told := d.Observe(m, now); !d.Idle() {
			e.Demands[key] = told
		}
	}
	for key := range b.demands {
		if meters[key] == nil {
			delete(b.demands, key)
		}
	}
}

// LoadNews is signaled when Loads may have something that should not wait.
func (b *Board) LoadNews() <-chan struct{} { return b.loadNews }

func (b *Board) noteLoad() {
	select {
	case b.loadNews <- struct{}{}:
	default:
	}
}

// Loads makes what each peer's gateway is to be told of capacity now: what it is
// granted, what is wanted of it, and how long endpoints take. due says whether it is to be sent: every
// second, and at once where it has moved, or where the peer waits to hear that a lower
// grant was heard. The function is for this moment, and what is due counts as sent.
func (b *Board) Loads() func(cluster catalog.ClusterName, gateway string) (l wire.Load, due bool) {
	plan, ix, e, now := b.Plan(), b.index.Load(), b.Evidence(), b.o.Now()
	loads := make(map[spare.Peer]*outgoing)
	b.mu.Lock()
	b.divisions++
	seq := b.divisions
	if plan != nil && ix != nil && e != nil {
		b.hear(loads)
		b.offer(plan, ix, e, now, loads)
		b.want(plan, now, loads)
	}
	for to, last := range b.told {
		if now.Sub(last.at) > reportLife {
			delete(b.told, to)
		}
	}
	b.mu.Unlock()
	for _, l := range loads {
		slices.SortFunc(l.Offers, compareLoads)
		slices.SortFunc(l.Wants, compareLoads)
		l.Offers, l.Wants = bounded(l.Offers), bounded(compact(l.Wants))
	}
	return func(cluster catalog.ClusterName, gateway string) (l wire.Load, due bool) {
		to, urgent := spare.Peer{Cluster: cluster, Gateway: gateway}, false
		if o := loads[to]; o != nil {
			l, urgent = o.Load, o.urgent
		}
		l.Seq = seq
		b.mu.Lock()
		defer b.mu.Unlock()
		if last, has := b.told[to]; has && !urgent && now.Sub(last.at) < loadRepeat && !moved(last.load, l) {
			return l, false
		}
		b.told[to] = toldLoad{l, now}
		b.AddDelays(&l, cluster)
		return l, true
	}
}

// loadRepeat is how often a peer is told what has not moved: often enough for leases.
const loadRepeat = time.Second

// toldLoad is what a peer's gateway was told last.
type toldLoad struct {
	load wire.Load
	at   time.Time
}

// moved reports whether b says something that should not wait: another list of
// services, or a grant or want that has moved by more than a tenth.
func moved(a, b wire.Load) bool {
	same := func(x, y wire.ServiceLoad) bool {
		return x.Service == y.Service && x.Port == y.Port && near(x.Capacity, y.Capacity) &&
			near(x.Granted, y.Granted) && near(x.Granted+x.GrantedDefault, y.Granted+y.GrantedDefault) &&
			near(x.Granted+x.GrantedDefault+x.GrantedCritical, y.Granted+y.GrantedDefault+y.GrantedCritical) &&
			near(x.Want, y.Want) && near(x.WantCritical, y.WantCritical) && near(x.WantLow, y.WantLow)
	}
	return !slices.EqualFunc(a.Offers, b.Offers, same) || !slices.EqualFunc(a.Wants, b.Wants, same)
}

func near(x, y uint64) bool { return max(x, y)-min(x, y) <= max(x, y)/10 }

// outgoing is what one peer's gateway is to be told.
type outgoing struct {
	wire.Load
	urgent bool
}

// hear begins the loads of the gateways that are heard. b.mu is held.
func (b *Board) hear(loads map[spare.Peer]*outgoing) {
	for cluster, byGateway := range b.loads {
		for gateway, load := range byGateway {
			l := loadOf(loads, spare.Peer{Cluster: cluster, Gateway: gateway})
			l.Heard, l.urgent = load.seq, load.lowered
			load.lowered = false
			byGateway[gateway] = load
		}
	}
}

func compareLoads(a, b wire.ServiceLoad) int {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port))
}

func bounded(rows []wire.ServiceLoad) []wire.ServiceLoad {
	return rows[:min(len(rows), wire.MaxReportServices)]
}

// compact adds up wants of one service that is imported under several names.
func compact(rows []wire.ServiceLoad) []wire.ServiceLoad {
	out := rows[:0]
	for _, r := range rows {
		if n := len(out); n > 0 && compareLoads(out[n-1], r) == 0 {
			out[n-1].Want = min(out[n-1].Want+r.Want, wire.MaxCalls)
			out[n-1].WantCritical = min(out[n-1].WantCritical+r.WantCritical, out[n-1].Want)
			out[n-1].WantLow = min(out[n-1].WantLow+r.WantLow, out[n-1].Want-out[n-1].WantCritical)
			out[n-1].InFlight = min(out[n-1].InFlight+r.InFlight, wire.MaxCalls)
			continue
		}
		out = append(out, r)
	}
	return out
}

func loadOf(loads map[spare.Peer]*outgoing, p spare.Peer) *outgoing {
	l := loads[p]
	if l == nil {
		l = new(outgoing)
		loads[p] = l
	}
	return l
}

// offer divides what is to spare of each exported port. b.mu is held.
func (b *Board) offer(plan *route.Plan, ix *index, e *route.Evidence, now time.Time, loads map[spare.Peer]*outgoing) {
	told := make(map[route.PortKey]offered)
	for own := range plan.Readiness() {
		key := route.PortKey{Service: own.Target.Service, Port: own.Target.Port}
		slots := min(own.Slots, wire.MaxCalls)
		known := slots > 0
		if !known {
			slots = b.learned(plan, own)
		}
		if slots == 0 {
			continue
		}
		name := farService{key.Service.String(), key.Port}
		o := offered{slots: slots, spare: spare.Of(slots, e.Demands[key].Own)}
		if !known { // own callers wait for a place, and give way to nobody
			o.spare = route.Graded{Any: o.spare.Any}
		}
		var wishes []spare.Wish
		for _, cluster := range ix.exported[key.Service] {
			most := plan.Believed(cluster, route.PriorityCritical)
			for gateway, load := range b.loads[cluster] {
				if now.Sub(load.at) <= reportLife {
					wishes = append(wishes, spare.Wish{Peer: spare.Peer{Cluster: cluster, Gateway: gateway}, Want: load.wants[name], Most: most, Heard: load.heard})
				}
			}
		}
		spare.SortWishes(wishes)
		g := b.granters[key]
		if g == nil {
			g = new(spare.Granter)
			b.granters[key] = g
		}
		for i, granted := range g.Divide(o.spare, wishes, b.divisions, now) {
			o.granted = o.granted.Plus(granted)
			l := loadOf(loads, wishes[i].Peer)
			l.Offers = append(l.Offers, wire.ServiceLoad{
				Service: name.service, Port: name.port, Capacity: slots, InFlight: uint64(min(max(own.InFlight, 0), wire.MaxCalls)),
				Spare: o.spare.Any, SpareDefault: o.spare.Default, SpareCritical: o.spare.Critical,
				Granted: granted.Any, GrantedDefault: granted.Default, GrantedCritical: granted.Critical, Lease: spare.Lease,
			})
		}
		told[key] = o
	}
	for key := range b.granters {
		if _, is := told[key]; !is {
			delete(b.granters, key) // nothing is to be granted of it
		}
	}
	b.metrics.offers(b.offers, told)
	b.offers = told
}

// want says what is wanted of peers: of each gateway of a cluster the same part. b.mu
// is held.
func (b *Board) want(plan *route.Plan, now time.Time, loads map[spare.Peer]*outgoing) {
	for w := range plan.Wants() {
		var gateways []string
		for gateway, load := range b.loads[w.Cluster] {
			if now.Sub(load.at) <= reportLife {
				gateways = append(gateways, gateway)
			}
		}
		n := uint64(len(gateways))
		part := func(p route.Priority) uint64 { return min((w.Calls[p]+n-1)/n, wire.MaxCalls/route.Priorities) }
		for _, gateway := range gateways {
			l := loadOf(loads, spare.Peer{Cluster: w.Cluster, Gateway: gateway})
			critical, low := part(route.PriorityCritical), part(route.PriorityLow)
			l.Wants = append(l.Wants, wire.ServiceLoad{
				Service: w.Name.String(), Port: w.Port, InFlight: min(w.InFlight/n, wire.MaxCalls),
				Want: critical + part(route.PriorityDefault) + low, WantCritical: critical, WantLow: low,
			})
		}
	}
}
