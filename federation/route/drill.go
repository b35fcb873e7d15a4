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

// sparing is why a call is spared: a Status, or one of those below.
type sparing uint8

const (
	inPanic  = ^sparing(0)
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
		return Status(d.spared).String()
	}
}

// saltDrill keeps who is drilled apart from where calls go.
const saltDrill uint64 = 0x94d049bb133111eb

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
	d.spared = sparing(try.status)
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
