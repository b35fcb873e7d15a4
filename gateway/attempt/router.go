package attempt

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/drill"
	"github.com/isthmus-mesh/isthmus/gateway/flow"
	"github.com/isthmus-mesh/isthmus/gateway/retry"
	"github.com/isthmus-mesh/isthmus/gateway/wire"
	"github.com/prometheus/client_golang/prometheus"
)

// Board is what calls are decided by; *board.Board is one.
type Board interface {
	// Plan is the plan in force, nil before the first table.
	Plan() *route.Plan
	// Observe takes the outcome of an attempt; certain: nothing was there to take it.
	Observe(target route.Target, endpoint *route.EndpointKey, outcome route.Outcome, certain bool)
}

// Options configure a Router.
type Options struct {
	Board Board
	// Reachable reports whether a link to the cluster is up at this moment, which
	// the plan learns a little later; nil means yes.
	Reachable func(catalog.ClusterName) bool
	// Judged is told of every verdict about a call to a service of the own cluster,
	// but for connections that only bring requests which are judged one by one. Nil:
	// nobody is told.
	Judged func(*Judgement)
	// Drill follows calls that a drill concerns; nil follows none.
	Drill *drill.Monitor
	// Flow holds the limits; nil limits nothing.
	Flow *flow.Controller
	// Random drives choices and jitter.
	Random func() uint64
	// Now is the clock; nil means the real one.
	Now func() time.Time
	// Log receives retries at debug; nil discards them.
	Log *slog.Logger
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Router starts sequences. It holds the retry budgets.
type Router struct {
	o       Options
	log     *slog.Logger
	budgets retry.Budgets
	metrics *metrics
	guards  guards
}

// New returns a Router.
func New(o Options) (*Router, error) {
	if o.Board == nil || o.Random == nil {
		return nil, errors.New("attempt: board and random are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Reachable == nil {
		o.Reachable = func(catalog.ClusterName) bool { return true }
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	return &Router{o: o, log: log, metrics: m}, nil
}

// Retire forgets the series of services that keep says no to, and their budgets when
// those are idle.
func (r *Router) Retire(keep func(catalog.ServiceName) bool) {
	for _, service := range r.budgets.Prune(keep, r.o.Now()) {
		labels := prometheus.Labels{"service": service.String()}
		r.metrics.retries.DeletePartialMatch(labels)
		r.metrics.exhausted.DeletePartialMatch(labels)
		r.metrics.shed.DeletePartialMatch(labels)
	}
}

// countRetry and countExhausted leave out a service that has gone meanwhile, so
// that a late retry does not bring its series back.
func (r *Router) countRetry(service catalog.ServiceName, reason string) {
	if r.budgets.Has(service) {
		r.metrics.retries.WithLabelValues(service.String(), reason).Inc()
	}
}

func (r *Router) countShed(c *Call, fromPeer bool) {
	if r.budgets.Has(c.Service) {
		side := "own"
		if fromPeer {
			side = "peer"
		}
		r.metrics.shed.WithLabelValues(c.Service.String(), side, c.Priority.String()).Inc()
	}
}

func (r *Router) countExhausted(service catalog.ServiceName) {
	if r.budgets.Has(service) {
		r.metrics.exhausted.WithLabelValues(service.String()).Inc()
	}
}

// Call is what a caller asks for.
type Call struct {
	Service catalog.ServiceName
	// Port is a port name, "" for the only or default one.
	Port string
	// Pin restricts the call to one cluster.
	Pin catalog.ClusterName
	// Bytes is the request's size, where it is known before it is sent; 0 is not.
	Bytes int64
	// Caller is the SPIFFE ID of who asks.
	Caller string
	// Priority says how early the call is refused where not all fit. Start gives it;
	// of a call that a peer's gateway brings, it is what that gateway says, and
	// StartInbound lowers it to what is believed of that peer.
	Priority route.Priority
	// HTTP is the request as intentions judge it; nil of a connection. It is not
	// changed while the call lasts.
	HTTP *policy.HTTPRequest
	// Assurance says how Caller is known; AssuranceNone of a caller is that of the
	// listener.
	Assurance wire.Assurance
	// Source is the address of who asks, without a port; "" where it is not known.
	Source string
	// Subset and Hash are what a peer's gateway says of the call: the labels of the part
	// that it is for, and the hash of its key. Of a caller in this cluster they follow
	// from the traffic policy.
	Subset string
	Hash   uint64
}

// Judgement is a verdict and what it was about. It is not kept.
type Judgement struct {
	*Call
	// Peer is the cluster whose gateway brought the call, "" of a caller in this one.
	Peer    catalog.ClusterName
	Verdict route.Verdict
	// Epoch and Version are those of the table that it was judged by.
	Epoch, Version uint64
}

// Ask is the question that was judged.
func (j *Judgement) Ask() *route.Ask { return j.ask() }

func (c *Call) ask() *route.Ask {
	return &route.Ask{Service: c.Service, Port: c.Port, Caller: c.Caller, HTTP: c.HTTP}
}

// Start authorizes a call of a caller in this cluster. The error is *Error.
func (r *Router) Start(c Call) (*Sequence, error) {
	plan := r.o.Board.Plan()
	if plan == nil {
		return nil, &Error{Reason: ReasonNoTable, Service: c.Service}
	}
	v := plan.AuthorizeOutbound(c.ask())
	if r.tell(plan, &c, "", v); !v.Allowed {
		return nil, refusal(&c, v)
	}
	if limited := r.admit(plan, &c, ""); limited != nil {
		return nil, limited
	}
	c.Priority = plan.PriorityOf(c.ask())
	s := &Sequence{router: r, call: c, table: plan.Table(), most: route.MaxTried - 1}
	s.cookie = s.call.follow(plan.Traffic(c.Service), r.o.Random)
	return r.begin(s), nil
}

// StartInbound authorizes a call that a peer's gateway carries. Its attempts go to
// endpoints of the own cluster only, two at most. The error is *Error.
func (r *Router) StartInbound(c Call, peer catalog.ClusterName) (*Sequence, error) {
	plan := r.o.Board.Plan()
	if plan == nil {
		return nil, &Error{Reason: ReasonNoTable, Service: c.Service}
	}
	v := plan.AuthorizeInbound(peer, c.ask())
	if r.tell(plan, &c, peer, v); !v.Allowed {
		return nil, refusal(&c, v)
	}
	if limited := r.admit(plan, &c, peer); limited != nil {
		return nil, limited
	}
	c.Priority = plan.Believed(peer, c.Priority)
	return r.begin(&Sequence{router: r, call: c, peer: peer, table: plan.Table(), local: true, most: 1}), nil
}

// tell hands on a verdict of the own cluster's rules.
func (r *Router) tell(plan *route.Plan, c *Call, peer catalog.ClusterName, v route.Verdict) {
	if r.o.Judged == nil || !plan.Hosts(c.Service) || v.Allowed && c.HTTP == nil && plan.CarriesHTTP(c.Service, c.Port) {
		return
	}
	t := plan.Table()
	r.o.Judged(&Judgement{Call: c, Peer: peer, Verdict: v, Epoch: t.Epoch, Version: t.Version})
}

func (r *Router) begin(s *Sequence) *Sequence {
	s.budget = r.budgets.Of(s.call.Service)
	s.budget.Call(r.o.Now())
	return s
}

func refusal(c *Call, v route.Verdict) *Error {
	return &Error{
		Reason: v.Reason, Rule: v.Rule, Service: c.Service,
		Denied: v.Reason != route.ReasonUnknownService && v.Reason != route.ReasonAmbiguousPath,
	}
}

type metrics struct {
	retries   *prometheus.CounterVec
	exhausted *prometheus.CounterVec
	withdrawn *prometheus.CounterVec
	shed      *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_retries_total", Help: "Extra attempts of calls, by what the attempt before failed of.",
		}, []string{"service", "reason"}),
		exhausted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_retry_budget_exhausted_total", Help: "Retries that were not made because the service's budget was used up.",
		}, []string{"service"}),
		withdrawn: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_withdrawn_total", Help: "Calls in progress that were ended because a new table no longer allows them, by reason.",
		}, []string{"reason"}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "isthmus_gateway_shed_total", Help: "Calls that were refused because what could take them is at its declared or granted capacity, by whose they were (own, peer) and by priority.",
		}, []string{"service", "side", "priority"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.retries, m.exhausted, m.withdrawn, m.shed} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("attempt metrics: %w", err)
		}
	}
	return m, nil
}
