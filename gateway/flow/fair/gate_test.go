package fair_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/gateway/flow/codel"
	"github.com/isthmus-mesh/isthmus/gateway/flow/fair"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// load is one sender's requests: rate a second, each holding its slot for takes.
type load struct {
	name    string
	rate    float64
	takes   time.Duration
	timeout time.Duration // of its callers; 0 is none

	offered, served atomic.Int64
	mu              sync.Mutex
	waits           []time.Duration
	refused         map[fair.Reason]int
}

// offer sends the requests of all loads for length, and waits for them.
func offer(g *fair.Gate, length time.Duration, seed uint64, loads ...*load) {
	var wg sync.WaitGroup
	for i, l := range loads {
		l.refused = make(map[fair.Reason]int)
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for end := time.Now().Add(length); ; {
				time.Sleep(time.Duration(random.ExpFloat64() / l.rate * float64(time.Second)))
				if !time.Now().Before(end) {
					return
				}
				wg.Go(func() { l.one(g) })
			}
		})
	}
	wg.Wait()
}

func (l *load) one(g *fair.Gate) {
	ctx := context.Background()
	if l.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.timeout)
		defer cancel()
	}
	l.offered.Add(1)
	t, reason := g.Enter(ctx, l.name, 0)
	l.mu.Lock()
	if l.refused[reason]++; reason == fair.Granted {
		l.waits = append(l.waits, t.Waited)
	}
	l.mu.Unlock()
	if reason != fair.Granted {
		return
	}
	time.Sleep(l.takes)
	t.Leave()
	l.served.Add(1)
}

func (l *load) goodput() float64 { return float64(l.served.Load()) / float64(max(1, l.offered.Load())) }

// p99 is of the waits once the queue has been recognized as one that stands.
func (l *load) p99() time.Duration {
	settled := slices.Clone(l.waits[len(l.waits)/20:])
	slices.Sort(settled)
	return settled[len(settled)*99/100]
}

// TestOneHostileSenderCostsTheOthersLittle: what a sender does, whatever it is, the
// others keep at least nine tenths of what they got without it.
func TestOneHostileSenderCostsTheOthersLittle(t *testing.T) {
	for _, hostile := range []struct {
		what  string
		rate  float64
		takes time.Duration
	}{
		{"a flood", 20_000, 10 * time.Millisecond},
		{"requests that take long", 2000, 5 * time.Second},
		{"requests that hang", 500, time.Hour},
	} {
		t.Run(hostile.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run := func(with bool) (goodput []float64, p99 time.Duration) {
					g := fair.NewGate(fair.Options{Limit: 100, Length: 200})
					loads := []*load{
						{name: "alpha", rate: 1000, takes: 20 * time.Millisecond},
						{name: "beta", rate: 400, takes: 50 * time.Millisecond},
						{name: "", rate: 1000, takes: 20 * time.Millisecond},
					}
					warm := []*load{{name: "alpha", rate: 1000, takes: 20 * time.Millisecond}, {name: "beta", rate: 400, takes: 50 * time.Millisecond}, {name: "", rate: 1000, takes: 20 * time.Millisecond}}
					offer(g, 2*time.Second, 7, warm...)
					all := loads
					if with {
						all = append(slices.Clone(loads), &load{name: "hostile", rate: hostile.rate, takes: hostile.takes})
					}
					offer(g, 10*time.Second, 8, all...)
					for _, l := range loads {
						goodput, p99 = append(goodput, l.goodput()), max(p99, l.p99())
					}
					return goodput, p99
				}
				alone, _ := run(false)
				beside, p99 := run(true)
				for i := range alone {
					if beside[i] < 0.9*alone[i] {
						t.Errorf("sender %d: goodput %.3f beside %s, %.3f without", i, beside[i], hostile.what, alone[i])
					}
				}
				t.Logf("figure: beside %s at %.0f/s: goodput of the others %.3f, without %.3f, their wait p99 %v", hostile.what, hostile.rate, beside, alone, p99)
			})
		})
	}
}

