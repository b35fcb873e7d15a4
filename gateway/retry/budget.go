package retry

import (
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

// The budget of a service (design section 6): retries in any Window are at most
// Ratio of the calls in it plus Floor, so upstream attempts are at most
// 1.2 x calls + 3.
const (
	Ratio  = 0.2
	Floor  = 3
	Window = 10 * time.Second
)

// callSlots is how finely the window slides: calls earn tokens for nine whole slots
// and the running one, which is Window at most. retrySlots is one more, so that
// retries count for Window at least: what is granted never passes the ratio of the
// ten seconds before it, wherever in a slot they begin.
const (
	callSlots  = 10
	retrySlots = callSlots + 1
)

const slotLength = int64(Window / callSlots)

// Budget is a token bucket whose tokens come from calls and live for Window. It
// is safe for concurrent use.
type Budget struct {
	mu    sync.Mutex
	slots [retrySlots]slot
}

type slot struct {
	number         int64 // Unix time divided by slotLength
	calls, retries int64
}

func (b *Budget) slot(now time.Time) *slot {
	n := now.UnixNano() / slotLength
	s := &b.slots[n%retrySlots]
	if s.number != n {
		*s = slot{number: n}
	}
	return s
}

// Call counts one call (not its retries).
func (b *Budget) Call(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slot(now).calls++
}

// Take asks for one retry, and counts it if it is granted.
func (b *Budget) Take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	current := b.slot(now)
	if b.left(now) < 1 {
		return false
	}
	current.retries++
	return true
}

// Left is how many retries would be granted now.
func (b *Budget) Left(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left(now)
}

func (b *Budget) left(now time.Time) float64 {
	newest := now.UnixNano() / slotLength
	var calls, retries int64
	for i := range b.slots {
		s := &b.slots[i]
		if age := newest - s.number; age >= 0 && age < retrySlots {
			retries += s.retries
			if age < callSlots {
				calls += s.calls
			}
		}
	}
	return Ratio*float64(calls) + Floor - float64(retries)
}

// idle reports whether nothing of the last Window is in it: a new one is as good.
func (b *Budget) idle(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	newest := now.UnixNano() / slotLength
	for i := range b.slots {
		s := &b.slots[i]
		if age := newest - s.number; age >= 0 && age < retrySlots && s.calls+s.retries > 0 {
			return false
		}
	}
	return true
}

// Budgets holds one Budget per service, so that one that fails does not use up
// the retries of the others. The zero value is empty and ready.
type Budgets struct {
	mu        sync.RWMutex
	byService map[catalog.ServiceName]*entry
}

// entry is a service's budget. A service that left the table keeps it for Window: one
// that comes and goes would have its Floor anew each time, and lose what it has earned.
type entry struct {
	budget Budget
	left   bool
}

// Of returns the service's budget, made at first use. Callers ask for services
// of the route table only, and Prune removes the others, so the map is bounded.
func (b *Budgets) Of(service catalog.ServiceName) *Budget {
	b.mu.RLock()
	e := b.byService[service]
	is := e != nil && !e.left
	b.mu.RUnlock()
	if is {
		return &e.budget
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if e = b.byService[service]; e == nil {
		if b.byService == nil {
			b.byService = make(map[catalog.ServiceName]*entry)
		}
		e = new(entry)
		b.byService[service] = e
	}
	e.left = false
	return &e.budget
}

// Prune takes note of the services that have left, those for which keep says no, and
// names them; of those that left before it forgets the budgets that are idle.
func (b *Budgets) Prune(keep func(catalog.ServiceName) bool, now time.Time) (gone []catalog.ServiceName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for service, e := range b.byService {
		if keep(service) {
			continue
		}
		if !e.left {
			e.left = true
			gone = append(gone, service)
		}
		if e.budget.idle(now) {
			delete(b.byService, service)
		}
	}
	return gone
}

// Has reports whether the service was called and is in the table.
func (b *Budgets) Has(service catalog.ServiceName) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e := b.byService[service]
	return e != nil && !e.left
}

// Len is how many budgets are held.
func (b *Budgets) Len() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.byService)
}
