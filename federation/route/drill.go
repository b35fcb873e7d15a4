package route

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// DrillLease is how long a gateway goes on with a drill while its federation takes
	// no report: ten of them missed.
	DrillLease = 10 * time.Second
	// MaxDrill bounds how long a drill may last.
	MaxDrill = 24 * time.Hour
	// MaxDrilled bounds each of the lists of a drill.
	MaxDrilled = 64
	// maxDrillMembers bounds the gateways of a drill: those of a cluster.
	maxDrillMembers = 256
	// maxDrillID bounds the bytes of a drill's name.
	maxDrillID = 64
)

// Drill routes a share of real calls as if places were lost. It concerns calls of the
// own cluster's callers alone: what peers send is theirs to drill.
//
// It never refuses a call. A call that would go nowhere if the places were lost, or only
// where health no longer counts, is spared: it is routed as ever, and counted. First
// attempts alone are drilled, so that a retry mends what a drill breaks, and no call
// whose caller or key says where it goes.
type Drill struct {
	ID string `json:"id"`
	// Down are the clusters that count as lost; of the own cluster its endpoints do,
	// its callers do not. Zones are zones of any cluster that do, with cloud and region.
	Down  []catalog.ClusterName `json:"down,omitempty"`
	Zones []catalog.Locality    `json:"zones,omitempty"`
	// AtOnce routes as in the first minute after a loss, when what is lost still counts
	// as a part of what there should be; otherwise as when that is over.
	AtOnce bool `json:"at_once,omitempty"`
	// Services are those that are drilled, all where there are none.
	Services []catalog.ServiceName `json:"services,omitempty"`
	// Share is the part of the calls, in 1/10,000.
	Share uint32 `json:"share"`
	// Until is when it ends by the federation's clock, For how long it is: a gateway whose
	// clock is behind ends it by its own.
	Until time.Time     `json:"until"`
	For   time.Duration `json:"for_ns"`
	// Members are the gateways that take part. One that has started since does not: a
	// drill goes on over no restart.
	Members []DrillMember `json:"members"`
}

// DrillMember is a process of a gateway.
type DrillMember struct {
	Gateway   string    `json:"gateway"`
	StartedAt time.Time `json:"started_at"`
}

// Has reports whether a gateway's process takes part.
func (d *Drill) Has(gateway string, startedAt time.Time) bool {
	return slices.ContainsFunc(d.Members, func(m DrillMember) bool { return m.Gateway == gateway && m.StartedAt.Equal(startedAt) })
}

// Covers reports whether calls to a service are drilled.
func (d *Drill) Covers(service catalog.ServiceName) bool {
	return len(d.Services) == 0 || slices.Contains(d.Services, service)
}

// Validate reports what is wrong with it.
func (d *Drill) Validate() error {
	wrong := func(field string, value any, rule string) error {
		return &catalog.FieldError{Field: "drill." + field, Value: value, Rule: rule}
	}
	switch {
	case d.ID == "" || len(d.ID) > maxDrillID:
		return wrong("id", d.ID, fmt.Sprintf("must have 1 to %d bytes", maxDrillID))
	case len(d.Down)+len(d.Zones) == 0:
		return wrong("down", d.Down, "must name a cluster, or zones a zone")
	case len(d.Down) > MaxDrilled || len(d.Zones) > MaxDrilled || len(d.Services) > MaxDrilled:
		return wrong("down", len(d.Down), fmt.Sprintf("at most %d clusters, zones and services each", MaxDrilled))
	case d.Share == 0 || d.Share > whole:
		return wrong("share", d.Share, fmt.Sprintf("must be 1 to %d", whole))
	case d.Until.IsZero():
		return wrong("until", d.Until, "is required")
	case d.For <= 0 || d.For > MaxDrill:
		return wrong("for_ns", d.For, fmt.Sprintf("must be above 0 and at most %s", MaxDrill))
	case len(d.Members) > maxDrillMembers:
		return wrong("members", len(d.Members), fmt.Sprintf("at most %d", maxDrillMembers))
	}
	for _, z := range d.Zones {
		if z.Cloud == "" || z.Region == "" || z.Zone == "" {
			return wrong("zones", z.String(), "must be CLOUD/REGION/ZONE")
		}
	}
	return nil
}

// DrillSide is the part that a decision has in a drill.
type DrillSide uint8

// The sides.
const (
	// NotDrilled: the drill does not concern the call, or there is none.
	NotDrilled DrillSide = iota
	// DrillControl: the drill concerns the call's port, and the call is not of the share.
	DrillControl
	// Drilled: it was routed as if the places were lost.
	Drilled
	// DrillSpared: it is of the share, and was routed as ever, since it would have gone
	// nowhere.
	DrillSpared
)

var drillSideText = [...]string{NotDrilled: "", DrillControl: "control", Drilled: "drilled", DrillSpared: "spared"}

// String is the side's word.
func (s DrillSide) String() string {
	if int(s) < len(drillSideText) {
		return drillSideText[s]
	}
	return "invalid"
}

