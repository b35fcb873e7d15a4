package route

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// MaxSightings is the default bound: 16 services times 32 callers times 16 paths,
	// and about 4 MB.
	MaxSightings = 8192
	// pathsPerCaller is how many paths of one caller to one service are told apart;
	// then only their first segments are, and twice as many later nothing of them.
	pathsPerCaller = 64
	// sightingSlots divide the window; counts age by a slot at a time.
	sightingSlots = 12
)

// Sightings is a bounded table of who was seen to call what in the last window. When
// it is full, the entry goes that was not seen for longest, of the peer that has the
// most: one peer cannot push the others' out. It is safe for concurrent use.
type Sightings struct {
	window time.Duration
	most   int

	mu      sync.Mutex
	entries map[SightingKey]*list.Element
	peers   map[catalog.ClusterName]*list.List // least recent first
	paths   map[pathOwner]int
	dropped uint64
}

type pathOwner struct {
	service catalog.ServiceName
	caller  string
	peer    catalog.ClusterName
}

func (k *SightingKey) owner() pathOwner { return pathOwner{k.Service, k.Caller, k.Peer} }

// seen is one entry: what it counted in each slot of the window.
type seen struct {
	key   SightingKey
	last  time.Time
	slot  int64 // the slot of last
	count [sightingSlots]uint64
}

// NewSightings returns an empty table of at most most entries.
func NewSightings(window time.Duration, most int) *Sightings {
	return &Sightings{
		window: window, most: most, entries: make(map[SightingKey]*list.Element),
		peers: make(map[catalog.ClusterName]*list.List), paths: make(map[pathOwner]int),
	}
}

// Window is how far the table looks back.
func (t *Sightings) Window() time.Duration { return t.window }

func (t *Sightings) slotOf(at time.Time) int64 { return at.UnixNano() / int64(t.window/sightingSlots) }

// Add counts a sighting at its LastSeen. One that is out of bounds is dropped and
// counted.
func (t *Sightings) Add(s Sighting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !s.valid() {
		t.dropped += s.Count
		return
	}
	e := t.entries[s.SightingKey]
	if e == nil {
		s.SightingKey = t.fold(s.SightingKey)
		e = t.entries[s.SightingKey]
	}
	if e == nil {
		e = t.insert(s.SightingKey, s.LastSeen)
	}
	v := e.Value.(*seen)
	t.peers[s.Peer].MoveToBack(e)
	slot := t.slotOf(s.LastSeen)
	v.advance(slot)
	if v.slot-slot < sightingSlots {
		v.count[slot%sightingSlots] += s.Count
	}
	if s.LastSeen.After(v.last) {
		v.last = s.LastSeen
	}
}

// advance clears the slots between the last and now.
func (v *seen) advance(slot int64) {
	for i := max(v.slot+1, slot-sightingSlots+1); i <= slot; i++ {
		v.count[i%sightingSlots] = 0
	}
	v.slot = max(v.slot, slot)
}

// fold shortens the path of a new entry of a caller that has many.
func (t *Sightings) fold(k SightingKey) SightingKey {
	if k.Path == "" {
		return k
	}
	switch n := t.paths[k.owner()]; {
	case n >= 2*pathsPerCaller:
		k.Path, k.Prefix = "/", true
	case n >= pathsPerCaller:
		if i := strings.IndexByte(k.Path[1:], '/'); i >= 0 {
			k.Path, k.Prefix = k.Path[:i+2], true
		} else {
			k.Path, k.Prefix = "/", true
		}
	}
	return k
}

func (t *Sightings) insert(k SightingKey, at time.Time) *list.Element {
	if len(t.entries) >= t.most {
		t.evict()
	}
	l := t.peers[k.Peer]
	if l == nil {
		l = list.New()
		t.peers[k.Peer] = l
	}
	e := l.PushBack(&seen{key: k, slot: t.slotOf(at)})
	t.entries[k] = e
	if k.Path != "" {
		t.paths[k.owner()]++
	}
	return e
}

func (t *Sightings) evict() {
	var largest *list.List
	for _, l := range t.peers {
		if largest == nil || l.Len() > largest.Len() {
			largest = l
		}
	}
	e := largest.Front()
	t.dropped += e.Value.(*seen).total()
	t.remove(e)
}

func (t *Sightings) remove(e *list.Element) {
	v := e.Value.(*seen)
	delete(t.entries, v.key)
	l := t.peers[v.key.Peer]
	l.Remove(e)
	if l.Len() == 0 {
		delete(t.peers, v.key.Peer)
	}
	if v.key.Path == "" {
		return
	}
	if owner := v.key.owner(); t.paths[owner] > 1 {
		t.paths[owner]--
	} else {
		delete(t.paths, owner)
	}
}

func (v *seen) total() (n uint64) {
	for _, c := range v.count {
		n += c
	}
	return n
}

// Take removes at most most entries, those that were not seen for longest first, and
// returns them: what a gateway has to report.
func (t *Sightings) Take(most int) []Sighting {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Sighting
	for _, peer := range t.order() {
		for l := t.peers[peer]; l != nil && l.Len() > 0 && len(out) < most; {
			e := l.Front()
			v := e.Value.(*seen)
			out = append(out, Sighting{SightingKey: v.key, Count: v.total(), LastSeen: v.last})
			t.remove(e)
		}
	}
	return out
}

func (t *Sightings) order() []catalog.ClusterName {
	peers := make([]catalog.ClusterName, 0, len(t.peers))
	for p := range t.peers {
		peers = append(peers, p)
	}
	slices.Sort(peers)
	return peers
}

// Since returns what was seen in the last d, at most the window, by service, caller,
// peer, method, path and verdict. What is older than the window is forgotten.
func (t *Sightings) Since(now time.Time, d time.Duration) []Sighting {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := t.slotOf(now)
	width := t.window / sightingSlots
	oldest := slot - min(int64((d+width-1)/width), sightingSlots) + 1
	out := make([]Sighting, 0, len(t.entries))
	for _, e := range t.entries {
		v := e.Value.(*seen)
		if v.slot <= slot-sightingSlots {
			t.remove(e)
			continue
		}
		s := Sighting{SightingKey: v.key, LastSeen: v.last}
		for i := max(oldest, v.slot-sightingSlots+1); i <= v.slot; i++ {
			s.Count += v.count[i%sightingSlots]
		}
		if s.Count > 0 {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Sighting) int { return a.compare(&b.SightingKey) })
	return out
}

func (k *SightingKey) compare(o *SightingKey) int {
	return cmp.Or(k.Service.Compare(o.Service), cmp.Compare(k.Caller, o.Caller), cmp.Compare(k.Peer, o.Peer), cmp.Compare(k.Method, o.Method),
		cmp.Compare(k.Path, o.Path), cmp.Compare(truth(k.Prefix), truth(o.Prefix)), cmp.Compare(truth(k.Allowed), truth(o.Allowed)),
		cmp.Compare(k.Reason, o.Reason), cmp.Compare(k.Rule, o.Rule))
}

// Len is how many entries there are, Dropped how many calls were not kept, ever.
func (t *Sightings) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}

// Dropped is how many calls were counted in entries that had to go, or out of bounds.
func (t *Sightings) Dropped() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped
}
