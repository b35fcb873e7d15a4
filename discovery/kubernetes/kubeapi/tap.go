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
	"k8s.io/apimachinery/pkg/types"
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
		if err := t.feed.bound(count); streams && err != nil {
			t.feed.failed(&t.feed.watchErr, err) // the reflector keeps what is streamed until the list is complete
			t.Interface.Stop()
			return
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

// Add implements cache.ReflectorStore.
func (s *sink) Add(object any) error { return s.put(object) }

// Update implements cache.ReflectorStore.
func (s *sink) Update(object any) error { return s.put(object) }

// put stores what a watch brought. Of what is beyond the bound nothing is stored: the feed
// is not like the server any more, says so, and lists until all of it fits again.
func (s *sink) put(object any) error {
	f := (*Feed)(s)
	o, key, err := s.objectOf(object)
	if err != nil {
		return err
	}
	if _, known := f.held[key]; !known {
		if err := f.bound(len(f.held) + 1); err != nil {
			f.failed(&f.listErr, err)
			f.Reread()
			return err
		}
		f.held[key] = struct{}{}
	}
	s.opts.Store.Put(o)
	s.opts.Changed()
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *sink) Delete(object any) error {
	o, key, err := s.objectOf(object)
	if err != nil {
		return err
	}
	delete(s.held, key)
	s.opts.Store.Delete(o)
	s.opts.Changed()
	return nil
}

func (s *sink) objectOf(object any) (o runtime.Object, key types.NamespacedName, err error) {
	o, ok := object.(runtime.Object)
	if !ok {
		return nil, key, fmt.Errorf("%s: a %T is no object", s.opts.Name, object)
	}
	m, err := meta.Accessor(o)
	if err != nil {
		return nil, key, fmt.Errorf("%s: %w", s.opts.Name, err)
	}
	return o, types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}, nil
}

// Replace implements cache.ReflectorStore; it is called with complete lists only.
func (s *sink) Replace(list []any, _ string) error {
	f := (*Feed)(s)
	objects, held, err := s.objectsOf(list)
	if err != nil {
		f.failed(&f.listErr, err) // the reflector lists again, and tells nobody why
		return err
	}
	f.held = held
	s.opts.Store.Replace(objects)
	f.mu.Lock()
	f.synced, f.fresh = true, true
	f.mu.Unlock()
	f.ok(&f.listErr)
	return nil
}

func (s *sink) objectsOf(list []any) ([]runtime.Object, map[types.NamespacedName]struct{}, error) {
	if err := (*Feed)(s).bound(len(list)); err != nil {
		return nil, nil, err
	}
	objects, held := make([]runtime.Object, 0, len(list)), make(map[types.NamespacedName]struct{}, len(list))
	for _, item := range list {
		o, key, err := s.objectOf(item)
		if err != nil {
			return nil, nil, err
		}
		objects = append(objects, o)
		held[key] = struct{}{}
	}
	return objects, held, nil
}

// Resync implements cache.ReflectorStore.
func (s *sink) Resync() error { return nil }