// MarshalText is String.
func (s DrillSide) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *DrillSide) UnmarshalText(b []byte) error {
	*s = DrillSide(indexOf(drillSideText[:], string(b)))
	return nil
}

// Why calls are spared that would be decided about.
const (
	// SparedPanic: they would go where health does not count.
	SparedPanic = "panic"
	// SparedRamp: they would go, beyond its ramp, to what is only coming back.
	SparedRamp = "ramp"
)

// inPanic and unramped are the statuses of what is SparedPanic and SparedRamp.
const (
	inPanic  = ^Status(0)
	unramped = inPanic - 1
)

// sparedText is why the call was spared, "" if it was not.
func (d *decision) sparedText() string {
	switch {
	case d.drill != DrillSpared:
		return ""
	case d.spared == inPanic:
		return SparedPanic
	case d.spared == unramped:
		return SparedRamp
	default:
		return d.spared.String()
	}
}

// saltDrill keeps who is drilled apart from where calls go.
const saltDrill uint64 = 0x94d049bb133111eb

// drilling is the drill of a plan.
type drilling struct {
	*Drill
	down  map[catalog.ClusterName]bool
	salt  uint64
	until int64
}

// drillOf is the drill that a plan is compiled with: none where an operator's switch is
// set at the gateway, which goes before it.
func drillOf(t *Table, e *Evidence) *drilling {
	d := t.Drill
	if d == nil || e.Switches != (Switches{}) || d.Validate() != nil {
		return nil
	}
	out := &drilling{Drill: d, down: make(map[catalog.ClusterName]bool, len(d.Down)), salt: hashText(d.ID) ^ saltDrill, until: d.Until.UnixNano()}
	for _, c := range d.Down {
		out.down[c] = true
	}
	return out
}

// drilled is the layout of a port as if the places were lost; nil where it is no other.
// all are the candidates after all rules, and stay as they are.
func (c *compiler) drilled(sp *servicePlan, port catalog.Port, all []candidate) *layout {
	d := c.plan.drill
	if d == nil || !d.Covers(sp.service.Name) {
		return nil
	}
	touched := make(map[catalog.ClusterName]bool)
	rest := slices.Clone(all)
	for i := range rest {
		if d.takes(c, &rest[i]) {
			touched[rest[i].target.Cluster] = true
		}
	}
	if len(touched) == 0 {
		return nil
	}
	sumLost(rest, touched)
	l := c.layout(sp, port, "drill", rest)
	l.probes = nil // a probation is an experiment of its own
	return l
}

// takes takes from a candidate what the drill says is lost, and reports whether that is
// anything.
func (d *drilling) takes(c *compiler, cand *candidate) bool {
	if d.down[cand.target.Cluster] {
		return d.lose(cand, cand.known, cand.total, fmt.Sprintf("counts as lost in drill %s", d.ID))
	}
	for _, z := range d.Zones {
		if cand.own() {
			if !cand.quarantined && cand.locality == z {
				return d.lose(cand, cand.known, cand.total, fmt.Sprintf("zone %s counts as lost in drill %s", z.Zone, d.ID))
			}
			continue
		}
		if peer := c.plan.peers[cand.target.Cluster]; peer != nil && peer.Locality.WithZone(z.Zone) == z {
			ready, total := c.zoneRows(cand, z.Zone)
			return d.lose(cand, ready, total, fmt.Sprintf("zone %s counts as lost in drill %s", z.Zone, d.ID))
		}
	}
	return false
}

// lose takes endpoints from a candidate.
func (d *drilling) lose(cand *candidate, known, total uint32, detail string) bool {
	if known == 0 && total == 0 {
		return false
	}
	if !d.AtOnce {
		cand.total -= min(total, cand.total)
	}
	cand.known -= min(known, cand.known)
	if cand.known > 0 {
		cand.ready = min(cand.ready, cand.known)
		return true
	}
	if cand.reason == "" {
		cand.exclude(InDrill, time.Time{}, detail)
	}
	cand.ready = 0
	return true
}

// zoneRows are the endpoints that a peer's summary has in a zone, as a part of what is
// known of the candidate now.
func (c *compiler) zoneRows(cand *candidate, zone string) (ready, total uint32) {
	i, ok := slices.BinarySearchFunc(c.table.Services, cand.target.Service, func(s Service, n catalog.ServiceName) int { return s.Name.Compare(n) })
	if !ok {
		return 0, 0
	}
	var here, all struct{ ready, total uint64 }
	for _, r := range c.table.Services[i].Remote {
		if r.Cluster != cand.target.Cluster {
			continue
		}
		for _, row := range r.Rows {
			if row.Port != cand.port.Name || !c.subset.takesRow(row.Subset) {
				continue
			}
			all.ready, all.total = all.ready+uint64(row.Ready), all.total+uint64(row.Total)
			if row.Zone == zone {
				here.ready, here.total = here.ready+uint64(row.Ready), here.total+uint64(row.Total)
			}
		}
	}
	part := func(of uint32, n, sum uint64) uint32 {
		if sum == 0 {
			return 0
		}
		return uint32((uint64(of)*n + sum/2) / sum)
	}
	return part(cand.known, here.ready, all.ready), part(cand.total, here.total, all.total)
}

