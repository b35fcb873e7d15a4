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

// Budgets holds one Budget per service, so that one that fails does not use up
// the retries of the others. The zero value is empty and ready.
type Budgets struct {
	mu        sync.RWMutex
	byService map[catalog.ServiceName]*Budget
}

// Of returns the service's budget, made at first use. Callers ask for services
// of the route table only, and Prune removes the others, so the map is bounded.
func (b *Budgets) Of(service catalog.ServiceName) *Budget {
	b.mu.RLock()
	budget := b.byService[service]
	b.mu.RUnlock()
	if budget != nil {
		return budget
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if budget = b.byService[service]; budget == nil {
		if b.byService == nil {
			b.byService = make(map[catalog.ServiceName]*Budget)
		}
		budget = new(Budget)
		b.byService[service] = budget
	}
	return budget
}

// Prune forgets the budgets of services for which keep says no, and names them.
func (b *Budgets) Prune(keep func(catalog.ServiceName) bool) (gone []catalog.ServiceName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for service := range b.byService {
		if !keep(service) {
			delete(b.byService, service)
			gone = append(gone, service)
		}
	}
	return gone
}

// Has reports whether the service has a budget: it was called and is in the table.
func (b *Budgets) Has(service catalog.ServiceName) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byService[service] != nil
}

// Len is how many budgets are held.
func (b *Budgets) Len() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.byService)
}
