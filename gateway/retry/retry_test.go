package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/tunnel"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"pgregory.net/rapid"
)

func TestClassify(t *testing.T) {
	refused := func(s wire.Status) error { return &tunnel.RefusedError{Cluster: "b", Status: s} }
	tests := []struct {
		name                  string
		err                   error
		status                wire.Status
		undelivered, final    bool
		mayOnce, mayIdempoten bool
		outcome               route.Outcome
	}{
		{"endpoint refused far away", refused(wire.Refused), wire.Refused, true, false, true, true, route.ServiceFailure},
		{"endpoint unreachable far away", refused(wire.Unreachable), wire.Unreachable, true, false, true, true, route.ServiceFailure},
		{"none ready far away", refused(wire.NoEndpoint), wire.NoEndpoint, true, false, true, true, route.ServiceFailure},
		{"unknown there", refused(wire.UnknownService), wire.UnknownService, true, false, true, true, route.ServiceFailure},
		{"unknown port there", refused(wire.UnknownPort), wire.UnknownPort, true, false, true, true, route.ServiceFailure},
		{"draining", refused(wire.Draining), wire.Draining, true, false, true, true, route.LinkFailure},
		{"overloaded", refused(wire.Overloaded), wire.Overloaded, true, false, true, true, route.Refusal},
		{"denied", refused(wire.Denied), wire.Denied, true, true, false, false, route.Refusal},
		{"reset behind the far gateway", refused(wire.Reset), wire.Reset, false, false, false, true, route.ServiceFailure},
		{"far gateway's fault", refused(wire.Internal), wire.Internal, false, false, false, true, route.LinkFailure},
		{"deadline over there", refused(wire.DeadlineExceeded), wire.DeadlineExceeded, false, true, false, false, route.CallerFailure},
		{"no link", &tunnel.LinkError{Cluster: "b", Status: wire.Unreachable}, wire.Unreachable, true, false, true, true, route.LinkFailure},
		{"link died", &tunnel.LinkError{Cluster: "b", Status: wire.LinkDead, Delivered: true}, wire.LinkDead, false, false, false, true, route.LinkFailure},
		{"stream reset", &tunnel.ResetError{Status: wire.Reset, Remote: true}, wire.Reset, false, false, false, true, route.ServiceFailure},
		{"stream reset, undelivered by word", &tunnel.ResetError{Status: wire.Refused, Remote: true}, wire.Refused, false, false, false, true, route.ServiceFailure},
		{"own endpoint refused", &retry.ConnectError{Endpoint: "e", Err: &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}}, wire.Refused, true, false, true, true, route.ServiceFailure},
		{"own endpoint unreachable", &retry.ConnectError{Endpoint: "e", Err: os.ErrDeadlineExceeded}, wire.Unreachable, true, false, true, true, route.ServiceFailure},
		{"own endpoint broke", io.ErrUnexpectedEOF, wire.Reset, false, false, false, true, route.ServiceFailure},
		{"own endpoint timed out", os.ErrDeadlineExceeded, wire.Unreachable, false, false, false, true, route.ServiceFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := retry.Classify(t.Context(), fmt.Errorf("wrapped: %w", tt.err))
			want := retry.Fault{Status: tt.status, Undelivered: tt.undelivered, Final: tt.final, Outcome: tt.outcome}
			if f != want || f.May(false) != tt.mayOnce || f.May(true) != tt.mayIdempoten {
				t.Fatalf("got %+v (once %v, idempotent %v), want %+v", f, f.May(false), f.May(true), want)
			}
		})
	}
}

func TestTheCallersEndIsTheCause(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel2 := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel2()
	unnoticed := slowTimer{Context: t.Context(), deadline: time.Now()}
	for ctx, want := range map[context.Context]wire.Status{
		canceled: wire.Canceled, late: wire.DeadlineExceeded, unnoticed: wire.DeadlineExceeded,
	} {
		f := retry.Classify(ctx, &tunnel.LinkError{Status: wire.LinkDead})
		if f.Status != want || f.May(true) || f.Outcome != route.CallerFailure {
			t.Errorf("got %+v, want %s", f, want)
		}
	}
}

// slowTimer is a context whose deadline has passed and whose timer has not fired.
type slowTimer struct {
	context.Context
	deadline time.Time
}

func (c slowTimer) Deadline() (time.Time, bool) { return c.deadline, true }

func TestEveryStatusHasAMeaning(t *testing.T) {
	for _, s := range wire.Statuses() {
		f := retry.Classify(t.Context(), &tunnel.RefusedError{Status: s})
		if f.Status != s || f.Undelivered != s.Undelivered() {
			t.Errorf("%s: %+v", s, f)
		}
		if f.Outcome == route.Success {
			t.Errorf("%s counts as a success", s)
		}
	}
}

