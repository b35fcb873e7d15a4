package consul

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"
)

const (
	// A watch makes at most watchBurst queries at once and one a second in the
	// long run, whatever its index does: HashiCorp's advice for blocking queries.
	watchEvery = time.Second
	watchBurst = 5
	// The back-off after failures: exponential with full jitter. The floor is for
	// an agent that refuses at once, the maximum for how soon a recovered one is
	// seen.
	backoffFloor = 50 * time.Millisecond
	backoffBase  = 250 * time.Millisecond
	backoffMax   = 15 * time.Second
)

// watch repeats a blocking query until ctx ends and hands over every answer that
// Consul vouches for. The index follows the documented rules: one that went back
// starts anew, and 0 counts as 1.
func watch[T any](ctx context.Context, s *Source, part part, query func(*api.QueryOptions) (T, *api.QueryMeta, error), saw func(T, arrival)) {
	limit := rate.NewLimiter(rate.Every(watchEvery), watchBurst)
	var index, last uint64 // to wait for; of the last answer
	for failures := 0; ; {
		if limit.Wait(ctx) != nil {
			return
		}
		data, meta, err := ask(ctx, s, index, query)
		if ctx.Err() != nil {
			return
		}
		s.note(part, err)
		if err != nil {
			failures++
			index = 0 // who answers next may be younger than the index, and would block on it
			if !pause(ctx, backoff(failures, rand.Float64())) {
				return
			}
			continue
		}
		failures = 0
		a := arrival{reset: meta.LastIndex < last, moved: meta.LastIndex != last || last == 0}
		last = meta.LastIndex
		if index = max(1, last); a.reset {
			index = 0
		}
		saw(data, a)
	}
}

// arrival is what the index of an answer says.
type arrival struct {
	// reset: it went back, so what is known may be of another life of the
	// datacenter.
	reset bool
	// moved: something may have changed. Without an index it may have, always.
	moved bool
}

// ask runs one blocking query; an index of 0 does not block.
func ask[T any](ctx context.Context, s *Source, index uint64, query func(*api.QueryOptions) (T, *api.QueryMeta, error)) (T, *api.QueryMeta, error) {
	c := s.opts.Config
	// The server adds up to a sixteenth to the wait.
	ctx, cancel := context.WithTimeout(ctx, c.Wait*17/16+c.RequestTimeout)
	defer cancel()
	if index == 0 {
		ctx, cancel = context.WithTimeout(ctx, c.RequestTimeout)
		defer cancel()
	}
	data, meta, err := query((&api.QueryOptions{WaitIndex: index, WaitTime: c.Wait}).WithContext(ctx))
	if err == nil {
		err = c.trust(meta)
	}
	if err != nil {
		var none T
		return none, nil, fmt.Errorf("consul: %w", err)
	}
	return data, meta, nil
}

// backoff is how long to wait after so many failures; random is in [0, 1).
func backoff(failures int, random float64) time.Duration {
	ceiling := backoffMax
	if failures < 6 { // 250 ms << 6 is above the maximum
		ceiling = min(backoffMax, backoffBase<<failures)
	}
	return backoffFloor + time.Duration(random*float64(ceiling-backoffFloor))
}

// pause waits for d; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// jittered is d, 20 % more or less, so that many sources do not read at once.
func jittered(d time.Duration, random float64) time.Duration {
	return d + time.Duration((2*random-1)*0.2*float64(d))
}
