package discovery_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

func TestPollPublishesGoodReadsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		results := []error{nil, errors.New("throttled"), errors.New("throttled"), nil}
		var mu sync.Mutex
		var fetches []time.Duration
		published := 0
		p := discovery.Poll(time.Minute, 0, func(context.Context) (*catalog.Snapshot, error) {
			mu.Lock()
			defer mu.Unlock()
			fetches = append(fetches, time.Since(start))
			if err := results[min(len(fetches), len(results))-1]; err != nil {
				return nil, err
			}
			return world{"a": {"1"}}.snapshot(t), nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- p.Run(ctx, func(*catalog.Snapshot) {
				mu.Lock()
				defer mu.Unlock()
				published++
			})
		}()
		seen := func() ([]time.Duration, int) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return fetches, published
		}

		time.Sleep(2 * time.Minute)
		if _, n := seen(); n != 1 {
			t.Errorf("published %d", n)
		}
		if at, err := p.LastRead(); err == nil || !at.Equal(start) {
			t.Errorf("after a failure: %v, %v", at, err)
		}
		// 0, +1 min; two failures: +2, +4 min.
		time.Sleep(5 * time.Minute)
		if f, _ := seen(); len(f) != 4 || f[2] != 3*time.Minute || f[3] != 7*time.Minute {
			t.Errorf("fetched at %v", f)
		}
		if at, err := p.LastRead(); err != nil || !at.Equal(start.Add(7*time.Minute)) {
			t.Errorf("after the recovery: %v, %v", at, err)
		}
		p.Reread()
		if f, n := seen(); len(f) != 5 || n != 3 {
			t.Errorf("asked to read again: %d fetches, %d published", len(f), n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPollGivesEveryFetchADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := discovery.Poll(time.Second, 0, func(ctx context.Context) (*catalog.Snapshot, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx, func(*catalog.Snapshot) { t.Error("published") }) }()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if _, err := p.LastRead(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPollJitterStaysInItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last time.Time
		n := 0
		p := discovery.Poll(time.Minute, 0.2, func(context.Context) (*catalog.Snapshot, error) {
			if d := time.Since(last); n > 0 && (d < 48*time.Second || d > 72*time.Second) {
				t.Errorf("waited %v", d)
			}
			last = time.Now()
			n++
			return world{}.snapshot(t), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if err := p.Run(ctx, func(*catalog.Snapshot) {}); err != nil {
			t.Error(err)
		}
		if n < 24*50 || n > 24*75 {
			t.Errorf("%d fetches in a day", n)
		}
	})
}

func TestRestartDelay(t *testing.T) {
	for attempt := range 40 {
		low, high := discovery.RestartDelay(attempt, 0), discovery.RestartDelay(attempt, 0.999999)
		if low != 200*time.Millisecond {
			t.Errorf("attempt %d: at least %v", attempt, low)
		}
		if high > time.Minute || high < min(time.Minute, time.Second<<min(attempt, 6))*99/100 {
			t.Errorf("attempt %d: at most %v", attempt, high)
		}
	}
}