// sumLost brings the counts of whole clusters in line with those of their candidates.
func sumLost(all []candidate, touched map[catalog.ClusterName]bool) {
	for name := range touched {
		var ready, total uint32
		for i := range all {
			if all[i].target.Cluster == name {
				ready, total = ready+all[i].ready, total+all[i].total
			}
		}
		for i := range all {
			if all[i].target.Cluster == name {
				all[i].clusterReady, all[i].clusterTotal = ready, total
			}
		}
	}
}

// sideOf says which part a decision has in the plan's drill, by its random number: whether
// a call is drilled follows from what is recorded of it.
func (p *Plan) sideOf(d *decision, rec *Record) DrillSide {
	req := &rec.request
	switch {
	case rec.state == replaying:
		return rec.drill
	case d.port.drilled == nil || rec.local || d.status != OK:
	case req.Again || req.Tried.last != nil || req.Pin != "" || sticks(d.service.traffic, rec):
	case req.NowNanos >= p.drill.until || !p.live.drills(p.drill.ID, req.NowNanos):
	case scale(mix(req.Random^p.drill.salt), whole) < uint64(p.drill.Share):
		return Drilled
	default:
		return DrillControl
	}
	return NotDrilled
}

// drilledPart decides about a call of the drill's share, and reports whether it did; a
// call that is spared is decided about as ever, by the same draws.
func (p *Plan) drilledPart(d *decision, rec *Record, rnd draws) bool {
	rec.drill = p.sideOf(d, rec)
	if d.drill = rec.drill; rec.drill == DrillSpared {
		d.spared = rec.spared
	}
	if rec.drill != Drilled {
		return false
	}
	try, before := *d, *rec
	try.layout = d.port.drilled
	if d.subset >= 0 && !d.subsetMissed && d.service.traffic.Subsets.FallbackAny && try.layout.loaded < 0 {
		if all := d.service.port(rec.request.Port); all.drilled != nil {
			try.port, try.layout, try.subsetMissed = all, all.drilled, true
		}
	}
	try.mode = try.layout.mode
	try.free(rec, &rnd)
	d.spared = try.status
	switch {
	case try.status != OK:
	case try.mode != Normal:
		d.spared = inPanic
	case try.layout.tiers[try.tier].unramped:
		d.spared = unramped
	default:
		*d = try
		return true
	}
	*rec = before
	d.drill = DrillSpared
	rec.drill, rec.spared = d.drill, d.spared
	return false
}

// Drills names the drill that decisions take part in from now on, "" for none, and when
// that ends by the clock of who decides; the zero time leaves it to the drill's own end.
func (l *Live) Drills(id string, until time.Time) {
	if id == "" {
		l.drill.Store(nil)
		return
	}
	a := &armed{id: id, until: math.MaxInt64}
	if !until.IsZero() {
		a.until = until.UnixNano()
	}
	l.drill.Store(a)
}

// armed is a drill that decisions take part in.
type armed struct {
	id    string
	until int64
}

func (l *Live) drills(id string, nowNanos int64) bool {
	a := l.drill.Load()
	return a != nil && a.id == id && nowNanos < a.until
}

// LedgerDrill is the part of a decision in a drill.
type LedgerDrill struct {
	ID string `json:"id"`
	// Side is "drilled", "control" (the drill concerns the service and the call is not of
	// its share) or "spared" (it is, but would have gone nowhere: Spared says why).
	Side   DrillSide `json:"side"`
	Spared string    `json:"spared,omitempty"`
	// Share is of 100.
	Share float64 `json:"share_percent"`
}

func (p *Plan) ledgerDrill(d *decision) *LedgerDrill {
	if d.drill == NotDrilled {
		return nil
	}
	return &LedgerDrill{ID: p.drill.ID, Side: d.drill, Spared: d.sparedText(), Share: percent(uint64(p.drill.Share))}
}

// drillText says it in words, "" where there is nothing to say.
func (p *Plan) drillText(d *decision) string {
	switch d.drill {
	case Drilled:
		return fmt.Sprintf("drill %s routes it as if %s were lost", p.drill.ID, p.drill.places())
	case DrillSpared:
		return fmt.Sprintf("drill %s spares it: with %s lost it would have gone nowhere (%s)", p.drill.ID, p.drill.places(), d.sparedText())
	default:
		return ""
	}
}

// places names what counts as lost.
func (d *Drill) places() string {
	text := ""
	add := func(s string) {
		if text != "" {
			text += ", "
		}
		text += s
	}
	for _, c := range d.Down {
		add(string(c))
	}
	for _, z := range d.Zones {
		add(z.String())
	}
	return text
}
