package syncout

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

const (
	// readers bounds the reads of names at once.
	readers = 8
	// againPerPass bounds the names that a pass asks for again, so that a catalog that
	// moves all the time costs at most so many reads a second, however many services
	// are imported; newPerPass those that it asks for first, which wait for it.
	againPerPass = 64
	newPerPass   = 512
	// The watch makes at most a query a second in the long run.
	watchEvery = time.Second
	watchBurst = 5
	watchWait  = 5 * time.Minute
)

// others is what is known of who else has the names.
type others struct {
	mu   sync.Mutex
	said map[string]verdict
	// at is the movement of the catalog that each was asked at.
	at map[string]uint64
}

func (o *others) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said, o.at = map[string]verdict{}, map[string]uint64{}
}

func (o *others) known() map[string]verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.said)
}

// due are the names to ask for now, in the order of the plan but those first that
// nobody has asked for. Names that are wanted no more are forgotten.
func (o *others) due(names []string, moved uint64) (due []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	wanted := map[string]bool{}
	var again []string
	for _, n := range names {
		wanted[n] = true
		switch at, known := o.at[n]; {
		case !known:
			due = append(due, n)
		case at < moved:
			again = append(again, n)
		}
	}
	for n := range o.said {
		if !wanted[n] {
			delete(o.said, n)
			delete(o.at, n)
		}
	}
	// Those that were asked longest ago go first, so that none waits for ever.
	slices.SortStableFunc(again, func(a, b string) int { return cmp.Compare(o.at[a], o.at[b]) })
	return append(due[:min(len(due), newPerPass)], again[:min(len(again), againPerPass)]...)
}

// askOthers finds out who else has the names.
func (w *Writer) askOthers(ctx context.Context, names []string) error {
	moved := w.moved.Load() // what moves while they are read is read again
	var pool errgroup.Group
	pool.SetLimit(readers)
	for _, name := range names {
		pool.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, requestTimeout)
			defer cancel()
			instances, meta, err := w.client.Catalog().Service(name, "", (&api.QueryOptions{}).WithContext(ctx))
			if err == nil {
				err = agent.Trust(meta)
			}
			if err != nil {
				return fmt.Errorf("consul service %s: %w", name, err)
			}
			v := free
			if slices.ContainsFunc(instances, w.isOthers) {
				v = taken
			}
			w.others.mu.Lock()
			defer w.others.mu.Unlock()
			w.others.said[name], w.others.at[name] = v, moved
			return nil
		})
	}
	return pool.Wait()
}

// isOthers: the instance is none of ours. Of two clusters that would both register
// a name in one datacenter, the one whose name comes first does: the other gives
// way, so that they agree whoever was there first.
func (w *Writer) isOthers(s *api.CatalogService) bool {
	if s == nil {
		return false
	}
	owner := s.ServiceMeta[agent.OwnerMeta]
	return owner == "" || owner < string(w.cluster)
}

// watch counts the movements of the catalog's list until ctx ends.
func (w *Writer) watch(ctx context.Context) {
	limit := rate.NewLimiter(rate.Every(watchEvery), watchBurst)
	for index := uint64(0); limit.Wait(ctx) == nil; {
		each, cancel := context.WithTimeout(ctx, watchWait*17/16+requestTimeout)
		_, meta, err := w.client.Catalog().Services((&api.QueryOptions{WaitIndex: index, WaitTime: watchWait, AllowStale: true}).WithContext(each))
		cancel()
		if err != nil {
			index = 0
			if !pause(ctx, backoffBase) {
				return
			}
			continue
		}
		if meta.LastIndex != index || index == 0 {
			w.moved.Add(1)
		}
		if meta.LastIndex < index {
			index = 0 // Consul was restored
			continue
		}
		index = max(1, meta.LastIndex)
	}
}
