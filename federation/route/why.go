package route

import (
	"fmt"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// why says a decision in a sentence.
func (p *Plan) why(rec *Record, d *decision) string {
	req := &rec.request
	what := req.Service.String()
	if d.port != nil {
		what += " port " + d.port.port.Name
	}
	if d.subset >= 0 {
		what += " subset " + d.service.subsets[d.subset].name
		if d.subsetMissed {
			what += ", which is nowhere in service and for which the whole stands in,"
		}
	}
	switch d.status {
	case OK:
	case UnknownService:
		return fmt.Sprintf("%s is neither hosted by %s nor imported from a peer", orNothing(what), p.table.Cluster.Name)
	case UnknownPort:
		return fmt.Sprintf("%s has no port %q (it has %s)", what, req.Port, portNames(d.service.ports))
	case NotExported:
		return fmt.Sprintf("%s is exported to nobody", what)
	case Exhausted:
		return fmt.Sprintf("%s: all that could take the call was tried (%d attempts)", what, req.Tried.Len())
	case FailClosed:
		return fmt.Sprintf("%s: tier %d is below its panic threshold of %d %%, and traffic policy %q refuses then",
			what, d.drawn, *d.service.traffic.PanicThreshold, d.service.traffic.Name)
	case ResidencyHeld:
		return fmt.Sprintf("%s: %s, and traffic policy %q lets no call leave the places that it names", what, nothingFits(rec, d), d.service.traffic.Name)
	case Shed:
		return fmt.Sprintf("%s: no cluster has room for a call of priority %s, so it is shed here (see the exclusions)",
			what, rec.request.Priority)
	case NoCandidate:
		return fmt.Sprintf("%s: %s", what, nothingFits(rec, d))
	}
	c := &d.layout.candidates[d.candidate]
	var b strings.Builder
	fmt.Fprintf(&b, "%s goes to %s", what, describe(c))
	if d.member >= 0 {
		fmt.Fprintf(&b, ", endpoint %s", c.endpoints.members[d.member].endpoint.ID)
	}
	b.WriteString(": ")
	b.WriteString(p.tierReason(rec, d))
	if text := turnReason(d); text != "" {
		b.WriteString("; ")
		b.WriteString(text)
	}
	if text := p.drillText(d); text != "" {
		b.WriteString("; ")
		b.WriteString(text)
	}
	return b.String()
}

func orNothing(s string) string {
	if s == "" {
		return "the service"
	}
	return s
}

func nothingFits(rec *Record, d *decision) string {
	switch {
	case len(d.layout.candidates) == 0:
		return "no cluster offers it here"
	case rec.request.Pin != "":
		return fmt.Sprintf("the request is pinned to %s, where nothing can take it", rec.request.Pin)
	}
	return "no candidate can take it (see the exclusions)"
}

func (p *Plan) tierReason(rec *Record, d *decision) string {
	t := &d.layout.tiers[d.tier]
	name := tierText(&d.layout.candidates[t.first], d.service.traffic)
	state := fmt.Sprintf("tier %d (%s) has %d of %d endpoints ready", d.tier, name, t.level.ready, t.level.total)
	switch {
	case rec.request.Pin != "":
		return "the request is pinned to it"
	case d.mode == Probation:
		return "it was ejected and this is the one request that tests it"
	case d.mode == SuspectSelf:
		return "every link is down at once, so the fault is probably here (suspect_self); the last known weights are kept"
	case d.tier != d.drawn && rec.met:
		return fmt.Sprintf("tier %d was drawn, but has no slot for a call of priority %s; %s", d.drawn, rec.request.Priority, state)
	case d.tier != d.drawn:
		return fmt.Sprintf("tier %d was drawn, but this request tried all that it has; %s", d.drawn, state)
	case t.panic:
		return fmt.Sprintf("%s, below the panic threshold, and the other tiers cannot stand in: health is ignored", state)
	case t.unramped:
		return state + "; its ramp is ignored, there is nowhere else to go"
	case t.load == whole && d.tier == 0:
		return state + " and takes all calls"
	case t.load == whole:
		return fmt.Sprintf("%s and takes all calls, since no nearer tier can", state)
	default:
		return fmt.Sprintf("%s and takes %.1f %% of calls", state, percent(t.load))
	}
}

// turnReason says how the candidate, or where there was but one the endpoint,
// was drawn.
func turnReason(d *decision) string {
	if d.tier < 0 || d.mode == Probation {
		return ""
	}
	c := &d.layout.candidates[d.candidate]
	if w := d.layout.tiers[d.tier].wheel; len(w.items) > 1 && d.outer.first >= 0 {
		if text := compared(w, &d.outer, func(it *item) string { return string(it.cluster) }); text != "" {
			return text
		}
		return fmt.Sprintf("drawn by %s among %d clusters", w.algorithm, len(w.items))
	}
	if d.member < 0 || d.inner.first < 0 {
		return ""
	}
	w := innerOf(d, c)
	if text := compared(w, &d.inner, func(it *item) string { return it.endpoint }); text != "" {
		return text
	}
	if len(w.items) == 1 {
		return "its only endpoint"
	}
	return fmt.Sprintf("drawn by %s among %d endpoints", w.algorithm, len(w.items))
}

func compared(w *wheel, t *turn, name func(*item) string) string {
	if t.second < 0 {
		return ""
	}
	a, b, costA, costB := t.first, t.second, t.costA, t.costB
	if costB < costA {
		a, b, costA, costB = b, a, costB, costA
	}
	if w.algorithm == "least_request" {
		return fmt.Sprintf("of two draws, %s carries less (%.2f calls per lane) than %s (%.2f)",
			name(&w.items[a]), costA-1, name(&w.items[b]), costB-1)
	}
	of := "two draws"
	if t.others > 0 {
		of = fmt.Sprintf("%d", t.others+2)
	}
	return fmt.Sprintf("of "+of+", %s is predicted to answer in %s and %s in %s%s",
		name(&w.items[a]), short(costA), name(&w.items[b]), short(costB), priceText(w))
}

// priceText says that costs hold what prices are worth.
func priceText(w *wheel) string {
	for i := range w.items {
		if t := &w.items[i].terms; t.priceOut > 0 || t.priceIn > 0 {
			return ", with what the price of its bytes is worth"
		}
	}
	return ""
}

func short(nanos float64) string {
	d := time.Duration(nanos)
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	default:
		return d.Round(time.Microsecond).String()
	}
}

