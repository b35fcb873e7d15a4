package exchange

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// maxTombs bounds how many removals a list remembers; a listener that missed
	// more gets a full list.
	maxTombs = 4096
	// maxLog bounds the changes that are found without a look at every service.
	maxLog = 8192
)

// list is the services that one peer is told, or several that are told the same:
// a change costs what has changed, however many listen. It is for one goroutine
// at a time.
type list struct {
	// version counts changes; floor is the oldest that a delta can start from.
	version, floor uint64
	// source is what it was set to, by name.
	source  []*catalog.Summary
	given   sliceName // source as it was given, in any order
	entries map[catalog.ServiceName]*entry
	tombs   []tomb
	// log names what changed after logFloor, the oldest first.
	log      []tomb
	logFloor uint64
	digest   digest
	totals   totals
	memo     *said
}

// tomb is a service and the version of a change: of its removal in tombs.
type tomb struct {
	name    catalog.ServiceName
	version uint64
}

// entry is one item and the version of its last change: the list's of a service,
// the feed's of another thing. It never changes.
type entry struct {
	key     string
	source  *catalog.Summary // nil for other things than services
	value   json.RawMessage
	line    []byte // the event as it is sent, with its end of line
	hash    digest
	changed uint64
	totals  totals
}

func newList() *list { return &list{entries: make(map[catalog.ServiceName]*entry)} }

// clone is a list of the same content and versions, which goes its own way.
func (t *list) clone() *list {
	c := *t
	c.entries = maps.Clone(t.entries)
	c.tombs, c.log = slices.Clone(t.tombs), slices.Clone(t.log)
	return &c
}

// change is what set would do to a list.
type change struct {
	source  []*catalog.Summary
	puts    []*entry
	removes []catalog.ServiceName
	digest  digest
	totals  totals
	// news: a put or a removal is more than another pointer to the same value.
	news bool
}

func byService(a, b *catalog.Summary) int { return a.Service.Compare(b.Service) }

// prepare works out what makes services the content; the list stays as it is.
func (t *list) prepare(services []*catalog.Summary, l Limits) (*change, error) {
	c, inOrder, err := t.compare(services, l)
	if inOrder || err != nil {
		return c, err
	}
	services = slices.Clone(services)
	slices.SortStableFunc(services, byService)
	c, inOrder, err = t.compare(services, l)
	if err == nil && !inOrder {
		for i := 1; i < len(services); i++ {
			if services[i-1].Service == services[i].Service {
				return nil, fmt.Errorf("%s: is given twice", serviceKey(services[i].Service))
			}
		}
	}
	return c, err
}

// compare is prepare of services in order, each once, and otherwise tells that
// they are not. The content of before is: only neighbours of what is new have to
// be looked at.
func (t *list) compare(services []*catalog.Summary, l Limits) (c *change, inOrder bool, err error) {
	c = &change{source: services, digest: t.digest, totals: t.totals}
	a, b := t.source, services
	inPlace := func() bool { // b[0] among its neighbours
		i := len(services) - len(b)
		return (i == 0 || byService(services[i-1], b[0]) < 0) && (len(b) == 1 || byService(b[0], b[1]) < 0)
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(a) > 0 && len(b) > 0 && a[0] == b[0]:
			a, b = a[1:], b[1:]
		case len(b) == 0 || len(a) > 0 && byService(a[0], b[0]) < 0:
			c.drop(t.entries[a[0].Service])
			c.removes, c.news = append(c.removes, a[0].Service), true
			a = a[1:]
		case !inPlace():
			return nil, false, nil
		default:
			if len(a) > 0 && byService(a[0], b[0]) == 0 {
				a = a[1:]
			}
			if err := c.put(t.entries[b[0].Service], b[0], l); err != nil {
				return nil, true, err
			}
			b = b[1:]
		}
	}
	return c, true, nil
}

func (c *change) drop(old *entry) {
	c.digest.toggle(old.hash)
	c.totals.remove(old.totals)
}

func (c *change) put(old *entry, s *catalog.Summary, l Limits) error {
	e, err := serviceEntry(serviceKey(s.Service), s, l)
	if err != nil {
		return err
	}
	if old != nil {
		c.drop(old)
	}
	if old != nil && old.hash == e.hash {
		e.changed = old.changed
	} else {
		c.news = true
	}
	c.digest.toggle(e.hash)
	c.totals.add(e.totals)
	c.puts = append(c.puts, e)
	return nil
}

