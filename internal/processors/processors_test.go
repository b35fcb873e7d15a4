package processors

import (
	"context"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stand is a process on a simulated clock that uses a share of a core.
type stand struct {
	mu    sync.Mutex
	share float64
	spent time.Duration
	at    time.Time
	did   []string
}

func (s *stand) used() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.spent += time.Duration(s.share * float64(now.Sub(s.at)))
	s.at = now
	return s.spent, true
}

// use sets the share, from now on.
func (s *stand) use(share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.share = share
}

func (s *stand) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did = append(s.did, what)
}

func (s *stand) noted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.did)
}

func (s *stand) process() *process {
	s.at = time.Now()
	return &process{used: s.used, narrow: func() { s.note("narrow") }, widen: func() { s.note("widen") }}
}

func TestAQuietProcessIsNarrowedAndABusyOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stand{share: 1.6} // a first sync
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		p := s.process()
		go func() {
			defer close(done)
			p.follow(ctx)
		}()
		for _, step := range []struct {
			share float64
			lasts time.Duration
			did   []string
		}{
			{1.6, time.Minute, nil},
			{0.05, (calm - 1) * every, nil},                            // not for long enough
			{0.3, every, nil},                                          // and from the beginning again
			{0.05, (calm - 1) * every, nil},                            //
			{0.05, every, []string{"narrow"}},                          //
			{0.05, time.Hour, []string{"narrow"}},                      //
			{0.4, time.Minute, []string{"narrow"}},                     // one is enough
			{0.7, every, []string{"narrow", "widen"}},                  // a collection
			{0.4, time.Hour, []string{"narrow", "widen"}},              //
			{0.1, calm * every, []string{"narrow", "widen", "narrow"}}, //
		} {
			s.use(step.share)
			time.Sleep(step.lasts)
			synctest.Wait()
			if did := s.noted(); !slices.Equal(did, step.did) {
				t.Fatalf("after %v at %v of a core: %v, want %v", step.lasts, step.share, did, step.did)
			}
		}
		cancel()
		<-done
		if want := []string{"narrow", "widen", "narrow", "widen"}; !slices.Equal(s.noted(), want) {
			t.Errorf("at its end: %v, want %v", s.noted(), want)
		}
	})
}

// One that gets no core uses little, too.
func TestAProcessThatWaitsForACoreIsNotNarrowed(t *testing.T) {
	did := ""
	p := process{narrow: func() { did += "n" }, widen: func() { did += "w" }}
	for range 3 * calm {
		p.judge(0.1, 0)
		p.judge(0.1, punctual)
	}
	if did != "" {
		t.Fatalf("a process that is woken late: %q", did)
	}
	for range calm {
		p.judge(0.1, punctual/2)
	}
	p.judge(0.1, punctual)
	if did != "n" {
		t.Fatalf("once it is not: %q", did)
	}
	if p.judge(0.1, starved); did != "nw" {
		t.Fatalf("and when it is very late: %q", did)
	}
}

func TestAProcessWhoseUseIsNotToldStaysAsItIs(t *testing.T) {
	p := process{used: func() (time.Duration, bool) { return 0, false }}
	p.follow(t.Context()) // returns, and calls neither
}

// What the environment says holds.
func TestAChoiceThatWasMadeStays(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2")
	Follow(t.Context())
}

// The runtime does what is asked of it, and takes back what it chose itself.
func TestTheRuntimeIsNarrowedAndWidened(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	if os.Getenv("GOMAXPROCS") != "" {
		before = runtime.NumCPU()
	}
	p := process{narrow: func() { runtime.GOMAXPROCS(1) }, widen: runtime.SetDefaultGOMAXPROCS}
	for range calm {
		p.judge(0, 0)
	}
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("a quiet process has %d processors", n)
	}
	p.judge(1, 0)
	if n := runtime.GOMAXPROCS(0); n < 1 || n > runtime.NumCPU() || before > 1 && n == 1 {
		t.Errorf("a busy process has %d processors, %d before", n, before)
	}
}

func TestUseIsTold(t *testing.T) {
	a, ok := used()
	if !ok {
		t.Skip("this system does not tell")
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if b, _ := used(); b > a {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a process that works uses nothing")
		}
	}
}
