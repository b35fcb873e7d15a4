package cloudmap

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-mesh/isthmus/providers/aws/unit"
)

// Kind is the unit's kind.
const Kind = "cloud-map"

const (
	// maxInstances is AWS's bound of DiscoverInstances and of the instances that a
	// service can have: what it returns is all.
	maxInstances = 1000
	// atOnce bounds the questions that are open at a time.
	atOnce = 8
	// believeAfter is how many answers in a row with an old revision are needed
	// before one is believed: a service that was deleted and made anew starts over.
	believeAfter = 3
)

// Options of New.
type Options struct {
	Name       unit.Name
	Shape      unit.Shape
	Namespaces Namespaces
	Open       func(context.Context) (aws.Config, error)
	Inventory  unit.Inventory
}

// Reader reads the services of namespaces. It is for one goroutine at a time.
type Reader struct {
	opts Options

	services []listed
	last     *unit.Content

	mu    sync.Mutex // known is written by the questions that are open at a time
	known map[service]*state
	dirty bool // known has changed since last
}

// state is what was read of one service.
type state struct {
	id        string
	revision  int64
	instances []types.HttpInstanceSummary
	behind    int // answers in a row with a revision below
}

// New makes no call.
func New(o Options) *Reader { return &Reader{opts: o, known: map[service]*state{}} }

var _ unit.Reader = (*Reader)(nil)

// Read implements unit.Reader: with full it lists the services and reads the
// instances of all; otherwise of those whose revision is another one.
func (r *Reader) Read(ctx context.Context, full bool) (*unit.Content, error) {
	cfg, err := r.opts.Open(ctx)
	if err != nil {
		return nil, err
	}
	client := servicediscovery.NewFromConfig(cfg)
	full = full || r.last == nil
	if err = r.read(ctx, client, full); err != nil {
		return nil, err
	}
	if !full && !r.dirty {
		return r.last, nil
	}
	b := unit.NewBuilder(r.opts.Name, r.opts.Shape)
	for _, n := range r.opts.Namespaces {
		for _, l := range r.services {
			if l.namespace != n.Namespace {
				continue
			}
			if err := r.add(ctx, b, n, l.name, r.known[l.service].instances); err != nil {
				return nil, err
			}
		}
	}
	r.last, r.dirty = b.Content(), false
	return r.last, nil
}

func (r *Reader) read(ctx context.Context, client *servicediscovery.Client, full bool) error {
	if full {
		services, err := r.list(ctx, client)
		if err != nil {
			return err
		}
		r.forget(services)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, l := range r.services {
		group.Go(func() error {
			if err := r.readService(ctx, client, l, full); err != nil {
				return fmt.Errorf("service %s of %s: %w", l.name, l.namespace, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// forget drops what is known of services that are no more, or others now.
func (r *Reader) forget(services []listed) {
	r.services, r.dirty = services, true
	ids := make(map[service]string, len(services))
	for _, l := range services {
		ids[l.service] = l.id
	}
	for s, k := range r.known {
		if id, listed := ids[s]; !listed || id != k.id {
			delete(r.known, s)
		}
	}
}

func (r *Reader) readService(ctx context.Context, client *servicediscovery.Client, l listed, full bool) error {
	r.mu.Lock()
	known := r.known[l.service]
	r.mu.Unlock()
	if !full && known != nil && known.behind == 0 {
		out, err := client.DiscoverInstancesRevision(ctx, &servicediscovery.DiscoverInstancesRevisionInput{NamespaceName: &l.namespace, ServiceName: &l.name})
		if _, gone := errors.AsType[*types.ServiceNotFound](err); gone && l.id != "" {
			return r.keep(l, known, 0, nil)
		}
		if err != nil {
			return err
		}
		if out.InstancesRevision == nil {
			return fmt.Errorf("DiscoverInstancesRevision: %w", unit.ErrAnswer)
		}
		if *out.InstancesRevision == known.revision {
			return nil
		}
	}
	out, err := client.DiscoverInstances(ctx, &servicediscovery.DiscoverInstancesInput{
		NamespaceName: &l.namespace, ServiceName: &l.name,
		HealthStatus: types.HealthStatusFilterAll, MaxResults: aws.Int32(maxInstances),
	})
	if _, gone := errors.AsType[*types.ServiceNotFound](err); gone && l.id != "" {
		return r.keep(l, known, 0, nil)
	}
	if err != nil {
		return err
	}
	if out.Instances == nil || out.InstancesRevision == nil {
		return fmt.Errorf("DiscoverInstances: %w", unit.ErrAnswer)
	}
	return r.keep(l, known, *out.InstancesRevision, out.Instances)
}

// keep takes an answer, unless it is older than what is known: then only the third
// in a row. The answer that there is no such service, though it is listed, is the
// oldest of all: it comes also of a service that is too young to be discovered.
func (r *Reader) keep(l listed, known *state, revision int64, instances []types.HttpInstanceSummary) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known != nil && revision < known.revision {
		if known.behind++; known.behind < believeAfter {
			return fmt.Errorf("revision %d after %d: %w", revision, known.revision, unit.ErrInconsistent)
		}
	}
	r.known[l.service] = &state{id: l.id, revision: revision, instances: instances}
	r.dirty = true
	return nil
}