// apply does what was prepared, and reports whether that is news to listeners.
func (t *list) apply(c *change) bool {
	t.source, t.digest, t.totals = c.source, c.digest, c.totals
	if !c.news {
		for _, e := range c.puts {
			t.entries[e.source.Service] = e // the same value by another pointer
		}
		return false
	}
	t.version++
	for _, e := range c.puts {
		if e.changed == 0 {
			e.changed = t.version
			t.log = append(t.log, tomb{e.source.Service, t.version})
		}
		t.entries[e.source.Service] = e
	}
	for _, n := range c.removes {
		delete(t.entries, n)
		t.log = append(t.log, tomb{n, t.version})
		t.tombs = append(t.tombs, tomb{n, t.version})
	}
	if over := len(t.tombs) - maxTombs; over > 0 {
		t.floor = max(t.floor, t.tombs[over-1].version)
		t.tombs = slices.Delete(t.tombs, 0, over)
	}
	// Cut in blocks, so that single changes do not move the whole log each time.
	if len(t.log) > 2*maxLog {
		cut := len(t.log) - maxLog
		t.logFloor = t.log[cut-1].version
		t.log = slices.Clone(t.log[cut:])
	}
	return true
}

// said is what changed after a version, or everything.
type said struct {
	from, to uint64
	full     bool
	removes  []catalog.ServiceName
	entries  []*entry // by key
	body     []byte   // of lines
}

// maxBody bounds what is written in one piece, and kept for the next who asks: a
// change of some hundred services, and not a full list.
const maxBody = 64 << 10

// lines are those of the entries in one piece, or nil where they are too many.
func (s *said) lines() []byte {
	if s.body != nil {
		return s.body
	}
	size := 0
	for _, e := range s.entries {
		if size += len(e.line); size > maxBody {
			return nil
		}
	}
	s.body = make([]byte, 0, size)
	for _, e := range s.entries {
		s.body = append(s.body, e.line...)
	}
	return s.body
}

// since returns what changed after version from, or everything; false where the
// list does not remember. Listeners of one list mostly ask the same.
func (t *list) since(from uint64, full bool) (*said, bool) {
	if !full && from < t.floor {
		return nil, false
	}
	if m := t.memo; m != nil && m.to == t.version && m.full == full && m.from == from {
		return m, true
	}
	s := &said{from: from, to: t.version, full: full}
	switch {
	case !full && from >= t.logFloor:
		t.sinceLog(s)
	default:
		t.sinceAll(s)
	}
	slices.SortFunc(s.removes, func(a, b catalog.ServiceName) int { return cmp.Compare(a.String(), b.String()) })
	slices.SortFunc(s.entries, func(a, b *entry) int { return cmp.Compare(a.key, b.key) })
	t.memo = s
	return s, true
}

func (t *list) sinceLog(s *said) {
	seen := make(map[catalog.ServiceName]bool)
	for _, l := range slices.Backward(t.log) {
		if l.version <= s.from {
			break
		}
		if seen[l.name] {
			continue
		}
		seen[l.name] = true
		if e := t.entries[l.name]; e != nil {
			s.entries = append(s.entries, e)
		} else {
			s.removes = append(s.removes, l.name)
		}
	}
}

func (t *list) sinceAll(s *said) {
	for _, e := range t.entries {
		if s.full || e.changed > s.from {
			s.entries = append(s.entries, e)
		}
	}
	if s.full {
		return
	}
	seen := make(map[catalog.ServiceName]bool)
	for _, g := range t.tombs {
		if g.version > s.from && !seen[g.name] && t.entries[g.name] == nil {
			seen[g.name] = true
			s.removes = append(s.removes, g.name)
		}
	}
}

func serviceEntry(key string, s *catalog.Summary, l Limits) (*entry, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Service, err)
	}
	value, err := encodeSummary(s)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", s.Service, err)
	}
	if len(value) > l.Line/2 {
		return nil, exceeds(key+": bytes", len(value), l.Line/2)
	}
	t := totals{services: 1, rows: len(s.Rows), bytes: len(value)}
	for _, r := range s.Rows {
		t.endpoints += int(r.Total)
	}
	// Written once, for however many listeners: as json.Marshal writes the Event.
	const head, tail = `{"type":"` + string(Service) + `","service":`, "}\n"
	line := make([]byte, 0, len(head)+len(value)+len(tail))
	line = append(append(append(line, head...), value...), tail...)
	return &entry{key: key, source: s, value: value, line: line, hash: hashItem(key, value), totals: t}, nil
}
