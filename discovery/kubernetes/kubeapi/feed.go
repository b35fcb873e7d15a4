package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// The waits after requests that failed: client-go's own, but for the longest, which is
// how long a cluster is not followed after its server is back.
const (
	backoffMin   = 800 * time.Millisecond
	backoffMax   = 10 * time.Second
	backoffSteps = 10
)

// MaxObjects bounds what one Feed holds: a service of the largest catalog has a few
// slices.
const MaxObjects = 200_000

// Store takes what a Feed reads; its methods are called by one goroutine at a time.
type Store interface {
	// Replace is told by a complete list: what is not in it is gone.
	Replace(objects []runtime.Object)
	Put(object runtime.Object)
	Delete(object runtime.Object)
}

// FeedOptions configure a Feed.
type FeedOptions struct {
	// Name of what is read, for errors: "endpointslices of namespace shop".
	Name string
	// List and Watch are a client's methods.
	List  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	Watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
	// Type of the objects.
	Type  runtime.Object
	Store Store
	// Max bounds the objects; 0 is MaxObjects.
	Max int
	// Changed is called after every change of the feed's state; it returns at once.
	Changed func()
}

// Feed keeps a Store like a list of the API server, by list and watch.
type Feed struct {
	opts FeedOptions
	kick chan struct{}

	mu     sync.Mutex
	synced bool // a complete list has been stored
	fresh  bool // ... since the last Reread
	heard  time.Time
	// listErr and watchErr are apart: a list that succeeds says nothing of a watch
	// that is refused.
	listErr, watchErr error
	failures          uint64
	listed            int // objects on the pages of a list that is being read

	held map[types.NamespacedName]struct{} // what the Store holds; the reflector's
}

// NewFeed makes a feed that reads nothing before Run.
func NewFeed(o FeedOptions) *Feed {
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Max == 0 {
		o.Max = MaxObjects
	}
	return &Feed{opts: o, kick: make(chan struct{}, 1), held: map[types.NamespacedName]struct{}{}}
}

// State is a Feed's account of itself.
type State struct {
	// Synced says that a complete list has been stored, Fresh that one has been
	// since the last Reread.
	Synced, Fresh bool
	// Heard is when the server last said something that counts.
	Heard time.Time
	// Failures counts what went wrong ever, Err is what is wrong now.
	Failures uint64
	Err      error
}

// Name says what is read.
func (f *Feed) Name() string { return f.opts.Name }

// State returns the account.
func (f *Feed) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return State{f.synced, f.fresh, f.heard, f.failures, errors.Join(f.listErr, f.watchErr)}
}

// Reread makes the feed list everything anew.
func (f *Feed) Reread() {
	f.mu.Lock()
	f.fresh = false
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default: // asked for already
	}
}

// Run reads until ctx ends.
func (f *Feed) Run(ctx context.Context) {
	ctx = klog.NewContext(ctx, logr.Discard()) // what fails is told by State
	for ctx.Err() == nil {
		once, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { f.reflect(once) })
		select {
		case <-ctx.Done():
		case <-f.kick:
		}
		cancel()
		wg.Wait()
	}
}

func (f *Feed) reflect(ctx context.Context) {
	log := logr.Discard()
	lw := &cache.ListWatch{ListWithContextFunc: f.list, WatchFuncWithContext: f.watch}
	r := cache.NewReflectorWithOptions(lw, f.opts.Type, (*sink)(f), cache.ReflectorOptions{
		Logger: &log, Name: f.opts.Name, TypeDescription: f.opts.Name,
		Backoff: &wait.Backoff{Duration: backoffMin, Cap: backoffMax, Steps: backoffSteps, Factor: 2, Jitter: 1},
	})
	r.RunWithContext(ctx)
}

// list reads one page.
func (f *Feed) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.ResourceVersion == "0" {
		// "whatever the server's cache holds" may be older than what was known
		// before; unset means the newest.
		o.ResourceVersion, o.ResourceVersionMatch = "", ""
	}
	page, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := f.opts.List(page, o)
	if err == nil && ctx.Err() == nil {
		err = f.count(list, o.Continue != "")
	}
	if err != nil && ctx.Err() == nil {
		f.failed(&f.listErr, err)
	}
	return list, err
}

// watch opens a watch; one that streams the list first (WatchList) counts once it
// has said that the list is complete.
func (f *Feed) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	streams := o.SendInitialEvents != nil && *o.SendInitialEvents
	w, err := f.opts.Watch(ctx, o)
	if err != nil {
		// One that does not stream (its etcd is old) says that the request is invalid;
		// the reflector then lists.
		if ctx.Err() == nil && (!streams || !apierrors.IsInvalid(err)) {
			f.failed(&f.watchErr, err)
		}
		return nil, err
	}
	if !streams {
		f.ok(&f.watchErr)
	}
	return newTap(ctx, w, f, streams), nil
}

// count adds up the pages of a list, which are all kept until the last one is there.
func (f *Feed) count(page runtime.Object, further bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !further {
		f.listed = 0
	}
	f.listed += meta.LenList(page)
	return f.bound(f.listed)
}

// bound is an error where that many objects are too many.
func (f *Feed) bound(n int) error {
	if n <= f.opts.Max {
		return nil
	}
	return fmt.Errorf("there are %d objects or more, at most %d", n, f.opts.Max)
}

func (f *Feed) failed(slot *error, err error) {
	f.mu.Lock()
	*slot = fmt.Errorf("%s: %w", f.opts.Name, err)
	f.failures++
	f.mu.Unlock()
	f.opts.Changed()
}

func (f *Feed) ok(slot *error) {
	f.mu.Lock()
	*slot, f.heard = nil, time.Now()
	f.mu.Unlock()
	f.opts.Changed()
}

// hear notes a sign of life.
func (f *Feed) hear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = time.Now()
}
