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
	// patience is how long a feed that is in trouble holds the others back: after an
	// outage the one that is back first knows of slices that went with their service,
	// and not of the service. Endpoints' health must not wait for longer.
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
	// troubled is how many feeds are in trouble, since when it is no more than that.
	troubled int
	since    time.Time
}

func newRun(s *Source, client kubernetes.Interface) (*run, error) {
	empty, err := catalog.NewSnapshot(s.opts.Name, nil)
	if err != nil {
		return nil, err
	}
	r := &run{
		Source: s, objects: newObjects(s.opts.Config.NamespaceSelector != ""), wake: make(chan struct{}, 1),
		last: empty, pending: map[key]bool{}, first: true,
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

// next returns what is to be published, if anything, or how long to wait for a feed
// that is in trouble.
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
	wait := r.hold(now, troubled)
	if !synced || wait > 0 {
		return nil, wait
	}
	next, err := r.apply()
	r.note(err)
	repeat := r.repeat && fresh
	if err != nil || (next == r.last && !r.first && !repeat) {
		return nil, 0
	}
	r.last, r.first = next, false
	if repeat {
		r.repeat = false
	}
	return next, 0
}

// hold says how long feeds in trouble still hold the others back. When one of
// several is well again the others have reason to try at once, and get the time to.
func (r *run) hold(now time.Time, troubled []*kubeapi.Feed) time.Duration {
	n := len(troubled)
	switch {
	case n == 0:
		r.troubled = 0
		return 0
	case r.troubled == 0:
		r.since = now
	case n < r.troubled:
		r.since = now
		for _, f := range troubled {
			f.Reread()
		}
	}
	r.troubled = n
	return patience - now.Sub(r.since)
}

// apply converts what changed; it returns the last snapshot where nothing did.
func (r *run) apply() (*catalog.Snapshot, error) {
	for _, k := range r.objects.take() {
		r.pending[k] = true
	}
	if len(r.pending) == 0 {
		return r.last, nil
	}
	nodes := r.objects.nodesNow()
	var upserts []*catalog.Service
	var removes []catalog.ServiceName
	for k := range r.pending {
		name, err := catalog.NewServiceName(k.Name, k.Namespace)
		if err != nil {
			continue // Kubernetes lets none of these be made
		}
		now, was := r.service(k, nodes), r.last.Get(name)
		switch {
		case now == nil && was != nil:
			removes = append(removes, name)
		case now != nil && (was == nil || !sameService(was, now)):
			upserts = append(upserts, now)
		}
	}
	next := r.last
	if len(upserts)+len(removes) > 0 {
		var err error
		if next, err = r.last.With(upserts, removes); err != nil {
			return nil, fmt.Errorf("kubernetes: %w", err)
		}
	}
	clear(r.pending)
	return next, nil
}

func (r *run) service(k key, nodes map[string]catalog.Locality) *catalog.Service {
	if slices.Contains(r.opts.Config.ExcludeNamespaces, k.Namespace) {
		return nil
	}
	svc, of := r.objects.of(k)
	if svc == nil {
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
