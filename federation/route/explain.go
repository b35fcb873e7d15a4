package route

import (
	"slices"
	"strconv"
	"time"
)

// Explain decides on r as Pick would, from the same plan and counters, without
// taking anything (no round-robin turn, no probation), and says why.
func (p *Plan) Explain(r Request) *Ledger { return p.explain(r, false) }

// ExplainLocal does the same for PickLocal.
func (p *Plan) ExplainLocal(r Request) *Ledger { return p.explain(r, true) }

func (p *Plan) explain(r Request, local bool) *Ledger {
	rec := Record{request: r, local: local, state: peeking}
	var d decision
	p.decide(&rec, &d)
	return p.ledger(&rec, &d)
}

// Replay repeats the decision of a record that this plan made. Only what the
// decision read has scores: the rest of the counters has moved on.
func (p *Plan) Replay(rec Record) *Ledger {
	rec.state, rec.seen, rec.back, rec.answered, rec.met, rec.crowded = replaying, 0, 0, 0, false, 0
	rec.hashedBack = 0
	var d decision
	p.decide(&rec, &d)
	return p.ledger(&rec, &d)
}

func (p *Plan) ledger(rec *Record, d *decision) *Ledger {
	l := &Ledger{
		Request: ledgerRequest(rec),
		Plan: LedgerPlan{
			Epoch: p.table.Epoch, Version: p.table.Version, Cluster: p.table.Cluster.Name,
			From: p.self, EvidenceAt: p.evidence.Now, Alone: p.alone,
		},
		Status: d.status, Mode: d.mode, Drill: p.ledgerDrill(d),
	}
	if p.evidence.Switches != (Switches{}) {
		l.Plan.Switches = new(p.evidence.Switches)
	}
	traffic := p.defaults
	if d.service != nil {
		traffic = d.service.traffic
	}
	l.Policy = LedgerPolicy{
		Name: traffic.Name, Algorithm: traffic.Algorithm, Clusters: traffic.Clusters, Weights: traffic.Weights,
		Pin: traffic.Pin, FailoverOff: traffic.DisableFailover,
		PanicThreshold: *traffic.PanicThreshold, FailClosed: traffic.FailClosed,
		LabelPriorities: traffic.LabelPriorities, Distribute: traffic.Distribute, Residency: traffic.Residency,
		Subsets: traffic.Subsets, Sticky: traffic.Sticky, Hashing: traffic.Hashing, SlowStart: traffic.SlowStart,
		Limits: traffic.Limits,
	}
	if d.service != nil {
		l.Policy.PriceWeight, l.Policy.Saving = d.service.perDollar, d.service.saving
	}
	if d.layout != nil {
		l.Demand = p.ledgerDemand(d)
		for i := range d.layout.tiers {
			l.Tiers = append(l.Tiers, p.ledgerTier(rec, d, i))
		}
		l.Excluded = p.exclusions(rec, d)
		l.Draws = drawsOf(rec, d)
	}
	if d.candidate >= 0 {
		l.Choice = choiceOf(d)
		if d.subset >= 0 && !d.subsetMissed {
			l.Choice.Subset = d.service.subsets[d.subset].text
		} else if rec.local {
			l.Choice.Subset = rec.request.Subset
		}
	}
	l.Why, l.Otherwise = p.why(rec, d), p.otherwise(rec, d)
	return l
}

func ledgerRequest(rec *Record) LedgerRequest {
	r := &rec.request
	out := LedgerRequest{
		Service: r.Service, Port: r.Port, Pin: r.Pin, Inbound: rec.local, Subset: r.Subset, Hash: r.Hash,
		Priority: r.Priority, Random: r.Random, At: time.Unix(0, r.NowNanos).UTC(),
	}
	out.Tried = r.Tried.texts()
	return out
}

func (p *Plan) ledgerTier(rec *Record, d *decision, i int) LedgerTier {
	t := &d.layout.tiers[i]
	out := LedgerTier{
		Tier: i, Name: tierText(&d.layout.candidates[t.first], d.service.traffic),
		Ready: t.level.ready, Total: t.level.total,
		Health: percent(t.health), Load: percent(t.load),
		Panic: t.panic, Refused: t.refuse, RampIgnored: t.unramped,
	}
	var sum uint64
	for k := range t.wheel.items {
		sum += t.wheel.items[k].weight
	}
	for k := t.first; k < t.last; k++ {
		c := p.ledgerCandidate(rec, d, k)
		for n := range t.wheel.items {
			if it := &t.wheel.items[n]; int(it.index) == k {
				c.Weight = percent(uint64(float64(it.weight) / float64(sum) * whole))
				c.Score = d.score(rec, t.wheel, n, &d.outer, i == d.tier)
			}
		}
		out.Candidates = append(out.Candidates, c)
	}
	return out
}

