package federation

import (
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/federation/route"
)

// historyLen is how many tables are remembered: a gateway that lags a little is
// explained by the table that it uses.
const historyLen = 4

// tableHistory holds the last tables, for explanations.
type tableHistory struct {
	mu   sync.Mutex
	last []*route.Edition // the newest last
}

func (h *tableHistory) add(t *route.Edition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = append(h.last, t)
	if over := len(h.last) - historyLen; over > 0 {
		h.last = slices.Delete(h.last, 0, over)
	}
}

func (h *tableHistory) current() *route.Edition {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.last) == 0 {
		return nil
	}
	return h.last[len(h.last)-1]
}

// at returns the table of that position, or else the newest.
func (h *tableHistory) at(epoch, version uint64) *route.Edition {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range slices.Backward(h.last) {
		if h := t.Head(); h.Epoch == epoch && h.Version == version {
			return t
		}
	}
	if len(h.last) == 0 {
		return nil
	}
	return h.last[len(h.last)-1]
}
