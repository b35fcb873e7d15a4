package federated

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
)

// again is the wait after a watch that broke: the API is on this host.
const again = time.Second

// follower keeps what a list of the API shows, as far as it is of interest here.
type follower[T, V any] struct {
	name string
	list client.Collection[T]
	// of is an item's part that is of interest; false where it has none.
	of      func(T) (V, bool)
	changed func()

	mu    sync.Mutex
	items map[string]V
	err   error
}

func newFollower[T, V any](name string, list client.Collection[T], of func(T) (V, bool), changed func()) *follower[T, V] {
	return &follower[T, V]{name: name, list: list, of: of, changed: changed, err: errors.New(name + ": not read yet")}
}

// all is a copy, and why it may not be what is there now.
func (f *follower[T, V]) all() (map[string]V, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.items), f.err
}

// run follows until ctx ends.
func (f *follower[T, V]) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.once(ctx)
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		f.err = fmt.Errorf("%s: %w", f.name, err)
		f.mu.Unlock()
		f.changed()
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// once reads the whole list, which counts when it is complete, and what changes.
func (f *follower[T, V]) once(ctx context.Context) error {
	fresh, synced := map[string]V{}, false
	for e, err := range f.list.Watch(ctx, 0) {
		switch {
		case err != nil:
			return err
		case e.Type == resource.Synced:
			synced = true
			f.mu.Lock()
			f.items, f.err = fresh, nil
			f.mu.Unlock()
			f.changed()
		case !synced:
			f.set(fresh, e)
		default:
			f.mu.Lock()
			news := f.set(f.items, e)
			f.mu.Unlock()
			if news {
				f.changed()
			}
		}
	}
	return errors.New("the watch ended")
}

// set changes one item and tells whether that is of interest.
func (f *follower[T, V]) set(items map[string]V, e resource.WatchEvent[T]) bool {
	was, had := items[e.Key]
	if e.Type == resource.Put && e.Item != nil {
		if now, ok := f.of(*e.Item); ok {
			items[e.Key] = now
			return !had || !reflect.DeepEqual(was, now)
		}
	}
	delete(items, e.Key)
	return had
}
