package route

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// hashTable gives each point an order of entries. It is made of who belongs to a tier
// or a zone at all, in health or not: the sick are passed over, so that nobody else's
// keys move. It is immutable and shared by plans.
type hashTable struct {
	// entries are indexes of those who belong.
	entries []int32
	// points are where the entries of a ring begin, ascending; nil of maglev.
	points []uint64
	// starts are, by the first bits of a point, where to look for it from; shift takes
	// the others off.
	starts []int32
	shift  int
	gen    uint64 // of Live: when it was used last; its lock is held
}

// at is the entry that a point falls on.
func (t *hashTable) at(point uint64) int {
	if t.points == nil {
		return int(scale(point, uint64(len(t.entries))))
	}
	i := int(t.starts[point>>t.shift])
	for ; i < len(t.points); i++ { // one step on average
		if t.points[i] >= point {
			return i
		}
	}
	return 0
}

// index fills starts.
func (t *hashTable) index() {
	width := bits.Len(uint(len(t.points)))
	t.shift = 64 - width
	t.starts = make([]int32, 1<<width)
	at := 0
	for b := range t.starts {
		for at < len(t.points) && t.points[at]>>t.shift < uint64(b) {
			at++
		}
		t.starts[b] = int32(at)
	}
}

// belonging is one who belongs to a table.
type belonging struct {
	name   string
	weight uint64
	// part of its keys that it takes now, in units of 1/whole; 0 for what its item weighs
	// of weight.
	part uint64
}

// tableKey names what a table is made of.
type tableKey [sha256.Size]byte

func keyOfTable(h *policy.Hashing, a policy.Algorithm, who []belonging) tableKey {
	b := make([]byte, 0, 32*len(who)+32)
	b = append(b, a...)
	b = binary.AppendUvarint(b, uint64(h.MinRingSize))
	b = binary.AppendUvarint(b, uint64(h.MaxRingSize))
	b = binary.AppendUvarint(b, uint64(h.TableSize))
	for _, w := range who {
		b = binary.AppendUvarint(b, uint64(len(w.name)))
		b = append(b, w.name...)
		b = binary.AppendUvarint(b, w.weight)
	}
	return sha256.Sum256(b)
}

// hashTable returns the table of those who belong, made once for all plans.
func (c *compiler) hashTable(t *policy.Traffic, who []belonging) *hashTable {
	key := keyOfTable(t.Hashing, t.Algorithm, who)
	table := c.live.hashes[key]
	if table == nil {
		if t.Algorithm == policy.RingHash {
			table = newRing(who, int(t.Hashing.MinRingSize), int(t.Hashing.MaxRingSize))
		} else {
			table = newMaglev(who, int(t.Hashing.TableSize))
		}
		c.live.hashes[key] = table
	}
	table.gen = c.live.gen
	c.tables = append(c.tables, table)
	return table
}

// newRing is Ketama's ring: everybody has entries in proportion to weight, where the
// hashes of NAME and a number fall. The lightest has a power of two of them, so that
// together they are least or more and at most most: but for the steps between powers,
// who comes or goes leaves everybody else's entries alone. (Envoy fills the ring to its
// least size instead, and so moves others' keys with each host.)
func newRing(who []belonging, least, most int) *hashTable {
	var sum uint64
	lightest := uint64(math.MaxUint64)
	for _, w := range who {
		sum += w.weight
		lightest = min(lightest, w.weight)
	}
	units := float64(sum) / float64(lightest)
	each := math.Exp2(math.Ceil(math.Log2(float64(least) / units)))
	if each = max(each, 1); each*units > float64(most) {
		each = math.Exp2(math.Floor(math.Log2(float64(most) / units)))
	}
	type entry struct {
		point uint64
		who   int32
	}
	entries := make([]entry, 0, int(each*units)+len(who))
	for i, w := range who {
		base := mix(hashText(w.name))
		n := max(uint64(each*float64(w.weight)/float64(lightest)+0.5), 1)
		for k := range n {
			entries = append(entries, entry{mix(base + k*saltTier), int32(i)})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Or(cmp.Compare(a.point, b.point), cmp.Compare(a.who, b.who)) })
	t := &hashTable{entries: make([]int32, len(entries)), points: make([]uint64, len(entries))}
	for i, e := range entries {
		t.entries[i], t.points[i] = e.who, e.point
	}
	t.index()
	return t
}

// maglevSizes are the primes of tables without a size of their own: at least 128 entries
// for each who belongs, so that shares are within about 1 %, in few steps, since a step
// moves nearly every key.
var maglevSizes = [...]struct{ most, size int }{{16, 2039}, {128, 16381}}

// newMaglev is the table of Eisenbud et al., "Maglev: A Fast and Reliable Software
// Network Load Balancer" (NSDI 2016), section 3.4: everybody in turn takes the next free
// entry of a permutation of its own; who weighs less passes turns, as in Envoy.
func newMaglev(who []belonging, size int) *hashTable {
	if size == 0 {
		size = int(policy.DefaultTableSize)
		for _, s := range maglevSizes {
			if len(who) <= s.most {
				size = s.size
				break
			}
		}
	}
	m := uint64(size)
	var heaviest uint64
	for _, w := range who {
		heaviest = max(heaviest, w.weight)
	}
	type state struct {
		at, step uint64
		turn     float64 // when it takes its next entry
		pace     float64
	}
	states := make([]state, len(who))
	for i, w := range who {
		h := hashText(w.name)
		states[i] = state{at: mix(h) % m, step: mix(h^saltEndpoint)%(m-1) + 1, pace: float64(heaviest) / float64(max(w.weight, 1))}
	}
	entries := make([]int32, size)
	for i := range entries {
		entries[i] = -1
	}
	for filled, turn := 0, 0.0; filled < size; turn++ {
		for i := range states {
			s := &states[i]
			if s.turn > turn {
				continue
			}
			s.turn += s.pace
			for entries[s.at] >= 0 {
				if s.at += s.step; s.at >= m {
					s.at -= m
				}
			}
			entries[s.at] = int32(i)
			if filled++; filled == size {
				break
			}
		}
	}
	return &hashTable{entries: entries}
}