// TestSlotsAreSharedNotTurns: of two senders that both want all, the one whose requests
// take ten times as long gets no more slots.
func TestSlotsAreSharedNotTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.NewGate(fair.Options{Limit: 40, Length: 400})
		slow, quick := &load{name: "slow", rate: 1000, takes: 200 * time.Millisecond}, &load{name: "quick", rate: 4000, takes: 20 * time.Millisecond}
		offer(g, 20*time.Second, 1, slow, quick)
		slots := func(l *load) float64 { return float64(l.served.Load()) * l.takes.Seconds() / 20 }
		t.Logf("figure: two senders that both want 40 slots: %.1f and %.1f", slots(slow), slots(quick))
		if slots(slow) < 16 || slots(quick) < 16 {
			t.Errorf("slots %.1f and %.1f of 40", slots(slow), slots(quick))
		}
	})
}

// TestHoldsTheWait: twice what can be served, and five times: who is served has waited
// about the target at most, and what can be served is.
func TestHoldsTheWait(t *testing.T) {
	for _, times := range []float64{2, 5} {
		synctest.Test(t, func(t *testing.T) {
			delay := codel.Options{}.Filled()
			g := fair.NewGate(fair.Options{Limit: 20, Length: 1000, Delay: delay})
			l := &load{name: "alpha", rate: times * 20 / 0.02, takes: 20 * time.Millisecond}
			offer(g, 10*time.Second, 2, l)
			capacity := 19.0 / 0.02 * 10 // a slot is kept for newcomers
			t.Logf("figure: %.0f times what can be served: goodput %.3f of it, wait p99 %v, target %v", times, float64(l.served.Load())/capacity, l.p99(), delay.Target)
			if float64(l.served.Load()) < 0.95*capacity {
				t.Errorf("served %d of %.0f", l.served.Load(), capacity)
			}
			if l.p99() > delay.Target+5*time.Millisecond {
				t.Errorf("p99 of the wait is %v", l.p99())
			}
		})
	}
}

// TestDeadlines: who cannot be answered in time is told at once, and nobody waits beyond
// a deadline.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.NewGate(fair.Options{Limit: 1, Length: 10})
		held, _ := g.Enter(t.Context(), "alpha", 0)
		for _, c := range []struct {
			left, need, told time.Duration
			reason           fair.Reason
		}{
			{40 * time.Millisecond, 50 * time.Millisecond, 0, fair.Hopeless},
			{40 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, fair.Hopeless},
			{time.Second, 10 * time.Millisecond, codel.DefaultInterval, fair.Late},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), c.left)
			began := time.Now()
			_, reason := g.Enter(ctx, "beta", c.need)
			if told := time.Since(began); reason != c.reason || told != c.told {
				t.Errorf("left %v, need %v: %s after %v, want %s after %v", c.left, c.need, reason, told, c.reason, c.told)
			}
			cancel()
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Millisecond, cancel)
		if _, reason := g.Enter(ctx, "beta", 0); reason != fair.Gone {
			t.Errorf("a caller that went away: %s", reason)
		}
		held.Leave()
		if s := g.Status(); s.InProgress != 0 || s.Waiting != 0 {
			t.Errorf("left behind: %+v", s)
		}
		if _, reason := fair.NewGate(fair.Options{}).Enter(t.Context(), "beta", 0); reason != fair.Full {
			t.Errorf("no slot and no queue: %s", reason)
		}
	})
}

// TestTheLongestQueueGivesWay: a full queue of one sender does not keep another out.
func TestTheLongestQueueGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.NewGate(fair.Options{Limit: 1, Length: 4})
		held, _ := g.Enter(t.Context(), "hostile", 0)
		answers := make(chan string, 8)
		enter := func(name string) {
			go func() {
				ticket, reason := g.Enter(t.Context(), name, 0)
				answers <- fmt.Sprint(name, " ", reason)
				ticket.Leave()
			}()
			synctest.Wait()
		}
		for range 4 {
			enter("hostile")
		}
		enter("alpha")
		if got := <-answers; got != "hostile queue_full" {
			t.Errorf("gave way: %s", got)
		}
		held.Leave()
		if got := <-answers; got != "alpha granted" {
			t.Errorf("first: %s: a sender with nothing in progress goes first", got)
		}
		synctest.Wait()
		if s := g.Status(); s.InProgress != 0 || s.Waiting != 0 {
			t.Errorf("left behind: %+v", s)
		}
	})
}

