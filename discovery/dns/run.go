package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
)

const (
	// namesAtOnce bounds the names that are resolved at the same time.
	namesAtOnce = 16
	// jitter is the share of a TTL by which the next query may come later, so that
	// names that were read together do not stay together.
	jitter = 0.1
)

// name is one entry of the configuration, and how it is.
type name struct {
	service Service
	due     time.Time
	// busy is set while it is resolved; again if a reread waits for it, late if it
	// was busy when that was asked for, so that it has to be resolved once more.
	busy, again, late bool
	read              bool
	failures          int
	err               error
	last              resolved
}

// outcome is what resolving a name came to.
type outcome struct {
	name     *name
	resolved resolved
	err      error
}

// Run implements discovery.Source; it returns nil after ctx has ended.
func (s *Source) Run(ctx context.Context, publish discovery.Publish) error {
	ctx, cancel := context.WithCancel(ctx)
	r := &run{Source: s, publish: publish, outcomes: make(chan outcome)}
	defer r.workers.Wait()
	defer cancel()
	now := time.Now()
	for _, service := range s.opts.Config.Services {
		r.names = append(r.names, &name{service: service, due: now})
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(r.start(ctx, time.Now()))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.kick:
			r.reread(time.Now())
		case o := <-r.outcomes:
			r.took(ctx, time.Now(), o)
		}
	}
	return nil
}

// run is one Run.
type run struct {
	*Source
	publish  discovery.Publish
	names    []*name
	outcomes chan outcome
	workers  sync.WaitGroup
	busy     int
	last     *catalog.Snapshot
	// rereading counts the names of a reread that are not read yet; all of them
	// together are a complete read, to be published also if nothing changed.
	rereading int
	good      bool
	// senseless says of names that were read why they are not shown.
	senseless error
}

// start resolves names that are due, and returns how long until the next is.
func (r *run) start(ctx context.Context, now time.Time) time.Duration {
	wait := maxMaxTTL
	for _, n := range r.names {
		if n.busy {
			continue
		}
		if d := n.due.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		if r.busy >= namesAtOnce {
			continue // the next outcome makes room
		}
		n.busy = true
		r.busy++
		r.workers.Go(func() {
			resolved, err := r.asker.resolve(ctx, n.service)
			select {
			case r.outcomes <- outcome{n, resolved, err}:
			case <-ctx.Done():
			}
		})
	}
	return wait
}

func (r *run) reread(now time.Time) {
	r.good, r.rereading = false, len(r.names)
	for _, n := range r.names {
		n.due, n.again, n.late = now, true, n.busy
	}
}

// took takes what became of a name.
func (r *run) took(ctx context.Context, now time.Time, o outcome) {
	n := o.name
	n.busy = false
	r.busy--
	if ctx.Err() != nil {
		return
	}
	if n.err = o.err; o.err == nil {
		n.read, n.failures, n.last = true, 0, o.resolved
		for reason, count := range o.resolved.left {
			r.metrics.left.WithLabelValues(reason).Add(float64(count))
		}
		n.due = now.Add(r.keep(o.resolved.ttl, rand.Float64()))
	} else {
		n.due = now.Add(r.retry(n.failures, rand.Float64()))
		n.failures++
	}
	whole := false
	if n.late {
		n.late, n.due = false, now
	} else if n.again {
		n.again = false
		r.rereading--
		r.good = r.good || o.err == nil
		whole = r.rereading == 0 && r.good
	}
	var next *catalog.Snapshot
	if o.err == nil || whole {
		next = r.next(whole)
	}
	r.report(r.names, r.senseless)
	if next != nil {
		r.last = next
		r.publish(next)
	}
}

// keep is how long an answer is used; random is uniform in [0, 1).
func (s *Source) keep(ttl time.Duration, random float64) time.Duration {
	d := min(max(ttl, s.opts.Config.MinTTL), s.opts.Config.MaxTTL)
	return d + time.Duration(random*jitter*float64(d))
}

// retry is how long a name that failed rests: longer each time.
func (s *Source) retry(failures int, random float64) time.Duration {
	d := min(s.opts.Config.MinTTL<<min(failures, 16), s.opts.Config.MaxTTL)
	return d/2 + time.Duration(random*float64(d/2))
}

// next is what is to be published, once every name was read: nil where nothing of it
// changed, unless whole is set.
func (r *run) next(whole bool) *catalog.Snapshot {
	services := map[catalog.ServiceName]*catalog.Service{}
	for _, n := range r.names {
		if !n.read {
			return nil
		}
		if !n.last.exists {
			continue
		}
		s := services[n.service.Service]
		if s == nil {
			s = &catalog.Service{Name: n.service.Service}
			services[s.Name] = s
		}
		s.Ports = append(s.Ports, catalog.Port{Name: n.service.PortName, Protocol: n.service.Protocol})
		for _, e := range n.last.endpoints {
			e.Locality = r.opts.Locality
			s.Endpoints = append(s.Endpoints, e)
		}
	}
	all := make([]*catalog.Service, 0, len(services))
	for _, s := range services {
		all = append(all, s)
	}
	all, senseless := r.sound(all)
	next, err := catalog.NewSnapshot(r.opts.Name, all)
	if err == nil && r.last != nil {
		d := catalog.Diff(r.last, next)
		if d.IsEmpty() && !whole {
			next = nil
		} else {
			next, err = r.last.With(d.Upserts, d.Removes)
		}
	}
	before := r.senseless
	if r.senseless = errors.Join(senseless, err); r.senseless != nil && before == nil {
		r.log.Warn("what some names have is no catalog", "err", r.senseless)
	}
	if err != nil {
		return nil
	}
	return next
}

// sound are the services that a catalog takes; of another one stays what was shown
// last, if anything, so that nobody else's names wait for it.
func (r *run) sound(all []*catalog.Service) (sound []*catalog.Service, err error) {
	var errs []error
	for _, s := range all {
		if err := s.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: what its names have is no service: %w", s.Name, err))
			if r.last == nil || r.last.Get(s.Name) == nil {
				continue
			}
			s = r.last.Get(s.Name).Clone()
		}
		sound = append(sound, s)
	}
	return sound, joined(errs)
}
