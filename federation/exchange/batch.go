package exchange

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"time"
	"unicode"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/merge"
)

// batch gathers the events from begin to sync.
type batch struct {
	cluster catalog.ClusterName
	labels  map[string]string
	to      Position
	delta   bool
	began   time.Time

	lines   int
	singles int // puts of other things than services
	totals  totals
	puts    map[string]item
	removes map[string]bool

	gateways  []catalog.Gateway
	bundle    json.RawMessage
	conflicts []merge.Conflict
}

// put enters a value; within a batch each thing is said once.
func (b *batch) put(key string, it item, l Limits) error {
	if _, twice := b.puts[key]; twice || b.removes[key] {
		return refuse(ReasonProtocol, "%.200s: is in one batch twice", key)
	}
	it.hash = hashItem(key, it.raw.value)
	it.bytes = uint32(len(it.raw.value))
	b.totals.add(it.totals())
	if err := b.totals.check(l); err != nil {
		return err
	}
	if it.summary != nil {
		// Mostly it was written by the same code: then it can be written again.
		if again, err := encodeSummary(it.summary); err == nil && bytes.Equal(again, it.raw.value) {
			it.raw = nil
		}
	}
	if it.name().IsZero() {
		b.singles++
	}
	b.puts[key] = it
	return nil
}

// parseService reads the value of a service event, and counts it; s is what it says
// where that is known.
func parseService(value json.RawMessage, s *catalog.Summary, share *texts) (key string, it item, err error) {
	if s == nil {
		s = new(catalog.Summary)
		if err := json.Unmarshal(value, s); err != nil {
			return "", item{}, &RefusedError{Reason: ReasonInvalid, What: "service", Err: err}
		}
	}
	leftOut := leaveOutUnknown(s)
	it = item{raw: &raw{name: s.Service, value: value}, summary: s, rows: uint32(len(s.Rows))}
	if leftOut && len(s.Ports) == 0 && !s.Service.IsZero() && !s.Service.IsFederation() {
		it.summary = nil // a newer version's service, of which this one understands nothing
		return serviceKey(s.Service), it, nil
	}
	if err := s.Validate(); err != nil {
		return "", item{}, &RefusedError{Reason: ReasonInvalid, What: "service " + s.Service.String(), Err: err}
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		p.Name, p.Protocol = share.text(p.Name), catalog.Protocol(share.text(string(p.Protocol)))
	}
	s.Ports = share.ports(s.Ports)
	for i := range s.Rows {
		r := &s.Rows[i]
		r.Port, r.Zone, r.Subset = share.text(r.Port), share.text(r.Zone), share.text(r.Subset)
		it.endpoints += int(r.Total)
	}
	return serviceKey(s.Service), it, nil
}

// leaveOutUnknown removes the ports of protocols that this version does not
// know, and their rows; it reports whether there were any.
func leaveOutUnknown(s *catalog.Summary) bool {
	unknown := func(p catalog.Port) bool { return !p.Protocol.Valid() }
	if !slices.ContainsFunc(s.Ports, unknown) {
		return false
	}
	s.Rows = slices.DeleteFunc(s.Rows, func(r catalog.SummaryRow) bool {
		return slices.ContainsFunc(s.Ports, func(p catalog.Port) bool { return p.Name == r.Port && unknown(p) })
	})
	s.Ports = slices.DeleteFunc(s.Ports, unknown)
	return true
}

// parseConflicts reads what is shown to operators; entries that are no honest
// text are left out, since nothing depends on them.
func parseConflicts(value json.RawMessage, l Limits) ([]merge.Conflict, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(value, &raw); err != nil {
		return nil, &RefusedError{Reason: ReasonInvalid, What: "conflicts", Err: err}
	}
	if len(raw) > l.Conflicts {
		return nil, exceeds("conflicts", len(raw), l.Conflicts)
	}
	out := make([]merge.Conflict, 0, len(raw))
	for _, r := range raw {
		var c merge.Conflict
		if json.Unmarshal(r, &c) == nil && isPlain(c) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b merge.Conflict) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Field, b.Field))
	})
	return out, nil
}

func isPlain(c merge.Conflict) bool {
	texts := []string{c.Field, string(c.Why), c.Winner.Source, c.Winner.Value}
	for _, s := range c.Losers {
		texts = append(texts, s.Source, s.Value)
	}
	return !slices.ContainsFunc(texts, func(s string) bool {
		const longest = 256
		return len(s) > longest || slices.ContainsFunc([]rune(s), func(r rune) bool { return !unicode.IsPrint(r) })
	})
}

// texts keeps one copy of each of the short texts that rows repeat, and of the
// lists of ports.
type texts struct {
	known map[string]string
	lists map[catalog.Port][]catalog.Port // of one port, which most are
}

// maxShared bounds them; what comes beyond has memory of its own.
const maxShared = 4096

func (t *texts) text(s string) string {
	if have, ok := t.known[s]; ok {
		return have
	}
	if t.known == nil {
		t.known = make(map[string]string)
	}
	if len(t.known) < maxShared {
		t.known[s] = s
	}
	return s
}

// ports is the list, or the one that said the same before.
func (t *texts) ports(list []catalog.Port) []catalog.Port {
	if len(list) != 1 {
		return list
	}
	if have := t.lists[list[0]]; have != nil {
		return have
	}
	if t.lists == nil {
		t.lists = make(map[catalog.Port][]catalog.Port)
	}
	if len(t.lists) < maxShared {
		t.lists[list[0]] = slices.Clip(list)
	}
	return list
}
