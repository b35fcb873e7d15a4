package fair

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/flow/codel"
)

const (
	// MaxSenders bounds the senders of a gate: a cluster's peers. Those beyond share
	// one.
	MaxSenders = 512
	// PeakDecay is the time constant by which it is forgotten what a sender had in
	// progress: long enough for a pause between two bursts.
	PeakDecay = 30 * time.Second
	// NewcomerShare is one over the part of the limit that is kept for senders that
	// have nothing yet; the own cluster may use it.
	NewcomerShare = 16
	// keepEvery is how often it is worked out anew what is kept.
	keepEvery = 100 * time.Millisecond
	// overflow is the sender that those beyond MaxSenders share; no cluster can be
	// called so.
	overflow = "*"
	// MaxHold is the longest Hold.
	MaxHold        = maxHoldSeconds * time.Second
	maxHoldSeconds = 15
)

// Reason is why a request got no slot.
type Reason uint8

// The reasons.
const (
	// Granted: it got one.
	Granted Reason = iota
	// Full: the queue is full, or there is none.
	Full
	// Late: it has waited longer than the queue may be.
	Late
	// Hopeless: its deadline cannot be met.
	Hopeless
	// Gone: its caller went away.
	Gone
)

var reasonNames = [...]string{Granted: "granted", Full: "queue_full", Late: "queue_delay", Hopeless: "deadline", Gone: "canceled"}

// String is the word of logs and metrics.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Reasons are those for which a request gets no slot.
func Reasons() []Reason { return []Reason{Full, Late, Hopeless, Gone} }

// Options are the rule of a gate.
type Options struct {
	// Limit is how many requests may be in progress.
	Limit int
	// Length is how many may wait; 0 is no queue.
	Length int
	// Delay is how long they may wait.
	Delay codel.Options
	// Hold is how long a request counts as in progress at most, in whole seconds up to
	// MaxHold; 0 is until it leaves. What takes longer takes long by nature.
	Hold time.Duration
}

// Gate is the slots of one service. It is safe for concurrent use.
type Gate struct {
	mu      sync.Mutex
	o       Options
	senders map[string]*sender
	queued  []*sender // those who wait
	used    int       // slots
	kept    int       // slots that are kept for senders that do not use them now
	open    int       // of these, kept for newcomers
	waiting int
	turn    uint64
	keptAt  int64 // when kept was worked out
	second  int64 // that age was called in, of a gate with a Hold
	pool    sync.Pool
}

// sender is who sends. It is forgotten when nothing of it is left.
type sender struct {
	name  string
	used  int
	peak  float64
	seen  int64 // when peak was true
	keep  int   // slots that are kept for it, those in use included
	turn  uint64
	first *waiter
	last  *waiter
	count int
	delay codel.State
	since [maxHoldSeconds + 2]int32 // slots in use by the second in which they were taken, of a gate with a Hold
}

// waiter is one request that waits.
type waiter struct {
	sender     *sender
	next, prev *waiter
	began      int64
	second     int64       // in which it got its slot
	answer     chan Reason // of one, so that nobody waits to answer
}

// NewGate returns a gate without anybody in it.
func NewGate(o Options) *Gate {
	g := &Gate{o: o, senders: make(map[string]*sender)}
	g.o.Delay = o.Delay.Filled()
	g.pool.New = func() any { return &waiter{answer: make(chan Reason, 1)} }
	return g
}

// Set changes the rule; what is in progress stays, what waits may enter.
func (g *Gate) Set(o Options) {
	g.mu.Lock()
	defer g.mu.Unlock()
	o.Delay = o.Delay.Filled()
	g.o = o
	g.keep(time.Now().UnixNano())
	g.admit(time.Now().UnixNano())
}

// SetLimit changes the number of slots alone.
func (g *Gate) SetLimit(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.o.Limit == n {
		return
	}
	g.o.Limit = n
	now := time.Now().UnixNano()
	g.keep(now)
	g.admit(now)
}

// Ticket is a slot. The zero value is none.
type Ticket struct {
	gate   *Gate
	sender *sender
	second int64 // in which it was taken
	// Waited is how long it took to get it, InProgress how many had one then, this
	// included.
	Waited     time.Duration
	InProgress int
}

// Enter asks for a slot for a request of the named sender, and waits for it if there is
// a queue. need is about what the request takes, so that one is refused whose ctx ends
// before now + need; 0 is not known. Leave gives a granted slot back.
func (g *Gate) Enter(ctx context.Context, name string, need time.Duration) (Ticket, Reason) {
	began := time.Now()
	now := began.UnixNano()
	g.mu.Lock()
	most := g.o.Delay.Interval
	g.age(now)
	s := g.sender(name, now)
	if s.first == nil && g.fits(s) {
		g.take(s, now)
		t := Ticket{gate: g, sender: s, second: g.second, InProgress: g.used}
		g.mu.Unlock()
		return t, Granted
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := deadline.Sub(began) - need
		if left <= 0 {
			g.forget(s)
			g.mu.Unlock()
			return Ticket{}, Hopeless
		}
		if left < most {
			return g.wait(ctx, s, now, left, Hopeless)
		}
	}
	return g.wait(ctx, s, now, most, Late)
}

