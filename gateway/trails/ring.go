package trails

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/account"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// MaxPlanBytes bounds what trails hold alive of plans, by estimate: when it is
	// reached the oldest trails go.
	MaxPlanBytes = 32 << 20
	// rateShare makes the most trails of a kind that are kept in a second a share of
	// how many are kept at all: a flood then still leaves that many seconds of itself.
	rateShare = 20
	// maxError bounds the text of an attempt's error.
	maxError = 256
)

// kind groups trails, each group in a ring of its own.
type kind int

const (
	notable kind = iota // failed, retried, slow
	traced
	sampled
	kinds
)

// Options configure a Ring.
type Options struct {
	Cluster catalog.ClusterName
	Gateway string
	// Share is the share of ordinary calls that is kept, 0 to 1.
	Share float64
	// Slow is how long a first word may take until the call is kept; 0: never for that.
	Slow time.Duration
	// Records is how many trails of each of the three kinds are kept.
	Records int
	// Random decides who is of the share; required.
	Random func() uint64
	// Registerer receives the metrics; nil registers none.
	Registerer prometheus.Registerer
}

// Ring keeps trails. It is safe for concurrent use.
type Ring struct {
	o       Options
	below   uint64 // random numbers that are of the share
	metrics *metrics

	mu    sync.Mutex
	rings [kinds]ring
	plans plans
}

// ring is the trails of one kind, the oldest at next once it is full.
type ring struct {
	calls []call
	next  int
	// second and kept bound the rate.
	second int64
	kept   int
}

// call is one kept call.
type call struct {
	id       uint64 // in order of their ends
	trail    route.Trail
	attempts []kept
}

// kept is one attempt of it.
type kept struct {
	plan    *slice
	record  route.Record
	choice  route.Choice
	attempt route.TrailAttempt // without the decision
}

// New returns an empty ring.
func New(o Options) (*Ring, error) {
	if o.Random == nil || o.Records <= 0 || !(o.Share >= 0 && o.Share <= 1) {
		return nil, errors.New("trails: random, records above 0 and a share from 0 to 1 are required")
	}
	r := &Ring{o: o, below: uint64(o.Share * (1 << 32))}
	var err error
	if r.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("trails: %w", err)
	}
	return r, nil
}

// Sample decides beforehand whether an ordinary call is of the share, so that the
// gateways on both sides of it can keep the same ones.
func (r *Ring) Sample() bool { return r.below > 0 && r.o.Random()>>32 < r.below }

// Ended takes a call at its end; account.Options.Ended is it.
func (r *Ring) Ended(e *account.Entry, took time.Duration) {
	why, k := r.judge(e)
	if why == "" {
		return
	}
	now := e.StartedAt().Add(took)
	r.mu.Lock()
	defer r.mu.Unlock()
	in := &r.rings[k]
	if second := now.Unix(); second != in.second {
		in.second, in.kept = second, 0
	}
	if in.kept++; in.kept > max(r.o.Records/rateShare, 1) {
		r.metrics.dropped.WithLabelValues(droppedRate).Inc()
		return
	}
	c := call{id: r.plans.tick(), trail: r.trail(e, took, why)}
	if e.Sequence != nil {
		for _, a := range e.Sequence.Trail() {
			c.attempts = append(c.attempts, r.keep(e, a))
		}
	}
	if len(in.calls) < r.o.Records {
		in.calls = append(in.calls, c)
	} else {
		r.release(&in.calls[in.next])
		in.calls[in.next] = c
		in.next = (in.next + 1) % len(in.calls)
	}
	r.metrics.kept.WithLabelValues(string(why)).Inc()
	for r.plans.bytes > MaxPlanBytes && r.dropOldest() {
		r.metrics.dropped.WithLabelValues(droppedBytes).Inc()
	}
	r.metrics.bytes.Set(float64(r.plans.bytes))
}

// judge says why a call is kept, "" if it is not.
func (r *Ring) judge(e *account.Entry) (route.TrailKept, kind) {
	switch e.Way {
	case account.WayControl, account.WayJoin, account.WayAdmin:
		return "", 0 // they are no calls
	}
	switch answered := e.AnsweredAfter(); {
	case e.Service.IsFederation():
		return "", 0
	case e.Reason != account.ReasonOK:
		return route.KeptFailed, notable
	case e.Attempts > 1:
		return route.KeptRetried, notable
	case r.o.Slow > 0 && answered > r.o.Slow:
		return route.KeptSlow, notable
	case e.Sampled:
		return route.KeptSampled, sampled
	case e.Trace.Sampled:
		return route.KeptTraced, traced
	}
	return "", 0
}

func (r *Ring) trail(e *account.Entry, took time.Duration, why route.TrailKept) route.Trail {
	t := route.Trail{
		Cluster: r.o.Cluster, Gateway: r.o.Gateway, Way: e.Way, TraceID: e.Trace.TraceID, RequestID: e.RequestID,
		Service: e.Service, Port: e.Port, Caller: e.Caller, Peer: e.Peer, Started: e.StartedAt(), Duration: took,
		Answered: max(e.AnsweredAfter(), 0), Reason: e.Reason, Status: e.Status,
		Sent: e.Sent.Load(), Received: e.Received.Load(), Kept: why,
	}
	if e.Peer != "" {
		t.PeerGateway = e.Gateway
	}
	if failed, ok := errors.AsType[*attempt.Error](e.Err); ok {
		t.Rule = failed.Rule
	}
	return t
}

func (r *Ring) keep(e *account.Entry, a *attempt.Attempt) kept {
	of := a.Kept()
	k := kept{
		plan: r.plans.hold(of.Plan, e.Service), record: a.Record, choice: a.Choice,
		attempt: route.TrailAttempt{Began: of.Began, Took: of.Took, Predicted: a.Prediction().First, Outcome: of.Outcome},
	}
	k.choice.Counters, k.choice.EndpointCounters, k.choice.Traffic = nil, nil, nil
	if k.attempt.Outcome == "" {
		k.attempt.Outcome = e.Reason // given up before its end
	}
	if e.Peer == "" && a.Choice.Status == route.OK && a.Choice.Target.Cluster == e.Cluster && of.Outcome == attempt.OutcomeOK {
		k.attempt.Gateway = e.Gateway
	}
	if of.Gateway != "" {
		k.attempt.Gateway = of.Gateway
	}
	if of.Err != nil {
		text := of.Err.Error()
		k.attempt.Error = text[:min(len(text), maxError)]
	}
	return k
}

func (r *Ring) release(c *call) {
	for i := range c.attempts {
		r.plans.release(c.attempts[i].plan)
	}
	*c = call{}
}

// dropOldest forgets what the oldest trail holds, and reports whether there was one.
func (r *Ring) dropOldest() bool {
	var oldest *call
	for k := range r.rings {
		in := &r.rings[k]
		for i := range in.calls {
			c := &in.calls[(in.next+i)%len(in.calls)]
			if c.id == 0 {
				continue // dropped before
			}
			if oldest == nil || c.id < oldest.id {
				oldest = c
			}
			break
		}
	}
	if oldest == nil {
		return false
	}
	r.release(oldest)
	return true
}
