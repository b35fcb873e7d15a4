package discoverytest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/discoverytest"
)

// The contract test passes on the simplest honest source: a poller.
func TestPoller(t *testing.T) {
	discoverytest.Source(t, func(*testing.T) discoverytest.Backend {
		var mu sync.Mutex
		var content discoverytest.Content
		var fault error
		set := func(c discoverytest.Content, err error) {
			mu.Lock()
			defer mu.Unlock()
			content, fault = c, err
		}
		return discoverytest.Backend{
			Source: discovery.Poll(10*time.Millisecond, 0.2, func(context.Context) (*catalog.Snapshot, error) {
				mu.Lock()
				defer mu.Unlock()
				if fault != nil {
					return nil, fault
				}
				return catalog.NewSnapshot("test", content.Services())
			}),
			Set: func(c discoverytest.Content) { set(c, nil) },
			Cut: func(c discoverytest.Content) { set(c, errors.New("page 2 of 3: timeout")) },
			Fail: func(on bool) {
				mu.Lock()
				defer mu.Unlock()
				if fault = nil; on {
					fault = errors.New("backend is down")
				}
			},
		}
	})
}