func TestBudgetByTheFigures(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var b retry.Budget
	take := func() (n int) {
		for b.Take(now) {
			n++
		}
		return n
	}
	if got := take(); got != 3 {
		t.Fatalf("without calls %d retries, want 3", got)
	}
	for range 100 {
		b.Call(now)
	}
	if got := take(); got != 20 {
		t.Fatalf("100 calls gave %d more, want 20", got)
	}
	now = now.Add(retry.Window - time.Second)
	if got := take(); got != 0 {
		t.Fatalf("within the window %d more", got)
	}
	now = now.Add(time.Second)
	if got := take(); got != 0 {
		t.Fatalf("at the end of the window %d more", got)
	}
	now = now.Add(time.Second)
	if got := take(); got != 3 {
		t.Fatalf("in a new window %d, want 3", got)
	}
}

// TestBudgetHoldsInEveryWindow is invariant I6: whatever happened in whatever
// order, no retry is granted that passes ratio x calls + floor of its window.
func TestBudgetHoldsInEveryWindow(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type event struct {
			at    time.Time
			retry bool
		}
		var (
			b      retry.Budget
			events []event
			now    = time.Unix(1_000_000, 0)
		)
		for range rapid.IntRange(1, 300).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 700).Draw(rt, "pause")) * time.Millisecond)
			if rapid.Bool().Draw(rt, "call") {
				b.Call(now)
				events = append(events, event{now, false})
				continue
			}
			if !b.Take(now) {
				continue
			}
			events = append(events, event{now, true})
			start := now.Add(-retry.Window)
			calls, retries := 0, 0
			for _, e := range events {
				switch {
				case e.at.Before(start):
				case e.retry:
					retries++
				default:
					calls++
				}
			}
			if float64(retries) > retry.Ratio*float64(calls)+retry.Floor {
				rt.Fatalf("%d retries for %d calls", retries, calls)
			}
		}
	})
}

func TestBudgetsAreBoundedByTheTable(t *testing.T) {
	var b retry.Budgets
	a, c := catalog.MustServiceName("a"), catalog.MustServiceName("c")
	if first, again := b.Of(a), b.Of(a); first != again || first == b.Of(c) {
		t.Fatal("one budget per service expected")
	}
	b.Prune(func(n catalog.ServiceName) bool { return n == a }, time.Unix(1e9, 0))
	if b.Len() != 1 {
		t.Fatalf("%d budgets left", b.Len())
	}
}

// A service that leaves the table for a moment has used what it has used.
func TestABudgetOutlivesItsServicesAbsence(t *testing.T) {
	var b retry.Budgets
	a, now := catalog.MustServiceName("a"), time.Unix(1e9, 0)
	nobody := func(catalog.ServiceName) bool { return false }
	granted, left := 0, 0
	for range 50 { // every 100 ms it goes and comes, and fails all it can
		budget := b.Of(a)
		budget.Call(now)
		for budget.Take(now) {
			granted++
		}
		left += len(b.Prune(nobody, now))
		if b.Has(a) {
			t.Fatal("a service that is not in the table counts as one")
		}
		now = now.Add(100 * time.Millisecond)
	}
	if most := int(retry.Floor + retry.Ratio*50); granted > most || left != 50 {
		t.Errorf("%d retries for 50 calls, want %d at most; told of %d absences", granted, most, left)
	}
	now = now.Add(retry.Window + time.Second)
	if b.Prune(nobody, now); b.Len() != 0 {
		t.Error("kept for longer than it matters")
	}
}

func TestDelayIsJitteredAndBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	limits := []time.Duration{25, 25, 50, 100, 200, 250, 250} // by retry number
	for n, limit := range limits {
		var least, most time.Duration = time.Hour, 0
		for range 2000 {
			d := retry.Delay(n, r.Uint64())
			least, most = min(least, d), max(most, d)
		}
		limit *= time.Millisecond
		if least > limit/20 || most >= limit || most < limit*9/10 {
			t.Errorf("retry %d: from %v to %v, want 0 to %v", n, least, most, limit)
		}
	}
}

func TestWaitKnowsTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := retry.Wait(t.Context(), 20*time.Millisecond); err != nil || time.Since(start) != 20*time.Millisecond {
			t.Fatalf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start = time.Now()
		if err := retry.Wait(ctx, 20*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 0 {
			t.Fatalf("%v after %v, want the deadline at once", err, time.Since(start))
		}
		gone, leave := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Millisecond, func() { leave(io.ErrClosedPipe) })
		if err := retry.Wait(gone, time.Second); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatalf("got %v", err)
		}
	})
}