func (p *Plan) ledgerCandidate(rec *Record, d *decision, k int) LedgerCandidate {
	c := &d.layout.candidates[k]
	out := LedgerCandidate{
		Cluster: c.target.Cluster, Zone: c.zone, Service: c.name, Port: c.port,
		Ready: c.ready, Total: c.total, Source: c.source, Age: p.ageOf(p.sourceAt(c)),
		ControlLost: c.controlLost && !c.reason.down(), Quarantined: c.quarantined,
		Share: percent(c.share), Reason: c.reason, Room: ledgerRoom(rec, k, c),
	}
	if rec.state != replaying {
		out.Forecast = c.forecast.Report(rec.request.NowNanos, c.counters)
	}
	if p.table.Tariff != nil {
		out.Price = new(c.price)
	}
	if !c.own() {
		return out
	}
	w := c.endpoints.wheel(!d.layout.tiers[c.tier].panic)
	for n := range w.items {
		if n == MaxLedgerEndpoints {
			out.Omitted = len(w.items) - n
			break
		}
		m := &c.endpoints.members[w.items[n].index]
		part := 0.0
		if p := w.part(n, rec.request.NowNanos); p < whole {
			part = percent(p)
		}
		out.Endpoints = append(out.Endpoints, LedgerEndpoint{
			SlowStart: part,
			ID:        m.endpoint.ID, Address: m.endpoint.Address.String(), Weight: m.endpoint.Weight, Reason: m.reason,
			Score: d.score(rec, w, n, &d.inner, k == d.candidate),
		})
	}
	return out
}

// score of item n. Of what the decision compared it is what was read then; of
// the rest what the counters say now, but not in a replay.
func (d *decision) score(rec *Record, w *wheel, n int, t *turn, here bool) *Score {
	it := &w.items[n]
	var r reading
	switch {
	case here && t.second >= 0 && n == t.first:
		r = t.a
	case here && t.second >= 0 && n == t.second:
		r = t.b
	case here && t.compared(n) >= 0:
		r = rec.reads[t.compared(n)]
	case rec.state == replaying:
		return nil
	default:
		r.look(it.counters, it.backlog, rec.request.NowNanos, it.terms.out)
	}
	return scoreOf(it, &r, rec.size(w.sizes))
}

func choiceOf(d *decision) *LedgerChoice {
	c := &d.layout.candidates[d.candidate]
	out := &LedgerChoice{Tier: d.tier, Cluster: c.target.Cluster, Zone: c.zone, Service: c.name, Port: c.port}
	if d.member >= 0 {
		ep := c.endpoints.members[d.member].endpoint
		out.Endpoint, out.Address = ep.ID, ep.Address.String()
	}
	return out
}

func drawsOf(rec *Record, d *decision) []LedgerDraw {
	if d.candidate < 0 {
		return nil
	}
	var out []LedgerDraw
	if d.subset >= 0 {
		draw := LedgerDraw{Of: "subset", By: "weights", Taken: d.service.subsets[d.subset].name}
		switch {
		case d.subsetMissed:
			draw.By, draw.Taken = "fallback", "the whole service"
		case d.subsetNamed:
			draw.By = "request"
		}
		out = append(out, draw)
	}
	c := &d.layout.candidates[d.candidate]
	taken := string(c.target.Cluster)
	switch {
	case rec.request.Pin != "":
		out = append(out, LedgerDraw{Of: "cluster", By: "pin", Taken: taken})
	case d.mode == Probation:
		out = append(out, LedgerDraw{Of: "cluster", By: "probation", Taken: taken})
	default:
		out = append(out, LedgerDraw{Of: "tier", By: "load", At: percent(d.draw), Taken: strconv.Itoa(d.tier)})
		w := d.layout.tiers[d.tier].wheel
		draw := drawOf("cluster", w, &d.outer, taken, func(it *item) string { return string(it.cluster) })
		if d.outer.hashed {
			first := d.layout.tiers[d.tier].first
			draw.Hash = ledgerHash(rec, w, &d.outer, func(entry int32) string { return string(d.layout.candidates[first+int(entry)].target.Cluster) })
		}
		out = append(out, draw)
	}
	if d.member >= 0 && (d.inner.first >= 0 || d.inner.rotated) {
		w := innerOf(d, c)
		id := c.endpoints.members[d.member].endpoint.ID
		draw := drawOf("endpoint", w, &d.inner, id, func(it *item) string { return it.endpoint })
		if d.inner.hashed {
			draw.Hash = ledgerHash(rec, w, &d.inner, func(entry int32) string { return c.endpoints.members[entry].endpoint.ID })
		}
		out = append(out, draw)
	}
	return out
}

