package mcs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// agent is how the API server's logs call a Sync.
const agent = "isthmus-source/kubernetes-sync"

// The Lease: who holds it renews it every renewEvery, and who does not for leaseFor has
// lost it. They are Kubernetes' own components'.
const (
	leaseFor    = 15 * time.Second
	renewWithin = 10 * time.Second
	renewEvery  = 2 * time.Second
)

// Options of New.
type Options struct {
	Config     Config
	Federation Federation
	// Identity is unique among the processes that share the Lease.
	Identity   string
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Sync keeps both sides alike.
type Sync struct {
	config   Config
	fed      Federation
	identity string
	log      *slog.Logger
	metrics  *metrics
	now      func() time.Time
	wake     chan struct{}

	mu     sync.Mutex
	status Status
	told   told
}

// told is what was logged last: a problem's words change with every attempt, so that
// its kind and time decide.
type told struct {
	problem, blind bool
	at             time.Time
}

// tellEvery is how often a problem that lasts is logged.
const tellEvery = time.Minute

// Status is what a Sync says of itself.
type Status struct {
	Leading bool
	// Passed is when the last pass ended that saw both sides, Err what it could not
	// write, or why there was none since.
	Passed time.Time
	Err    error
}

// New checks the configuration; it connects to nothing.
func New(o Options) (*Sync, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, strictyaml.Within("kubernetes-sync", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	conf := o.Config.WithDefaults()
	s := &Sync{
		config: conf, fed: o.Federation, identity: o.Identity, log: o.Log, metrics: newMetrics(conf.Owner), now: o.Now,
		wake: make(chan struct{}, 1),
	}
	if err := s.metrics.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("kubernetes-sync metrics: %w", err)
	}
	return s, nil
}

// Kick asks for a pass soon: the federation's state has changed.
func (s *Sync) Kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Status returns it.
func (s *Sync) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// set changes the status and logs a problem that is new.
func (s *Sync) set(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
	is := told{problem: s.status.Err != nil, blind: errors.Is(s.status.Err, errBlind), at: s.now()}
	switch was := s.told; {
	case is.problem && (!was.problem || is.blind != was.blind || is.at.Sub(was.at) >= tellEvery):
		s.log.Warn("the cluster and the federation are not alike", "err", s.status.Err)
		s.told = is
	case !is.problem && was.problem:
		s.log.Info("the cluster and the federation are alike again")
		s.told = is
	}
	if s.status.Leading {
		s.metrics.leading.Set(1)
	} else {
		s.metrics.leading.Set(0)
	}
}

// Run takes the Lease, whenever nobody has it, and works while it holds it, until ctx
// ends. It returns an error only where the configuration's files cannot be used.
func (s *Sync) Run(ctx context.Context) error {
	conf, err := s.config.REST(agent)
	if err != nil {
		return fmt.Errorf("kubernetes-sync: %w", err)
	}
	httpClient, err := kubeapi.Client(conf)
	if err != nil {
		return fmt.Errorf("kubernetes-sync: %w", err)
	}
	defer httpClient.CloseIdleConnections()
	clients, err := newClients(conf, httpClient)
	if err != nil {
		return fmt.Errorf("kubernetes-sync: %w", err)
	}
	ctx = klog.NewContext(ctx, logr.Discard()) // what fails is told by Status
	for ctx.Err() == nil {
		if err := s.term(ctx, clients); err != nil {
			return err
		}
	}
	return nil
}

// clients of one API server.
type clients struct {
	typed   *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
}

func newClients(conf *rest.Config, httpClient *http.Client) (c clients, err error) {
	if c.typed, err = kubernetes.NewForConfigAndClient(conf, httpClient); err != nil {
		return c, err
	}
	c.dynamic, err = dynamic.NewForConfigAndClient(conf, httpClient)
	return c, err
}

// term waits for the Lease and leads until it is lost.
func (s *Sync) term(ctx context.Context, c clients) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	lock := &lease{sync: s, LeaseLock: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: s.config.Lease.Namespace, Name: s.config.Lease.Name},
		Client:     c.typed.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: s.identity},
	}}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: leaseFor, RenewDeadline: renewWithin, RetryPeriod: renewEvery, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer close(done)
				s.set(func(st *Status) { st.Leading = true })
				s.lead(ctx, c)
			},
			OnStoppedLeading: func() { s.set(func(st *Status) { st.Leading = false }) },
		},
	})
	if err != nil {
		return fmt.Errorf("kubernetes-sync: %w", err)
	}
	elector.Run(ctx)
	cancel()
	if lock.held.Load() {
		<-done
	}
	return nil
}
