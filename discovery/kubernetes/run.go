package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
)

const (
	// settle lets changes that come together be published together.
	settle = 20 * time.Millisecond
	// patience is how long a Service without any slice is left as it was. Services and
	// slices come by two watches, of which one may be ahead, after an outage by much: a
	// Service that has just been made, or has just gone, looks like that. One that stays
	// without endpoints has a slice that lists none.
	patience = 5 * time.Second
)

// run is the state of one Run; all but objects is the loop's own.
type run struct {
	*Source
	objects *objects
	feeds   []*kubeapi.Feed
	wake    chan struct{}
	last    *catalog.Snapshot
	// pending are services that changed and are in no snapshot yet.
	pending map[key]bool
	// first publishes also what is empty; repeat, once all was listed again, also what
	// did not change: the answer to a Reread.
	first, repeat bool
	// bare are those of them that have no slice, and since when.
	bare map[key]time.Time
	// troubled is how many feeds were in trouble when they were last looked at.
	troubled int
}

func newRun(s *Source, client kubernetes.Interface) (*run, error) {
	empty, err := catalog.NewSnapshot(s.opts.Name, nil)
	if err != nil {
		return nil, err
	}
	r := &run{
		Source: s, objects: newObjects(s.opts.Config.NamespaceSelector != ""), wake: make(chan struct{}, 1),
		last: empty, pending: map[key]bool{}, bare: map[key]time.Time{}, first: true,
	}
	r.follow(client)
	return r, nil
}

// follow makes the feeds.
func (r *run) follow(client kubernetes.Interface) {
	c := r.opts.Config
	namespaces := c.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, ns := range namespaces {
		services, slicesOf := client.CoreV1().Services(ns), client.DiscoveryV1().EndpointSlices(ns)
		of := ""
		if ns != "" {
			of = " of namespace " + ns
		}
		r.feed("services"+of, &corev1.Service{}, serviceStore{r.objects, ns}, selecting(c.ServiceSelector, services))
		r.feed("endpointslices"+of, &discoveryv1.EndpointSlice{}, sliceStore{r.objects, ns}, selecting("", slicesOf))
	}
	if c.NamespaceSelector != "" {
		api := client.CoreV1().Namespaces()
		r.feed("namespaces", &corev1.Namespace{}, namespaceStore{r.objects}, selecting(c.NamespaceSelector, api))
	}
	if c.Nodes != nil {
		api := client.CoreV1().Nodes()
		r.feed("nodes", &corev1.Node{}, nodeStore{r.objects, *c.Nodes}, selecting("", api))
	}
}

func (r *run) feed(name string, of runtime.Object, store kubeapi.Store, calls kubeapi.FeedOptions) {
	calls.Name, calls.Type, calls.Store, calls.Changed = name, of, store, r.changed
	r.feeds = append(r.feeds, kubeapi.NewFeed(calls))
}

// lister is a client's way to one kind of object.
type lister[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// selecting are a client's calls with a label selector.
func selecting[L runtime.Object](selector string, api lister[L]) kubeapi.FeedOptions {
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

func (r *run) changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// loop publishes what changed.
func (r *run) loop(ctx context.Context, publish discovery.Publish) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.reread:
			r.repeat = true
			for _, f := range r.feeds {
				f.Reread()
			}
		case <-r.wake:
		case <-timer.C:
		}
		timer.Reset(settle)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next, wait := r.next(time.Now())
		if next != nil {
			publish(next)
		}
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// next returns what is to be published, if anything, and when to look again, if ever.
func (r *run) next(now time.Time) (*catalog.Snapshot, time.Duration) {
	synced, fresh := true, true
	var troubled []*kubeapi.Feed
	for _, f := range r.feeds {
		st := f.State()
		synced, fresh = synced && st.Synced, fresh && st.Fresh
		if st.Err != nil {
			troubled = append(troubled, f)
		}
	}
	if len(troubled) < r.troubled { // where one is well again, the others need not back off
		for _, f := range troubled {
			f.Reread()
		}
	}
	if r.troubled = len(troubled); !synced {
		return nil, 0
	}
	next, wait, err := r.apply(now)
	r.note(err)
	repeat := r.repeat && fresh
	if err != nil || (next == r.last && !r.first && !repeat) {
		return nil, wait
	}
	r.last, r.first = next, false
	if repeat {
		r.repeat = false
	}
	return next, wait
}

// apply converts what changed; it returns the last snapshot where nothing did.
func (r *run) apply(now time.Time) (next *catalog.Snapshot, wait time.Duration, err error) {
	for _, k := range r.objects.take() {
		r.pending[k] = true
	}
	if len(r.pending) == 0 {
		return r.last, 0, nil
	}
	nodes := r.objects.nodesNow()
	var upserts []*catalog.Service
	var removes []catalog.ServiceName
	bare := map[key]time.Time{}
	for k := range r.pending {
		name, err := catalog.NewServiceName(k.Name, k.Namespace)
		if err != nil {
			continue // Kubernetes lets none of these be made
		}
		svc, of := r.objects.of(k)
		if svc != nil && len(of) == 0 && !r.first {
			since, known := r.bare[k]
			if !known {
				since = now
			}
			if left := patience - now.Sub(since); left > 0 {
				if bare[k] = since; wait == 0 || left < wait {
					wait = left
				}
				continue
			}
		}
		is, was := r.convert(k, svc, of, nodes), r.last.Get(name)
		switch {
		case is == nil && was != nil:
			removes = append(removes, name)
		case is != nil && (was == nil || !sameService(was, is)):
			upserts = append(upserts, is)
		}
	}
	next = r.last
	if len(upserts)+len(removes) > 0 {
		if next, err = r.last.With(upserts, removes); err != nil {
			return nil, 0, fmt.Errorf("kubernetes: %w", err) // all of it stays pending
		}
	}
	clear(r.pending)
	r.bare = bare
	for k := range bare {
		r.pending[k] = true
	}
	return next, wait, nil
}

// convert is nil where there is no such service, or it is left out.
func (r *run) convert(k key, svc *corev1.Service, of []*discoveryv1.EndpointSlice, nodes map[string]catalog.Locality) *catalog.Service {
	if svc == nil || slices.Contains(r.opts.Config.ExcludeNamespaces, k.Namespace) {
		r.tellRejected(k.String(), nil)
		return nil
	}
	s, bad := r.opts.Config.convert(svc, of, nodes)
	r.tellRejected(k.String(), bad)
	return s
}

// sameService compares with one that is in a snapshot, thus in order.
func sameService(was, now *catalog.Service) bool {
	now = now.Clone()
	slices.SortFunc(now.Ports, func(a, b catalog.Port) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(now.Endpoints, catalog.Endpoint.Compare)
	return was.Equal(now)
}
