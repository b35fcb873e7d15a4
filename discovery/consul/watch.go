package consul

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"
)

const (
	// A watch makes at most two queries at once and one every half second in the
	// long run, whatever its index does: HashiCorp's advice for blocking queries.
	watchEvery = 500 * time.Millisecond
	watchBurst = 2
	// patience is how many failures in a row a watch takes before the source
	// gives up, so that its state tells what is wrong.
	patience = 3
	// The back-off between these, full jitter.
	backoffBase = 200 * time.Millisecond
	backoffCap  = 5 * time.Second
)

var (
	errNoLeader = errors.New("the answer comes from a server that knows no leader")
	errFiltered = errors.New("the answer was filtered by ACLs: the token needs service:read and node:read")
)

// query is one blocking query; it answers with the data's own kind inside.
type query func(q *api.QueryOptions) (*api.QueryMeta, error)

// watch repeats a blocking query until ctx ends and calls changed after every
// answer that Consul itself vouches for. The index follows the documented rules:
// one that went back starts anew, and 0 counts as 1.
func (s *Source) watch(ctx context.Context, name string, q query, changed func()) error {
	limit := rate.NewLimiter(rate.Every(watchEvery), watchBurst)
	var index uint64
	failures := 0
	for {
		if err := limit.Wait(ctx); err != nil {
			return nil //nolint:nilerr // the wait fails only because ctx ended
		}
		meta, err := s.ask(ctx, q, index)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			failures++
			index = 0 // who answers next may be younger than the index, and would block on it
			s.metrics.failures.Inc()
			s.note(err)
			if failures >= patience {
				return fmt.Errorf("consul %s: %w", name, err)
			}
			s.log.Warn("consul query failed", "source", s.opts.Name, "err", err, "attempt", failures)
			if !pause(ctx, backoff(failures)) {
				return nil
			}
			continue
		}
		failures = 0
		index = nextIndex(index, meta.LastIndex)
		s.note(nil)
		changed()
	}
}

// nextIndex is what the next query waits for after an answer with index got.
func nextIndex(before, got uint64) uint64 {
	switch {
	case got < before:
		return 0 // restored or restarted: ask for the state as it is
	case got == 0:
		return 1 // a wait index of 0 would not block
	default:
		return got
	}
}

// ask runs one query and refuses answers that Consul does not vouch for.
func (s *Source) ask(ctx context.Context, q query, index uint64) (*api.QueryMeta, error) {
	token, err := s.opts.Config.token()
	if err != nil {
		return nil, fmt.Errorf("read the token file: %w", err)
	}
	opts := (&api.QueryOptions{
		AllowStale: true, WaitIndex: index, WaitTime: s.opts.Config.Wait, Token: token,
	}).WithContext(ctx)
	meta, err := q(opts)
	switch {
	case err != nil:
		return nil, err
	case !meta.KnownLeader:
		return nil, errNoLeader
	case meta.ResultsFilteredByACLs:
		return nil, errFiltered
	}
	return meta, nil
}

func backoff(attempt int) time.Duration {
	limit := min(backoffCap, backoffBase<<min(attempt, 10))
	return rand.N(limit)
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
func jittered(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5)
}
