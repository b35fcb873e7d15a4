package discovery_test

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/internal/durable/crashtest"
)

// Snapshots of sources: the states are numbers of endpoints.
func TestCrash(t *testing.T) {
	sizes := map[string]int{crashtest.Before: 1, crashtest.After: 2, crashtest.Later: 3}
	crashtest.Run(t, crashtest.Case{
		Point: "sources", Initial: true, Times: 3,
		Write: func(t testing.TB, dir, state string) error {
			s, err := discovery.NewStore(dir, "test")
			if err != nil {
				return err
			}
			return s.Save(time.Unix(1, 0), world{"a": ids("a", sizes[state])}.snapshot(t))
		},
		Read: func(_ testing.TB, dir string) (state, said string, err error) {
			s, err := discovery.NewStore(dir, "test")
			if err != nil {
				return "", "", err
			}
			v, skipped := s.Load()
			if skipped != nil {
				said = skipped.Error()
			}
			if v.Snapshot == nil {
				return "", said, nil
			}
			for state, n := range sizes {
				if v.Snapshot.EndpointCount() == n {
					return state, said, nil
				}
			}
			return "another", said, nil
		},
	})
}
