package gcp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxTrouble bounds how many failures of a round are told of.
const maxTrouble = 20

// round is one read of a project.
type round struct {
	*project
	config Config

	mu      sync.Mutex
	trouble []error
	fresh   int // parts that were read
}

// each calls do for 0 to n-1, some at once, and stops at the first error.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

// read reads everything of the project; what fails keeps its last known.
func (r *round) read(ctx context.Context) {
	if len(r.config.ManagedGroups) > 0 {
		r.part(kindManagedGroups, func() { r.readManagedGroups(ctx) })
	}
	// After the members: an instance that a member names is then in the list,
	// or was deleted.
	if r.config.Instances != nil || len(r.config.ManagedGroups) > 0 {
		r.part(kindInstances, func() { r.readInstances(ctx) })
	}
	if len(r.config.EndpointGroups) > 0 {
		r.part(kindEndpointGroups, func() { r.readEndpointGroups(ctx) })
	}
	if len(r.config.ServiceDirectory) > 0 {
		r.part(kindDirectory, func() { r.readDirectories(ctx) })
	}
	r.metrics.kept.WithLabelValues(r.id).Set(float64(len(r.trouble)))
}

// part counts a read of one kind as complete where all of it was.
func (r *round) part(k kind, read func()) {
	before := len(r.trouble)
	read()
	if len(r.trouble) == before {
		r.metrics.reads.WithLabelValues(r.id, string(k)).Inc()
		r.metrics.success.WithLabelValues(r.id, string(k)).Set(float64(time.Now().UnixMilli()) / 1000)
	}
}

// took notes how the read of something went.
func (r *round) took(err error, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.fresh++
		return
	}
	r.metrics.failures.WithLabelValues(r.id, string(classify(err))).Inc()
	r.trouble = append(r.trouble, describe(fmt.Sprintf("project %s: ", r.id)+fmt.Sprintf(format, args...), err))
}

// tookScopes takes an aggregated list, and notes what it did not reach.
func tookScopes[T any](r *round, s *scoped[T], list *scopes[T], err error, what string) {
	if err == nil {
		s.take(list)
		for scope := range list.unreachable {
			r.took(&scopeError{scope}, "list %s", what)
		}
	}
	r.took(err, "list %s", what)
}

func (r *round) readInstances(ctx context.Context) {
	filter := ""
	if i := r.config.Instances; i != nil && len(r.config.ManagedGroups) == 0 {
		filter = "labels." + i.ServiceLabel + ":*"
	}
	list, err := r.listInstances(ctx, filter, r.config.Address)
	tookScopes(r, &r.known.instances, list, err, "instances")
}

func (r *round) readManagedGroups(ctx context.Context) {
	list, err := r.listManagedGroups(ctx)
	tookScopes(r, &r.known.managedGroups, list, err, "managed instance groups")
	var groups []managedGroup
	wanted := map[string]bool{}
	for _, g := range r.known.managedGroups.sorted() {
		if selected(r.config.ManagedGroups, r.id, g.scope, g.name) && !wanted[g.key()] {
			wanted[g.key()] = true
			at(r.known.members, g.key())
			if !r.known.managedGroups.lost[g.scope] {
				groups = append(groups, g)
			}
		}
	}
	retain(r.known.members, wanted)
	_ = each(ctx, len(groups), func(ctx context.Context, i int) error {
		g := groups[i]
		members, err := r.listMembers(ctx, g)
		if u := r.known.members[g.key()]; err == nil {
			u.value, u.read = members, true
		}
		r.took(err, "list the members of %s", g.key())
		return nil
	})
}

func (r *round) readEndpointGroups(ctx context.Context) {
	list, err := r.listEndpointGroups(ctx)
	tookScopes(r, &r.known.endpointGroups, list, err, "network endpoint groups")
	var groups []endpointGroup
	wanted := map[string]bool{}
	for _, g := range r.known.endpointGroups.sorted() {
		if selected(r.config.EndpointGroups, r.id, g.scope, g.name) && !wanted[g.key()] {
			wanted[g.key()] = true
			at(r.known.endpoints, g.key())
			if !r.known.endpointGroups.lost[g.scope] {
				groups = append(groups, g)
			}
		}
	}
	retain(r.known.endpoints, wanted)
	_ = each(ctx, len(groups), func(ctx context.Context, i int) error {
		g := groups[i]
		endpoints, err := r.listEndpoints(ctx, g)
		if u := r.known.endpoints[g.key()]; err == nil {
			u.value, u.read = endpoints, true
		}
		r.took(err, "list the endpoints of %s", g.key())
		return nil
	})
}

func selected(groups []Group, project, scope, name string) bool {
	for _, g := range groups {
		if g.selects(project, scope, name) {
			return true
		}
	}
	return false
}

func (r *round) readDirectories(ctx context.Context) {
	wanted, locations := map[string]bool{}, map[string]bool{}
	var keys []string
	for _, d := range r.config.ServiceDirectory {
		if !allows(d.Projects, r.id) {
			continue
		}
		for _, l := range d.Locations {
			if d.Namespace == "" && !locations[l] {
				locations[l] = true
				u := at(r.known.namespaces, l)
				names, err := r.listNamespaces(ctx, l)
				if err == nil {
					u.value, u.read = names, true
				}
				r.took(err, "list the namespaces of %s", l)
			}
			for _, n := range r.namespaces(d, l) {
				if key := directoryKey(l, n); !wanted[key] {
					wanted[key] = true
					keys = append(keys, key)
					at(r.known.directories, key)
				}
			}
		}
	}
	retain(r.known.directories, wanted)
	_ = each(ctx, len(keys), func(ctx context.Context, i int) error {
		location, namespace, _ := strings.Cut(keys[i], "/")
		entries, err := r.listDirectory(ctx, location, namespace)
		if u := r.known.directories[keys[i]]; err == nil {
			u.value, u.read = entries, true
		}
		r.took(err, "read the namespace %s of %s", namespace, location)
		return nil
	})
}

// whole reports whether everything that the configuration asks for was read
// once.
func (r *round) whole() bool {
	c, k := r.config, &r.known
	ok := true
	if c.Instances != nil || len(c.ManagedGroups) > 0 {
		ok = ok && k.instances.whole()
	}
	if len(c.ManagedGroups) > 0 {
		ok = ok && k.managedGroups.whole() && allRead(k.members)
	}
	if len(c.EndpointGroups) > 0 {
		ok = ok && k.endpointGroups.whole() && allRead(k.endpoints)
	}
	return ok && allRead(k.namespaces) && allRead(k.directories)
}

func allRead[T any](units map[string]*unit[T]) bool {
	for _, u := range units {
		if !u.read {
			return false
		}
	}
	return true
}

// errs joins what went wrong, as much as one wants to read.
func errs(all []error) error {
	if len(all) > maxTrouble {
		all = append(all[:maxTrouble:maxTrouble], fmt.Errorf("and %d more", len(all)-maxTrouble))
	}
	return errors.Join(all...)
}
