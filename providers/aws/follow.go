package aws

import (
	"context"
	"math/rand/v2"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/isthmus-mesh/isthmus/providers/aws/account"
	"github.com/isthmus-mesh/isthmus/providers/aws/autoscaling"
	"github.com/isthmus-mesh/isthmus/providers/aws/cloudmap"
	"github.com/isthmus-mesh/isthmus/providers/aws/ec2"
	"github.com/isthmus-mesh/isthmus/providers/aws/ecs"
	"github.com/isthmus-mesh/isthmus/providers/aws/elb"
	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

const (
	// readTimeout bounds one read of a unit: at the default rate, a thousand calls.
	readTimeout = 2 * time.Minute
	// maxSlowdown bounds how much less often a unit is asked that fails (interval
	// << 3): throttling needs room, recovery needs to be seen.
	maxSlowdown = 3
)

// follower follows one unit.
type follower struct {
	name    unit.Name
	account *account.Account
	// reader makes a reader for one Run.
	fresh func() unit.Reader
	// every is the wait between reads, full the one between full reads.
	every, full time.Duration
	kick        chan struct{}

	// The following are guarded by Source.mu.
	content *unit.Content
	read    time.Time
	err     error
	reason  string
	// changed: content differs from what was published; confirmed: it was read in
	// full since then.
	changed, confirmed bool
}

func (f *follower) reset() {
	f.content, f.read, f.err, f.reason, f.changed, f.confirmed = nil, time.Time{}, nil, "", false, false
}

// open adds the units of an account.
func (s *Source) open(a Account) {
	c := s.opts.Config
	acc := account.New(account.Options{
		Config: a.Config, Rate: c.Rate, CallTimeout: s.opts.CallTimeout, Backoff: s.opts.Backoff,
		APIOptions: s.opts.APIOptions,
		Observe: func(call account.Call) {
			s.metrics.calls.WithLabelValues(a.Name, call.Region, call.Service).Inc()
			if call.Err != nil && account.Reason(call.Err) == account.Throttled {
				s.metrics.throttled.WithLabelValues(a.Name, call.Region, call.Service).Inc()
			}
		},
	})
	s.accounts = append(s.accounts, acc)
	shape := unit.Shape{Namespace: c.Namespace, Address: c.Address, Labels: c.Labels}
	for _, region := range a.Regions {
		open := func(ctx context.Context) (awssdk.Config, error) { return acc.Config(ctx, region) }
		inventory := ec2.NewInventory(open)
		for _, k := range a.kinds() {
			name := unit.Name{Account: a.Name, Region: region, Kind: k.name}
			f := &follower{name: name, account: acc, every: c.Interval, full: c.Interval, kick: make(chan struct{}, 1)}
			switch k.name {
			case cloudmap.Kind:
				f.every = c.Revisions
				f.fresh = func() unit.Reader {
					return cloudmap.New(cloudmap.Options{Name: name, Shape: shape, Namespaces: a.CloudMap, Open: open, Inventory: inventory})
				}
			case ecs.Kind:
				f.fresh = func() unit.Reader {
					return ecs.New(ecs.Options{Name: name, Shape: shape, Clusters: a.ECS, Open: open, Inventory: inventory})
				}
			case elb.Kind:
				f.fresh = func() unit.Reader {
					return elb.New(elb.Options{Name: name, Shape: shape, Rules: a.TargetGroups, Open: open, Inventory: inventory})
				}
			case autoscaling.Kind:
				f.fresh = func() unit.Reader {
					return autoscaling.New(autoscaling.Options{Name: name, Shape: shape, Rules: a.AutoScaling, Open: open, Inventory: inventory})
				}
			case ec2.Kind:
				f.fresh = func() unit.Reader {
					return ec2.New(ec2.Options{Name: name, Shape: shape, Rules: a.EC2, Inventory: inventory})
				}
			}
			s.units = append(s.units, f)
		}
	}
}

// follow reads a unit until ctx ends.
func (s *Source) follow(ctx context.Context, f *follower) {
	reader := f.fresh()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var lastFull time.Time
	for failures := 0; ; {
		kicked := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-f.kick:
			kicked = true
		}
		full := kicked || lastFull.IsZero() || time.Since(lastFull) >= f.full
		began := time.Now()
		content, err := readOnce(ctx, reader, full)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failures++
			s.failed(f, err)
		} else {
			if failures = 0; full {
				lastFull = began
			}
			s.took(f, content, full)
		}
		timer.Reset(wait(f.every, failures, rand.Float64()))
	}
}

func readOnce(ctx context.Context, reader unit.Reader, full bool) (*unit.Content, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return reader.Read(ctx, full)
}

// wait is the time to the next read; random is uniform in [0, 1).
func wait(every time.Duration, failures int, random float64) time.Duration {
	return time.Duration(float64(every<<min(failures, maxSlowdown)) * (1 + Jitter*(2*random-1)))
}

// took keeps what a read found.
func (s *Source) took(f *follower, content *unit.Content, full bool) {
	s.metrics.reads.WithLabelValues(labelsOf(f.name)...).Inc()
	if full {
		for reason, n := range content.Rejected {
			s.metrics.rejected.WithLabelValues(labelsOf(f.name, reason)...).Add(float64(n))
		}
	}
	s.mu.Lock()
	changed := reuse(f.content, content)
	s.tellRejected(f, content)
	recovered := f.err != nil
	f.content, f.err, f.reason = content, nil, ""
	f.changed = f.changed || changed
	if full {
		f.confirmed, f.read = true, time.Now()
	}
	s.mu.Unlock()
	if recovered {
		s.log.Info("a unit can be read again", "path", f.name.String())
	}
	s.wake()
}

// tellRejected logs what is left out when its number changed.
func (s *Source) tellRejected(f *follower, content *unit.Content) {
	for _, reason := range unit.Reasons() {
		n, before := content.Rejected[reason], 0
		if f.content != nil {
			before = f.content.Rejected[reason]
		}
		if n > 0 && n != before {
			s.log.Warn("left out of the catalog what is no valid value in it", "path", f.name.String(), "reason", reason, "count", n)
		}
	}
}

// failed keeps what went wrong; what is known stays.
func (s *Source) failed(f *follower, err error) {
	reason := account.Reason(err)
	s.metrics.failures.WithLabelValues(labelsOf(f.name, reason)...).Inc()
	if reason == account.Credentials {
		f.account.Reopen() // files may hold others by now
	}
	s.mu.Lock()
	again := f.reason == reason
	f.err, f.reason = err, reason
	s.mu.Unlock()
	if !again {
		s.log.Warn("a unit cannot be read; what is known of it stays", "path", f.name.String(), "reason", reason, "err", err)
	}
}