// innerOf is the wheel that the endpoint was drawn from.
func innerOf(d *decision, c *candidate) *wheel {
	if m := c.endpoints.members[d.member]; m.reason != "" || d.mode == Panic {
		return c.endpoints.all
	}
	if d.mode == Probation && c.endpoints.ready == 0 {
		return c.endpoints.all
	}
	return c.endpoints.healthy
}

func drawOf(of string, w *wheel, t *turn, taken string, name func(*item) string) LedgerDraw {
	out := LedgerDraw{Of: of, By: string(w.algorithm), Taken: taken}
	if t.rotated {
		out.At = float64(t.position)
	}
	for _, i := range []int{t.first, t.second} {
		if i >= 0 {
			out.Among = append(out.Among, name(&w.items[i]))
		}
	}
	if t.second >= 0 {
		out.Costs = []float64{t.costA, t.costB}
	}
	for k, i := range t.rest[:t.others] {
		out.Among, out.Costs = append(out.Among, name(&w.items[i])), append(out.Costs, t.restCost[k])
	}
	return out
}

// exclusions are in order of cluster, zone and endpoint.
func (p *Plan) exclusions(rec *Record, d *decision) []Exclusion {
	var out []Exclusion
	if rec.local {
		for i := range d.service.service.Remote {
			out = append(out, Exclusion{Cluster: d.service.service.Remote[i].Cluster, Reason: RemoteNotForPeers})
		}
	} else {
		out = p.ruledOut(d)
	}
	endpoints := 0
	for i := range d.layout.candidates {
		c := &d.layout.candidates[i]
		if r := excludedBy(rec, i, c); r != "" {
			e := Exclusion{Cluster: c.target.Cluster, Zone: c.zone, Reason: r}
			if r == c.reason {
				e.Evidence, e.Age, e.Until = c.detail, p.ageOf(p.since(c)), c.until
			}
			if r == AtCapacity {
				e.Evidence = c.gate.text(rec.request.Priority)
			}
			out = append(out, e)
		}
		if !c.own() {
			continue
		}
		for k := range c.endpoints.members {
			m := &c.endpoints.members[k]
			r := m.reason
			if rec.request.Tried.has(c.target.Cluster, m.endpoint.ID) {
				r = AlreadyTried
			}
			if r == "" || endpoints == MaxLedgerEndpoints {
				continue
			}
			endpoints++
			out = append(out, Exclusion{
				Cluster: c.target.Cluster, Zone: c.zone, Endpoint: m.endpoint.ID,
				Reason: r, Evidence: m.detail, Age: p.ageOf(m.since), Until: m.until,
			})
		}
	}
	slices.SortStableFunc(out, func(a, b Exclusion) int { return a.compare(b) })
	return out
}

// ruledOut are the clusters that rules leave out, and the peers that do not
// export the service here, or from which it is not imported.
func (p *Plan) ruledOut(d *decision) []Exclusion {
	out := make([]Exclusion, 0, len(d.port.ruled))
	for _, x := range d.port.ruled {
		out = append(out, Exclusion{Cluster: x.cluster, Zone: x.zone, Reason: x.reason, Evidence: x.detail})
	}
	for i := range p.table.Peers {
		name := p.table.Peers[i].Name
		if !p.knows(Target{Service: d.service.service.Name, Port: d.port.port.Name, Cluster: name}) {
			out = append(out, Exclusion{Cluster: name, Reason: NotImported})
		}
	}
	return out
}

// excludedBy is why a candidate could not be drawn for this request.
func excludedBy(rec *Record, i int, c *candidate) Reason {
	switch tried := &rec.request.Tried; {
	case rec.request.Pin != "" && c.target.Cluster != rec.request.Pin:
		return RequestPin
	case tried.has(c.target.Cluster, "") || c.own() && tried.last != nil && c.endpoints.all.exhausted(rec):
		return AlreadyTried
	case c.reason == "" && i < 64 && rec.crowded>>i&1 == 1:
		return AtCapacity
	default:
		return c.reason
	}
}

// sourceAt is when what a candidate counts was said.
func (p *Plan) sourceAt(c *candidate) time.Time {
	switch c.source {
	case sourceReport:
		return p.evidence.Targets[c.target].ReportedAt
	case sourceSummary:
		if peer := p.peers[c.target.Cluster]; peer != nil {
			return peer.HeardAt
		}
		return time.Time{}
	default:
		return p.evidence.Now
	}
}

// since when a candidate is out of service.
func (p *Plan) since(c *candidate) time.Time {
	if c.reason == NoReadyEndpoints && !c.own() {
		return p.sourceAt(c)
	}
	return c.since
}

func (p *Plan) ageOf(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(p.evidence.Now.Sub(t), 0)
}

func percent(basisPoints uint64) float64 { return float64(basisPoints) / 100 }