// wait queues a request for at most most, and unlocks. late is what it is called when
// that is over.
func (g *Gate) wait(ctx context.Context, s *sender, now int64, most time.Duration, late Reason) (Ticket, Reason) {
	if g.waiting >= g.o.Length && !g.evict(s) {
		g.forget(s)
		g.mu.Unlock()
		return Ticket{}, Full
	}
	w := g.pool.Get().(*waiter)
	w.sender, w.began = s, now
	g.push(s, w)
	g.mu.Unlock()

	timer := time.NewTimer(most)
	defer timer.Stop()
	var reason Reason
	select {
	case reason = <-w.answer:
	case <-timer.C:
		reason = g.abandon(w, late)
	case <-ctx.Done():
		reason = Gone
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			reason = Hopeless
		}
		reason = g.abandon(w, reason)
	}
	t := Ticket{}
	if reason == Granted {
		g.mu.Lock()
		t = Ticket{gate: g, sender: s, second: w.second, Waited: time.Duration(time.Now().UnixNano() - now), InProgress: g.used}
		g.mu.Unlock()
	}
	w.sender = nil
	g.pool.Put(w)
	return t, reason
}

// abandon takes a request out of the queue for the given reason, unless it was answered
// meanwhile.
func (g *Gate) abandon(w *waiter, reason Reason) Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case answer := <-w.answer:
		return answer
	default:
	}
	s := w.sender
	g.remove(s, w)
	g.forget(s)
	return reason
}

// Leave gives the slot back, once.
func (t *Ticket) Leave() {
	if t.gate == nil {
		return
	}
	g, s, second := t.gate, t.sender, t.second
	*t = Ticket{}
	now := time.Now().UnixNano()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.age(now)
	if !g.counts(s, second) {
		return // its slot was given back long ago
	}
	s.lower(now)
	g.used--
	if s.used--; s.used < s.keep {
		g.kept++
	}
	g.admit(now)
	g.forget(s)
}

// fits reports whether the sender may have one slot more: of those kept for it, or of
// those that are kept for nobody.
func (g *Gate) fits(s *sender) bool {
	free := g.o.Limit - g.used
	switch {
	case free <= 0:
		return false
	case s.used < s.keep:
		return true
	case s.name == "" || s.used == 0:
		return free > g.kept
	default:
		return free > g.kept+g.open
	}
}

// take gives a slot to the sender.
func (g *Gate) take(s *sender, now int64) {
	if s.used < s.keep {
		g.kept--
	}
	g.used++
	s.used++
	s.lower(now)
	s.peak = max(s.peak, float64(s.used))
	g.turn++
	s.turn = g.turn
	if g.o.Hold > 0 {
		s.since[g.second%int64(len(s.since))]++
	}
}

// lower forgets a part of the peak.
func (s *sender) lower(now int64) {
	if gone := now - s.seen; gone > 0 {
		s.peak = max(float64(s.used), s.peak*math.Exp(-float64(gone)/float64(PeakDecay)))
		s.seen = now
	}
}

// keep works out what is kept for whom.
func (g *Gate) keep(now int64) {
	g.keptAt, g.kept = now, 0
	g.open = g.o.Limit / NewcomerShare
	part := (g.o.Limit - g.open) / max(1, len(g.senders))
	for name, s := range g.senders {
		s.lower(now)
		if s.keep = min(part, int(math.Ceil(s.peak*1.25))); s.used == 0 && s.count == 0 && s.peak < 0.5 {
			delete(g.senders, name)
			continue
		}
		g.kept += max(0, s.keep-s.used)
	}
}

// sender finds or makes a sender.
func (g *Gate) sender(name string, now int64) *sender {
	if now-g.keptAt >= int64(keepEvery) || now < g.keptAt {
		g.keep(now)
	}
	s := g.senders[name]
	if s == nil && len(g.senders) >= MaxSenders {
		name = overflow
		s = g.senders[name]
	}
	if s == nil {
		s = &sender{name: name, seen: now}
		g.senders[name] = s
	}
	return s
}

// forget drops a sender of which there is nothing to know.
func (g *Gate) forget(s *sender) {
	if s.used == 0 && s.count == 0 && s.peak < 0.5 && g.senders[s.name] == s {
		delete(g.senders, s.name)
	}
}

// Status is a gate at one moment.
type Status struct {
	Limit, InProgress, Waiting, Senders int
}

// Status is what is in the gate.
func (g *Gate) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Status{Limit: g.o.Limit, InProgress: g.used, Waiting: g.waiting, Senders: len(g.senders)}
}

// RetryAfter is how long a refused sender should stay away: as long as its queue is too
// long already, between the interval of the queue and ten seconds.
func (g *Gate) RetryAfter(name string) time.Duration {
	const most = 10 * time.Second
	g.mu.Lock()
	defer g.mu.Unlock()
	after := g.o.Delay.Interval
	if s := g.senders[name]; s != nil {
		after = max(after, s.delay.Since(time.Now().UnixNano()))
	}
	return min(after, most)
}