// TestNeverMoreThanTheLimit, whatever comes, goes, gives up and changes; and afterwards
// nothing is left.
func TestNeverMoreThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		g := fair.NewGate(fair.Options{Limit: 10, Length: 20})
		var inside, limit atomic.Int64
		limit.Store(10)
		var wg sync.WaitGroup
		for range 5000 {
			name, takes, patience := fmt.Sprint("c", random.IntN(4)), time.Duration(random.IntN(30))*time.Millisecond, time.Duration(1+random.IntN(60))*time.Millisecond
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				ticket, reason := g.Enter(ctx, name, 0)
				if reason != fair.Granted {
					return
				}
				if n := inside.Add(1); n > 15 {
					t.Errorf("%d in progress, the highest limit was 15", n)
				}
				time.Sleep(takes)
				inside.Add(-1)
				ticket.Leave()
			})
			time.Sleep(time.Duration(random.IntN(2)) * time.Millisecond)
			if random.IntN(50) == 0 {
				g.SetLimit(1 + random.IntN(15))
			}
		}
		wg.Wait()
		time.Sleep(10 * fair.PeakDecay)
		ticket, _ := g.Enter(t.Context(), "last", 0)
		if s := g.Status(); s.InProgress != 1 || s.Waiting != 0 || s.Senders != 1 {
			t.Errorf("left behind: %+v", s)
		}
		ticket.Leave()
	})
}

func BenchmarkEnter(b *testing.B) {
	g := fair.NewGate(fair.Options{Limit: 100, Length: 10})
	for i := range 20 {
		t, _ := g.Enter(b.Context(), fmt.Sprint("c", i), 0)
		defer t.Leave()
	}
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		t, _ := g.Enter(ctx, "c3", 0)
		t.Leave()
	}
}

// TestWhatTakesLongGivesItsSlotBack: with a hold, a request counts for no longer, and its
// end gives nothing back twice.
func TestWhatTakesLongGivesItsSlotBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := fair.NewGate(fair.Options{Limit: 4, Hold: 10 * time.Second})
		enter := func(want int) (tickets []fair.Ticket) {
			t.Helper()
			for range 8 {
				if ticket, reason := g.Enter(t.Context(), "", 0); reason == fair.Granted {
					tickets = append(tickets, ticket)
				}
			}
			if s := g.Status(); len(tickets) != want || s.InProgress > 4 {
				t.Errorf("%v: %d enter, want %d; %d in progress", time.Now(), len(tickets), want, s.InProgress)
			}
			return tickets
		}
		end := func(tickets []fair.Ticket) {
			for i := range tickets {
				tickets[i].Leave()
			}
		}
		watches := enter(4)
		time.Sleep(9 * time.Second)
		enter(0)
		time.Sleep(2 * time.Second)
		quick := enter(4)
		end(watches[:2])
		enter(0)
		end(quick)
		end(watches[2:])
		if s := g.Status(); s.InProgress != 0 {
			t.Errorf("%d in progress", s.InProgress)
		}
		// Whatever happens when, nothing is lost.
		random := rand.New(rand.NewPCG(1, 2))
		var wg sync.WaitGroup
		for range 2000 {
			name, takes := fmt.Sprint(random.IntN(3)), time.Duration(random.IntN(30_000))*time.Millisecond
			wg.Go(func() {
				ticket, _ := g.Enter(t.Context(), name, 0)
				time.Sleep(takes)
				ticket.Leave()
			})
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			if n := g.Status().InProgress; n < 0 || n > 4 {
				t.Fatalf("%d in progress", n)
			}
		}
		wg.Wait()
		if n := g.Status().InProgress; n != 0 {
			t.Errorf("%d are left in progress", n)
		}
		time.Sleep(time.Hour)
		end(enter(4))
	})
}
