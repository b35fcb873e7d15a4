package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// The identity's cache: the state is the number of the bundle, which comes with the
// SVID or not at all.
func TestCrash(t *testing.T) {
	numbers := map[string]uint64{crashtest.Before: 1, crashtest.After: 2, crashtest.Later: 3}
	good, now := cachedState(t)
	own := good.svid.ID.TrustDomain()
	source := func(dir string) (*Source, error) {
		return New(Options{
			WorkloadAPI: "unix:///nobody", ID: good.svid.ID, CacheFile: filepath.Join(dir, "cache"),
			Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		})
	}
	crashtest.Run(t, crashtest.Case{
		Point: cachePoint, Initial: true,
		Write: func(_ testing.TB, dir, state string) error {
			s, err := source(dir)
			if err != nil {
				return err
			}
			st := good.clone()
			st.api[own] = newTrustBundle(own, good.api[own].authorities, OriginWorkloadAPI, numbers[state], 0, now)
			before := testutil.ToFloat64(s.metrics.cacheErrors)
			if s.saveCache(st); testutil.ToFloat64(s.metrics.cacheErrors) != before {
				return errors.New("the cache was not written")
			}
			return nil
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			s, err := source(dir)
			if err != nil {
				return "", "", err
			}
			if testutil.ToFloat64(s.metrics.cacheErrors) > 0 {
				said = fmt.Sprint(s.last.cache)
			}
			if s.Ready() != nil {
				return "", said, nil
			}
			for state, n := range numbers {
				if b := s.state.Load().api[own]; b != nil && b.sequence == n {
					return state, said, nil
				}
			}
			return "torn", said, nil
		},
	})
}
