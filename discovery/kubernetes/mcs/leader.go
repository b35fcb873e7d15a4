package mcs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
)

const (
	// settle lets changes that come together be one pass.
	settle = 50 * time.Millisecond
	// passEvery is when a pass is made regardless: what somebody else has changed of
	// what was made is seen by the feeds, so it is a safety net only.
	passEvery = time.Minute
	// retryMin and retryMax are the waits after passes that failed.
	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second
)

// leader is one term of a Sync.
type leader struct {
	*Sync
	clients
	export, imported kind
	index            map[kind]*index
	feeds            []*kubeapi.Feed
	allServices      *services
	allNamespaces    *namespaces
	gone             map[types.NamespacedName]time.Time // imports that are held, and since when
	unknown          map[string]time.Time               // gateways that slices point at, and since when they are not known
}

// lead works until ctx ends.
func (s *Sync) lead(ctx context.Context, c clients) {
	l := &leader{
		Sync: s, clients: c, index: map[kind]*index{}, gone: map[types.NamespacedName]time.Time{},
		allServices:   &services{m: map[types.NamespacedName]*corev1.Service{}},
		allNamespaces: &namespaces{m: map[string]bool{}},
	}
	version, ok := l.version(ctx)
	if !ok {
		return
	}
	l.export, l.imported = kindExport(version), kindImport(version)
	l.follow()
	var wg sync.WaitGroup
	for _, f := range l.feeds {
		wg.Go(func() { f.Run(ctx) })
	}
	l.loop(ctx)
	wg.Wait()
}

// version waits for the server to say which version of the API it has: the newest that
// is known here.
func (l *leader) version(ctx context.Context) (string, bool) {
	for attempt := 0; ; attempt++ {
		var err error
		for _, v := range []string{"v1beta1", "v1alpha1"} {
			_, err = l.typed.Discovery().ServerResourcesForGroupVersion(mcsGroup + "/" + v)
			if err == nil {
				return v, true
			}
			if !apierrors.IsNotFound(err) {
				break
			}
		}
		if apierrors.IsNotFound(err) {
			err = errors.New("the API server does not know multicluster.x-k8s.io: its CustomResourceDefinitions are missing")
		}
		l.set(func(st *Status) { st.Err = err })
		if !pause(ctx, retry(attempt)) {
			return "", false
		}
	}
}

func retry(attempt int) time.Duration {
	d := min(retryMax, retryMin<<min(attempt, 10))
	return d/2 + rand.N(d/2+1)
}

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

// owned are the kinds of what is made, in the order of their removal.
func (l *leader) owned() []kind {
	kinds := []kind{kindSlice, kindService, l.imported}
	if l.config.ServiceEntries != nil {
		kinds = append([]kind{kindEntry}, kinds...)
	}
	return kinds
}

// follow makes the feeds.
func (l *leader) follow() {
	mark := kubernetes.OwnerLabel + "=" + l.config.Owner
	services, all := l.typed.CoreV1().Services(metav1.NamespaceAll), l.typed.CoreV1().Namespaces()
	l.feed("services", &corev1.Service{}, l.allServices, calls("", services))
	l.feed("namespaces", &corev1.Namespace{}, l.allNamespaces, calls("", all))
	if l.config.Exports != nil {
		l.feedKind(l.export, "")
	}
	if l.config.Imports != nil {
		for _, k := range l.owned() {
			l.feedKind(k, mark)
		}
	}
}

func (l *leader) feedKind(k kind, selector string) {
	l.index[k] = newIndex()
	l.feed(k.resource.Resource, &unstructured.Unstructured{}, l.index[k], calls(selector, resource{l, k}))
}

func (l *leader) feed(name string, of runtime.Object, store kubeapi.Store, o kubeapi.FeedOptions) {
	o.Name, o.Type, o.Store, o.Changed = name, of, store, l.Kick
	l.feeds = append(l.feeds, kubeapi.NewFeed(o))
}

// resource is a kind in all namespaces.
type resource struct {
	*leader
	kind
}

func (r resource) List(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	return r.dynamic.Resource(r.kind.resource).List(ctx, o)
}

func (r resource) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	return r.dynamic.Resource(r.kind.resource).Watch(ctx, o)
}

// lister is a client's way to one kind of object.
type lister[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

func calls[L runtime.Object](selector string, api lister[L]) kubeapi.FeedOptions {
	return kubeapi.FeedOptions{
		List: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			return api.List(ctx, o)
		},
		Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return api.Watch(ctx, o)
		},
	}
}

// loop makes passes.
func (l *leader) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for attempt := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
		if !pause(ctx, settle) {
			return
		}
		again, err := l.pass(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := passEvery
		if again > 0 {
			wait = min(wait, again)
		}
		if attempt++; err == nil {
			attempt = 0
		} else {
			wait = min(wait, retry(attempt-1))
		}
		l.set(func(st *Status) {
			if st.Err = err; !errors.Is(err, errBlind) {
				st.Passed = l.now()
			}
		})
		timer.Reset(wait)
	}
}

// errBlind says that there was no pass, since one side was not seen whole.
var errBlind = errors.New("no pass is made while not all is seen")

// pass compares and writes; it returns when to look again at what is held.
func (l *leader) pass(ctx context.Context) (time.Duration, error) {
	var unseen []error
	for _, f := range l.feeds {
		st := f.State()
		if !st.Synced && st.Err == nil {
			st.Err = fmt.Errorf("%s: not listed yet", f.Name())
		}
		unseen = append(unseen, st.Err)
	}
	state, err := l.fed.State()
	if err != nil {
		unseen = append(unseen, fmt.Errorf("federation: %w", err))
	}
	if err := errors.Join(unseen...); err != nil {
		l.metrics.passes.WithLabelValues("held").Inc()
		return 0, fmt.Errorf("%w: %w", errBlind, err)
	}
	p := &pass{
		leader: l, ctx: ctx, now: l.now(), state: state,
		services: l.allServices.all(), namespaces: l.allNamespaces.all(),
	}
	if l.config.Exports != nil {
		p.exports()
	}
	if l.config.Imports != nil {
		p.imports()
	}
	result := "ok"
	if p.err() != nil {
		result = "failed"
	}
	l.metrics.passes.WithLabelValues(result).Inc()
	return p.again, p.err()
}
