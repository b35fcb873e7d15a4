package federated

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/mcs"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/client"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// kindExports is the collection that is written, as applied sets call it.
const kindExports = "exports"

// Federation is one federation.
type Federation struct {
	api *client.Client
	// set is the applied set that remembers what is owned.
	set     string
	changed func()

	services *follower[resource.Service, service]
	exports  *follower[resource.Export, mcs.Export]
	gateways *follower[resource.Gateway, mcs.Gateway]
	peers    *follower[resource.Peer, []merge.Conflict]
	reload   chan struct{}

	mu      sync.Mutex
	cluster catalog.ClusterName
	owned   claims
	err     error // of what is no follower's
}

// service is what is of interest of one.
type service struct {
	Import    *mcs.Import
	Conflicts []merge.Conflict
}

var _ mcs.Federation = (*Federation)(nil)

// New reads nothing before Run. Changed is called when the state has changed, and
// returns at once.
func New(api *client.Client, owner string, changed func()) *Federation {
	f := &Federation{
		api: api, set: "kubernetes-" + owner, changed: changed, reload: make(chan struct{}, 1),
		err: errors.New("what is owned is not read yet"),
	}
	f.services = newFollower("services", api.Services(), serviceOf, changed)
	f.exports = newFollower("exports", api.Exports().Collection, exportOf, func() { // another process may have put them
		f.ask()
		changed()
	})
	f.gateways = newFollower("gateways", api.Gateways(), gatewayOf, changed)
	f.peers = newFollower("peers", api.Peers(), func(p resource.Peer) ([]merge.Conflict, bool) {
		return p.Conflicts, len(p.Conflicts) > 0
	}, changed)
	return f
}

// Run follows the federation until ctx ends.
func (f *Federation) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { f.services.run(ctx) })
	wg.Go(func() { f.exports.run(ctx) })
	wg.Go(func() { f.gateways.run(ctx) })
	wg.Go(func() { f.peers.run(ctx) })
	wg.Go(func() { f.remember(ctx) })
	f.ask()
	wg.Wait()
}

func (f *Federation) ask() {
	select {
	case f.reload <- struct{}{}:
	default:
	}
}

// remember reads what is owned whenever exports have changed.
func (f *Federation) remember(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.reload:
		}
		owned, cluster, err := f.readOwned(ctx)
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		if f.err = err; err == nil {
			f.owned, f.cluster = owned, cluster
		}
		f.mu.Unlock()
		f.changed()
		if err == nil {
			continue
		}
		timer := time.NewTimer(again)
		select {
		case <-ctx.Done():
		case <-timer.C:
			f.ask()
		}
		timer.Stop()
	}
}

func (f *Federation) readOwned(ctx context.Context) (claims, catalog.ClusterName, error) {
	version, err := f.api.Version(ctx)
	if err != nil {
		return nil, "", err
	}
	owned, err := f.claims(ctx)
	return owned, version.Cluster, err
}

// State implements mcs.Federation.
func (f *Federation) State() (mcs.State, error) {
	services, err1 := f.services.all()
	exports, err2 := f.exports.all()
	gateways, err3 := f.gateways.all()
	peers, err4 := f.peers.all()
	f.mu.Lock()
	owned, own, err5 := f.owned, f.cluster, f.err
	f.mu.Unlock()
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return mcs.State{}, err
	}
	s := mcs.State{Exports: map[string]mcs.Export{}, Conflicts: map[catalog.ServiceName][]mcs.Conflict{}}
	for name, e := range exports {
		if owned.own(e) {
			if owned[name].Pending {
				e.To = nil // so that it is put once more, or removed, and is pending no longer
			}
			s.Exports[name] = e
		}
	}
	for _, svc := range services {
		if svc.Import != nil {
			s.Imports = append(s.Imports, *svc.Import)
		}
		note(&s, own, own, svc.Conflicts)
	}
	for name, conflicts := range peers {
		note(&s, own, catalog.ClusterName(name), conflicts)
	}
	for _, g := range gateways {
		s.Gateways = append(s.Gateways, g)
	}
	slices.SortFunc(s.Imports, func(a, b mcs.Import) int { return a.Service.Compare(b.Service) })
	slices.SortFunc(s.Gateways, func(a, b mcs.Gateway) int { return cmp.Compare(a.Name, b.Name) })
	return s, nil
}

// note adds the conflicts to which the own cluster is a party, under the name that the
// service has in it; at is who found them.
func note(s *mcs.State, own, at catalog.ClusterName, conflicts []merge.Conflict) {
	for _, c := range conflicts {
		var ours catalog.ServiceName
		var losers []string
		for _, side := range append([]merge.Side{c.Winner}, c.Losers...) {
			if side.Cluster == own {
				ours = side.Service
			}
		}
		for _, side := range c.Losers {
			losers = append(losers, told(side))
		}
		if ours.IsZero() {
			continue
		}
		s.Conflicts[ours] = append(s.Conflicts[ours], mcs.Conflict{
			Ports: strings.HasPrefix(c.Field, "ports/"),
			Text: fmt.Sprintf("in %s, %s: %s goes before %s by %s; %d of %d disagree",
				at, c.Field, told(c.Winner), strings.Join(losers, ", "), c.Why, c.Disagree, c.Of),
		})
	}
}

func told(s merge.Side) string {
	if s.Value == "" {
		return s.Service.String() + " of " + string(s.Cluster)
	}
	return string(s.Cluster) + " (" + s.Value + ")"
}

func serviceOf(r resource.Service) (service, bool) {
	s := service{Conflicts: r.Conflicts}
	if len(r.Remote) > 0 {
		s.Import = &mcs.Import{Service: r.Name, Ports: r.Ports}
		for _, o := range r.Remote {
			s.Import.Clusters = append(s.Import.Clusters, o.Cluster)
		}
		slices.Sort(s.Import.Clusters)
	}
	return s, s.Import != nil || len(s.Conflicts) > 0
}

func exportOf(r resource.Export) (mcs.Export, bool) {
	e := mcs.Export{Name: r.Name, To: r.To}
	if len(r.Services) == 1 {
		e.Service, _ = catalog.ParseServiceName(string(r.Services[0])) // a pattern is no name, and not what is put here
	}
	return e, true
}

func gatewayOf(r resource.Gateway) (mcs.Gateway, bool) {
	g := mcs.Gateway{Name: r.Name, Zone: r.Locality.Zone, Ready: r.State == "alive" && !r.Draining}
	for _, w := range r.Ways {
		if w.Kind == route.WayTCP || w.Kind == route.WayHTTP {
			g.Ways = append(g.Ways, mcs.Way{Address: w.Address, Service: w.Service, Port: w.Port})
		}
	}
	return g, true
}
