package kubeapi_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
)

// server is what a feed's calls answer: the objects that there are, page by page, and
// watches of what becomes of them.
type server struct {
	mu      sync.Mutex
	names   map[string]bool
	page    int // objects of a page; 0: all
	streams bool
	lists   int
	watches []*watch.RaceFreeFakeWatcher
}

func object(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n"}}
}

func (s *server) list(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	list := &corev1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
	for _, name := range slices.Sorted(maps.Keys(s.names)) {
		if name <= o.Continue {
			continue
		}
		if s.page > 0 && len(list.Items) == s.page {
			list.Continue = list.Items[s.page-1].Name
			break
		}
		list.Items = append(list.Items, *object(name))
	}
	return list, nil
}

func (s *server) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	initial := o.SendInitialEvents != nil && *o.SendInitialEvents
	if initial && !s.streams {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "ListOptions"}, "", nil)
	}
	w := watch.NewRaceFreeFake()
	context.AfterFunc(ctx, w.Stop)
	if initial {
		for _, name := range slices.Sorted(maps.Keys(s.names)) {
			w.Add(object(name))
		}
		end := object("")
		end.ResourceVersion, end.Annotations = "1", map[string]string{metav1.InitialEventsAnnotationKey: "true"}
		w.Action(watch.Bookmark, end)
	}
	s.watches = append(s.watches, w)
	return w, nil
}

// set says what there is, and tells the watch that is open.
func (s *server) set(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := map[string]bool{}
	for _, n := range names {
		now[n] = true
	}
	var w *watch.RaceFreeFakeWatcher
	if len(s.watches) > 0 {
		w = s.watches[len(s.watches)-1]
	}
	for _, n := range slices.Sorted(maps.Keys(now)) {
		if w != nil && !w.IsStopped() && !s.names[n] {
			w.Add(object(n))
		}
	}
	for n := range s.names {
		if w != nil && !w.IsStopped() && !now[n] {
			w.Delete(object(n))
		}
	}
	s.names = now
}

// names is a Store that keeps the names, and the most that it ever held.
type names struct {
	mu   sync.Mutex
	m    map[string]bool
	most int
}

func (n *names) Replace(list []runtime.Object) {
	n.mu.Lock()
	n.m = map[string]bool{}
	n.mu.Unlock()
	for _, o := range list {
		n.Put(o)
	}
}

func (n *names) Put(o runtime.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.m[o.(*corev1.Service).Name] = true
	n.most = max(n.most, len(n.m))
}

func (n *names) Delete(o runtime.Object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.m, o.(*corev1.Service).Name)
}

func (n *names) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(n.m)), " ")
}

// However the objects come, there are never more than the bound: that is told, what is held
// stays, and once there are fewer the feed is like the server again.
func TestWhatAFeedHoldsIsBounded(t *testing.T) {
	for name, s := range map[string]*server{
		"lists and watches": {}, "pages and watches": {page: 2}, "streamed lists": {streams: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &names{m: map[string]bool{}}
			f := kubeapi.NewFeed(kubeapi.FeedOptions{Name: "things", List: s.list, Watch: s.watch, Type: &corev1.Service{}, Store: store, Max: 4})
			until := func(what string, check func() bool) {
				t.Helper()
				for deadline := time.Now().Add(time.Minute); !check(); time.Sleep(5 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s: not within a minute: holds %q, %+v", what, store.text(), f.State())
					}
				}
			}
			holds := func(want string) func() bool {
				return func() bool { return store.text() == want && f.State().Err == nil && f.State().Synced }
			}
			told := func() bool {
				return strings.Contains(fmt.Sprint(f.State().Err), " objects or more, at most 4")
			}
			s.set("a", "b")
			done := make(chan struct{})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { defer close(done); f.Run(ctx) }()
			defer func() { cancel(); <-done }()
			until("the list", holds("a b"))
			until("the watch", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.watches) > 0 })
			s.set("a", "b", "c", "d")
			until("as many as may be", holds("a b c d"))
			s.set("a", "b", "c", "d", "e", "f")
			until("too many", told)
			if got := store.text(); got != "a b c d" {
				t.Errorf("holds %q", got)
			}
			s.set("c", "d", "e", "f")
			until("fewer", holds("c d e f"))
			s.set("c", "d", "e", "g")
			until("another one", holds("c d e g"))
			if store.most > 4 {
				t.Errorf("held %d", store.most)
			}
		})
	}
}
