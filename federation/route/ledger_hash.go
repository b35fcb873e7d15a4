package route

// LedgerHash is how a key was followed to an item.
type LedgerHash struct {
	// Keyed: the call has a key; without one its point is random.
	Keyed bool `json:"keyed"`
	// Point is where the key falls, Entry the entry of the ring or table there, of
	// Entries.
	Point   uint64 `json:"point,string"`
	Entry   int    `json:"entry"`
	Entries int    `json:"entries"`
	// Walked is how many entries were passed over; Passed the first items of those, with
	// the reason.
	Walked int          `json:"walked"`
	Passed []LedgerPass `json:"passed,omitempty"`
	// Bound is the most calls in progress that the taken item may get, of InProgress that
	// all carry; 0 is no bound. Load is what it carried.
	Bound      int64 `json:"bound,omitempty"`
	InProgress int64 `json:"in_progress"`
	Load       int64 `json:"load"`
	// Relaxed: no item on the way was fit, so that keys, or also bounds, did not count.
	Relaxed bool `json:"relaxed,omitempty"`
}

// LedgerPass is an item that a key passed over.
type LedgerPass struct {
	Name   string     `json:"name"`
	Reason PassReason `json:"reason"`
}

// PassReason says why a key passed an item over.
type PassReason string

// The reasons, in the order in which they are asked.
const (
	PassedTried   PassReason = "tried"
	PassedRamping PassReason = "not_taking_this_key" // it ramps up, starts slowly or lost endpoints
	PassedFull    PassReason = "full"                // at its bound
	PassedOut     PassReason = "out_of_service"
)

// maxPassed bounds those that a ledger names.
const maxPassed = 16

// ledgerHash says how a draw by a key went; who names the items of the table, in
// service or not.
func ledgerHash(rec *Record, w *wheel, t *turn, who func(entry int32) string) *LedgerHash {
	h := w.hash
	out := &LedgerHash{
		Keyed: rec.request.Hash != 0, Point: t.point, Entry: int(t.position), Entries: len(h.table.entries),
		Walked: int(t.hash.walked), InProgress: t.hash.total, Load: t.hash.load, Relaxed: t.hash.pass != passAll,
	}
	if h.bound > 0 && t.first >= 0 {
		out.Bound = h.capOf(t.hash.total, w.items[t.first].weight)
	}
	seen := make(map[int32]bool)
	for k := range out.Walked {
		entry := h.table.entries[(out.Entry+k)%out.Entries]
		if seen[entry] || len(out.Passed) == maxPassed {
			continue
		}
		seen[entry] = true
		out.Passed = append(out.Passed, LedgerPass{Name: who(entry), Reason: w.passReason(rec, t, h.items[entry])})
	}
	return out
}

func (w *wheel) triedItem(i int, tried *Tried) bool {
	it := &w.items[i]
	if it.inner == nil {
		return tried.has(it.cluster, it.endpoint)
	}
	for x := tried.last; x != nil; x = x.before {
		if x.cluster == it.cluster {
			return true
		}
	}
	return false
}

// passReason works out why an item was passed over: what is left is that it was full.
func (w *wheel) passReason(rec *Record, t *turn, i int32) PassReason {
	switch {
	case i < 0:
		return PassedOut
	case !w.hash.takes(int(i), t.point, w, rec.request.NowNanos):
		return PassedRamping
	case w.triedItem(int(i), &rec.request.Tried):
		return PassedTried
	default:
		return PassedFull
	}
}
