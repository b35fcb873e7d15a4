package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// shortWatch is the life below which a watch that said nothing was no watch.
const shortWatch = time.Second

var (
	errListCut  = errors.New("the streamed list was cut")
	errWatchCut = errors.New("the watch ended at once")
)

// tap passes a watch's events on and notes what they say of the server.
type tap struct {
	watch.Interface
	feed   *Feed
	events chan watch.Event
	done   chan struct{}
	once   sync.Once
}

func newTap(ctx context.Context, w watch.Interface, f *Feed, streams bool) *tap {
	t := &tap{Interface: w, feed: f, events: make(chan watch.Event), done: make(chan struct{})}
	go t.pass(ctx, streams)
	return t
}

// ResultChan implements watch.Interface.
func (t *tap) ResultChan() <-chan watch.Event { return t.events }

// Stop implements watch.Interface.
func (t *tap) Stop() {
	t.once.Do(func() { close(t.done) })
	t.Interface.Stop()
}

func (t *tap) pass(ctx context.Context, streams bool) {
	defer close(t.events)
	began, count := time.Now(), 0
	for e := range t.Interface.ResultChan() {
		count++
		switch {
		case e.Type != watch.Error:
			t.feed.hear()
		case streams:
			// A refusal, as of a server whose etcd is old: the reflector lists instead,
			// and what fails of that is told.
			streams = false
		}
		if streams && e.Type == watch.Bookmark && endsInitialEvents(e.Object) {
			streams = false
			t.feed.ok(&t.feed.watchErr)
		}
		select {
		case t.events <- e:
		case <-t.done:
			return
		}
	}
	select {
	case <-t.done:
		return // by the reader's own will
	default:
	}
	switch {
	case ctx.Err() != nil:
	case streams:
		t.feed.failed(&t.feed.watchErr, errListCut)
	case count == 0 && time.Since(began) < shortWatch:
		t.feed.failed(&t.feed.watchErr, errWatchCut)
	}
}

func endsInitialEvents(o runtime.Object) bool {
	m, err := meta.Accessor(o)
	return err == nil && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

// sink is a Feed's side towards the reflector: a cache.ReflectorStore.
type sink Feed

func (s *sink) change(object any, store func(runtime.Object)) error {
	o, ok := object.(runtime.Object)
	if !ok {
		return fmt.Errorf("%s: a %T is no object", s.opts.Name, object)
	}
	store(o)
	s.opts.Changed()
	return nil
}

// Add implements cache.ReflectorStore.
func (s *sink) Add(object any) error { return s.change(object, s.opts.Store.Put) }

// Update implements cache.ReflectorStore.
func (s *sink) Update(object any) error { return s.change(object, s.opts.Store.Put) }

// Delete implements cache.ReflectorStore.
func (s *sink) Delete(object any) error { return s.change(object, s.opts.Store.Delete) }

// Replace implements cache.ReflectorStore; it is called with complete lists only.
func (s *sink) Replace(list []any, _ string) error {
	f := (*Feed)(s)
	objects, err := objectsOf(list)
	if err != nil {
		f.failed(&f.listErr, err) // the reflector lists again, and tells nobody why
		return err
	}
	s.opts.Store.Replace(objects)
	f.mu.Lock()
	f.synced, f.fresh = true, true
	f.mu.Unlock()
	f.ok(&f.listErr)
	return nil
}

func objectsOf(list []any) ([]runtime.Object, error) {
	if len(list) > MaxObjects {
		return nil, fmt.Errorf("the list has %d objects, at most %d", len(list), MaxObjects)
	}
	objects := make([]runtime.Object, 0, len(list))
	for _, item := range list {
		o, ok := item.(runtime.Object)
		if !ok {
			return nil, fmt.Errorf("a %T is no object", item)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// Resync implements cache.ReflectorStore.
func (s *sink) Resync() error { return nil }
