package route

// Pick chooses a cluster for one request of a caller in this cluster, and the
// endpoint too where that is the own cluster. It takes no lock and allocates
// nothing.
func (p *Plan) Pick(r *Request) (choice Choice, rec Record) {
	p.PickInto(r, &choice, &rec)
	return choice, rec
}

// PickInto is Pick for who has a place for the choice and its record: both are large
// enough for a copy of them to show.
func (p *Plan) PickInto(r *Request, choice *Choice, rec *Record) {
	*rec = Record{request: *r}
	p.pick(choice, rec)
}

func (p *Plan) pick(choice *Choice, rec *Record) {
	var d decision
	p.decide(rec, &d)
	*choice = Choice{}
	d.fill(p, choice)
}

// PickLocal chooses among the own cluster's endpoints for a request that came
// from a peer. It never names another cluster: a call is carried over one link
// at most, so there can be no loop. It does not ask whether the peer may call
// (AuthorizeInbound), only whether the service is exported at all. The reserved
// service federation.CLUSTER is none of the table's services; its one endpoint
// is Table.Federation.
func (p *Plan) PickLocal(r *Request) (choice Choice, rec Record) {
	p.PickLocalInto(r, &choice, &rec)
	return choice, rec
}

// PickLocalInto is to PickLocal what PickInto is to Pick.
func (p *Plan) PickLocalInto(r *Request, choice *Choice, rec *Record) {
	*rec = Record{request: *r, local: true}
	p.pick(choice, rec)
}

// decision is how a choice came about.
type decision struct {
	status  Status
	mode    Mode
	service *servicePlan
	port    *portPlan
	layout  *layout
	// subset is an index of the service's subsets, -1 if none; named by the request,
	// and missed where the whole service stands in for it.
	subset                    int
	subsetNamed, subsetMissed bool
	// drawn is the tier that the load drew, tier the one that served; -1 if none.
	drawn, tier int
	// draw is the random number of the tier, in units of 1/whole.
	draw uint64
	// candidate and member are indexes, -1 if none.
	candidate, member int
	// drill is the part in a drill, spared why a call of it is routed as ever.
	drill  DrillSide
	spared sparing
	// outer and inner are the turns among candidates and endpoints.
	outer, inner turn
}

// decide is the one function that Pick, PickLocal, Explain and Replay share. d is a
// zero value.
func (p *Plan) decide(rec *Record, d *decision) {
	d.drawn, d.tier, d.candidate, d.member, d.subset = -1, -1, -1, -1, -1
	d.outer.first, d.outer.second, d.inner.first, d.inner.second = -1, -1, -1, -1
	req := &rec.request
	if d.service = p.of(req.Service); d.service == nil {
		d.status = UnknownService
		return
	}
	if d.port = d.service.port(req.Port); d.port == nil {
		d.status = UnknownPort
		return
	}
	if rec.local && len(d.service.service.ExportedTo) == 0 {
		d.status = NotExported
		return
	}
	rnd := draws{state: req.Random}
	p.choosePort(d, rec, &rnd)
	d.mode = d.layout.mode
	switch {
	case d.status != OK:
	case d.port.drilled != nil && p.drilledPart(d, rec, rnd):
	case req.Pin != "":
		d.pinned(rec, &rnd)
	case d.probation(rec, &rnd):
	default:
		d.free(rec, &rnd)
	}
}

// probation gives this request to a candidate or endpoint on probation whose
// one request it can be: only a first attempt (one that failed already should
// not be an experiment), and only in a tier that gets calls anyway.
func (d *decision) probation(rec *Record, rnd *draws) bool {
	if rec.request.Tried.last != nil {
		return false
	}
	l := d.layout
	for i := range l.probes {
		pr := &l.probes[i]
		if pr.tier > l.loaded || !rec.takeProbe(i, pr) {
			continue
		}
		c := &l.candidates[pr.candidate]
		d.tier, d.candidate, d.member, d.mode = pr.tier, pr.candidate, pr.member, Probation
		if c.own() && pr.member < 0 {
			w := c.endpoints.wheel(c.endpoints.ready > 0)
			d.member = d.drawMember(w, rec, rnd)
		}
		return true
	}
	return false
}