func describe(c *candidate) string {
	s := string(c.target.Cluster)
	if c.own() && c.zone != "" {
		s += " zone " + c.zone
	}
	if c.name != c.target.Service {
		s += " (there called " + c.name.String() + ")"
	}
	return s
}

func portNames(ports []portPlan) string {
	names := make([]string, len(ports))
	for i := range ports {
		names[i] = ports[i].port.Name
	}
	return strings.Join(names, ", ")
}

// otherwise names the best candidate that was not chosen, and what would make
// it the choice.
func (p *Plan) otherwise(rec *Record, d *decision) string {
	if d.layout == nil {
		return ""
	}
	for i := range d.layout.candidates {
		c := &d.layout.candidates[i]
		if i == d.candidate || c.reason == Withdrawn {
			continue
		}
		if rec.request.Pin != "" && c.target.Cluster != rec.request.Pin {
			continue
		}
		return fmt.Sprintf("%s would be chosen if %s", describe(c), p.condition(rec, d, i))
	}
	if !rec.local && len(d.port.ruled) > 0 {
		x := d.port.ruled[0]
		return fmt.Sprintf("%s would be a candidate if %s", x.cluster, ruleCondition(x.reason, x.cluster))
	}
	return ""
}

func (p *Plan) condition(rec *Record, d *decision, i int) string {
	c := &d.layout.candidates[i]
	t := &d.layout.tiers[c.tier]
	switch r := excludedBy(rec, i, c); {
	case r == AlreadyTried:
		return "this request had not tried it already"
	case r == AtCapacity:
		return "a slot of it were free: " + c.gate.text(rec.request.Priority)
	case c.reason != "" && d.mode != SuspectSelf:
		return healthCondition(c)
	case d.tier == c.tier && d.outer.second >= 0:
		return lostCondition(d, t.wheel, i)
	case d.tier == c.tier:
		return fmt.Sprintf("the draw inside tier %d fell on it", c.tier)
	case t.load > 0:
		return fmt.Sprintf("the draw fell on tier %d, which takes %.1f %% of calls", c.tier, percent(t.load))
	case t.refuse:
		return "its tier rose above the panic threshold"
	default:
		return fmt.Sprintf("less than 71.4 %% of the endpoints of the tiers before its own (tier %d) were ready", c.tier)
	}
}

func lostCondition(d *decision, w *wheel, i int) string {
	won, lost, least, most := d.outer.first, d.outer.second, d.outer.costA, d.outer.costB
	if most < least {
		won, lost, least, most = lost, won, most, least
	}
	switch {
	case int(w.items[lost].index) != i:
		return "it were one of the two drawn, and the better one"
	case least == most:
		return fmt.Sprintf("it cost less than %s (they are equal, and the first draw stays)", w.items[won].cluster)
	default:
		return fmt.Sprintf("its predicted answer of %s were below %s%s", short(most), short(least), priceText(w))
	}
}

func healthCondition(c *candidate) string {
	switch c.reason {
	case LinkDown, ControlLostDataDead:
		return "a link to it came up"
	case LinkDraining:
		return "a gateway of it took new calls (all that answer are draining)"
	case Ejected:
		return fmt.Sprintf("its ejection were over (until %s)", c.until.UTC().Format(time.RFC3339))
	case OnProbation:
		return "its probation request succeeded"
	case NoReadyEndpoints:
		if c.own() {
			return fmt.Sprintf("one of its %d endpoints there became ready (%s)", c.total, reasonsOf(c.endpoints))
		}
		return fmt.Sprintf("one of its %d endpoints became ready", c.total)
	case InDrill:
		return "the drill did not count it as lost"
	default:
		return "it were in service (" + string(c.reason) + ")"
	}
}

// reasonsOf counts why the endpoints of a zone are out.
func reasonsOf(s *endpointSet) string {
	var parts []string
	for _, r := range []Reason{Unhealthy, Ejected, OnProbation, SourceCritical, SourceMaintenance} {
		n := 0
		for i := range s.members {
			if s.members[i].reason == r {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, r))
		}
	}
	return strings.Join(parts, ", ")
}

func ruleCondition(r Reason, c catalog.ClusterName) string {
	switch r {
	case SubsetMissing:
		return "its export published endpoints of that subset"
	case PortMissing:
		return "it had that port"
	case PolicyPin:
		return "the traffic policy did not pin the service elsewhere"
	case PolicyWeightZero:
		return "its weight were above 0"
	case LocalPin:
		return "the gateway's switch did not pin calls elsewhere"
	case LocalFailoverOff:
		return "the gateway's switch did not turn failover off"
	case PolicyFailoverOff:
		return "failover were not disabled"
	case PolicyResidency:
		return "the traffic policy's residency allowed its place"
	default:
		return fmt.Sprintf("the traffic policy listed %s", c)
	}
}