// free draws a tier by its load, then inside of it; what was tried already
// makes room for the tiers behind, then for those before.
func (d *decision) free(rec *Record, rnd *draws) {
	l := d.layout
	if l.loaded < 0 {
		d.status = d.nothing(rec)
		return
	}
	d.draw = scale(rnd.next(), whole)
	if h := rec.request.Hash; l.hashes && h != 0 {
		d.draw = scale(mix(h^saltTier), whole)
	}
	left := d.draw
	for d.drawn = 0; d.drawn < l.loaded && left >= l.tiers[d.drawn].load; d.drawn++ {
		left -= l.tiers[d.drawn].load
	}
	if l.tiers[d.drawn].refuse {
		d.status, d.mode = FailClosed, Panic
		return
	}
	for k := range l.tiers {
		if d.within((d.drawn+k)%len(l.tiers), rec, rnd) {
			return
		}
	}
	d.status = d.nothing(rec)
	switch {
	case rec.met:
		d.status = Shed
	case rec.request.Tried.last != nil:
		d.status = Exhausted
	}
}

// nothing is the status of a call that no candidate can take.
func (d *decision) nothing(rec *Record) Status {
	if d.port.held(rec) {
		return ResidencyHeld
	}
	return NoCandidate
}

// within draws in one tier; false if all that it has was tried.
func (d *decision) within(tier int, rec *Record, rnd *draws) bool {
	t := &d.layout.tiers[tier]
	if t.refuse {
		return false
	}
	i := t.wheel.pick(rec, rnd, &d.outer)
	if i < 0 {
		return false
	}
	if t.panic && d.mode == Normal {
		d.mode = Panic
	}
	it := &t.wheel.items[i]
	d.tier, d.candidate = tier, int(it.index)
	if it.inner != nil {
		d.member = d.drawMember(it.inner, rec, rnd)
	}
	return true
}

func (d *decision) drawMember(w *wheel, rec *Record, rnd *draws) int {
	if i := w.pick(rec, rnd, &d.inner); i >= 0 {
		return int(w.items[i].index)
	}
	return -1
}

// pinned serves a request for one cluster: its healthy candidates in the order
// of their tiers, without regard to load; else, unless the policy is to refuse,
// any that can be reached, since the caller named it.
func (d *decision) pinned(rec *Record, rnd *draws) {
	l, tried := d.layout, &rec.request.Tried
	met := false
	for _, byHealth := range []bool{true, false} {
		if !byHealth && (d.service.traffic.FailClosed || *d.service.traffic.PanicThreshold == 0) {
			break
		}
		for i := range l.candidates {
			c := &l.candidates[i]
			if c.target.Cluster != rec.request.Pin || byHealth && !c.usable() || !byHealth && !c.reachable() {
				continue
			}
			met = true
			if d.take(i, byHealth, tried, rec, rnd) {
				return
			}
		}
	}
	d.status = d.nothing(rec)
	switch {
	case rec.met:
		d.status = Shed
	case met:
		d.status = Exhausted
	}
}

// take chooses candidate i itself, if it was not tried.
func (d *decision) take(i int, byHealth bool, tried *Tried, rec *Record, rnd *draws) bool {
	c := &d.layout.candidates[i]
	if tried.has(c.target.Cluster, "") || rec.full(&c.gate, i) {
		return false
	}
	if c.own() {
		w := c.endpoints.wheel(byHealth)
		if w.exhausted(rec) {
			return false
		}
		d.member = d.drawMember(w, rec, rnd)
	}
	d.tier, d.candidate = c.tier, i
	if !byHealth {
		d.mode = Panic
	}
	return true
}

// fill makes the choice of a decision.
func (d *decision) fill(p *Plan, out *Choice) {
	out.Status, out.Mode, out.Traffic = d.status, d.mode, p.defaults
	out.Drill, out.Spared = d.drill, d.sparedText()
	if d.service != nil {
		out.Traffic = d.service.traffic
	}
	if d.port != nil {
		out.Meter = d.port.meter
	}
	if d.candidate < 0 {
		return
	}
	if d.subset >= 0 && !d.subsetMissed {
		out.Subset = d.service.subsets[d.subset].text
	}
	c := &d.layout.candidates[d.candidate]
	out.Target, out.Name, out.Port, out.Counters, out.ZoneCounters = c.target, c.name, c.port, c.counters, c.zoneCounters
	out.Forecast, out.Sizes, out.candidate = c.forecast, d.layout.sizes, c
	if d.member >= 0 {
		m := &c.endpoints.members[d.member]
		out.Endpoint, out.EndpointCounters = m.endpoint, m.counters
	}
}
