package api

import (
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// filter is what a list is asked for. Nil parts take everything.
type filter[T any] struct {
	// fixed looks at what never changes under one key, moving at what does: an
	// item that moves out of a watch's sight is told as deleted.
	fixed, moving func(T) bool
}

func (f filter[T]) takes(item T) bool {
	return (f.fixed == nil || f.fixed(item)) && (f.moving == nil || f.moving(item))
}

// mover is an input that filters by fields that change.
type mover[T any] interface {
	moving() func(T) bool
}

// filterOf reads the filter of a list's input.
func filterOf[I, T any, P lister[I, T]](in P) (f filter[T], err error) {
	if f.fixed, err = in.keep(); err != nil {
		return f, err
	}
	if m, ok := any(in).(mover[T]); ok {
		f.moving = m.moving()
	}
	return f, err
}

// is matches a value that was asked for; "" asks for nothing.
func is[V ~string](asked string, value V) bool { return asked == "" || asked == string(value) }

// serviceOf reads a service's name that was asked for.
func serviceOf(asked string) (catalog.ServiceName, error) {
	name, err := catalog.ParseServiceName(asked)
	if err != nil {
		return name, &catalog.FieldError{Field: "service", Value: asked, Rule: err.Error()}
	}
	return name, nil
}

// ClustersInput lists clusters by state.
type ClustersInput struct {
	AllInput[resource.Cluster]
	State string `query:"state" enum:"connecting,ok,control_lost,refused" doc:"Clusters in this state only."`
}

func (in *ClustersInput) moving() func(resource.Cluster) bool {
	return func(c resource.Cluster) bool { return is(in.State, c.State) }
}

// PeersInput lists peers by state and origin.
type PeersInput struct {
	PastInput[resource.Peer]
	State  string `query:"state" enum:"connecting,ok,control_lost,refused" doc:"Peers in this state only."`
	Origin string `query:"origin" enum:"config,api" doc:"Peers of the config file, or those written over the API, only."`
}

func (in *PeersInput) moving() func(resource.Peer) bool {
	return func(p resource.Peer) bool { return is(in.State, p.State) && is(in.Origin, p.Origin) }
}

// ServicesInput lists services by namespace and by who has them.
type ServicesInput struct {
	AllInput[resource.Service]
	Name       string `query:"name" maxLength:"63" doc:"Services of this name, in any namespace, only."`
	Namespace  string `query:"namespace" maxLength:"63" doc:"Services of this namespace only."`
	Cluster    string `query:"cluster" maxLength:"63" doc:"Services that this peer offers here only."`
	ExportedTo string `query:"exported_to" maxLength:"63" doc:"Services that are offered to this peer only."`
	Source     string `query:"source" maxLength:"63" doc:"Services with endpoints of this source only."`
	Conflicts  bool   `query:"conflicts" doc:"Services whose origins disagree only."`
}

func (in *ServicesInput) keep() (func(resource.Service) bool, error) { //nolint:unparam // lister asks for the error
	return func(s resource.Service) bool {
		return is(in.Name, s.Name.Name()) && is(in.Namespace, s.Name.Namespace())
	}, nil
}

func (in *ServicesInput) moving() func(resource.Service) bool {
	return func(s resource.Service) bool {
		offers := func(o resource.Offer) bool { return string(o.Cluster) == in.Cluster }
		return (in.Cluster == "" || slices.ContainsFunc(s.Remote, offers)) &&
			(in.ExportedTo == "" || slices.Contains(s.ExportedTo, catalog.ClusterName(in.ExportedTo))) &&
			(in.Source == "" || slices.Contains(s.Sources, in.Source)) &&
			(!in.Conflicts || len(s.Conflicts) > 0)
	}
}

// EndpointsInput lists the endpoints of one service, or all.
type EndpointsInput struct {
	ListInput
	Service string `query:"service" maxLength:"253" doc:"Endpoints of this service only: name.namespace."`
	Source  string `query:"source" maxLength:"63" doc:"Endpoints of this source only."`
	Health  string `query:"health" enum:"passing,warning,critical,maintenance,unknown" doc:"Endpoints that their source calls so only."`
}

func (in *EndpointsInput) keep() (func(resource.Endpoint) bool, error) {
	if in.Service == "" {
		return nil, nil
	}
	name, err := serviceOf(in.Service)
	if err != nil {
		return nil, err
	}
	in.prefix = name.String() + "/"
	return func(e resource.Endpoint) bool { return e.Service == name }, nil
}

func (in *EndpointsInput) moving() func(resource.Endpoint) bool {
	if in.Source == "" && in.Health == "" {
		return nil // there may be very many
	}
	return func(e resource.Endpoint) bool { return is(in.Source, e.Source) && is(in.Health, e.Health) }
}

// GatewaysInput lists gateways by state.
type GatewaysInput struct {
	AllInput[resource.Gateway]
	State string `query:"state" enum:"alive,silent" doc:"Gateways in this state only."`
}

func (in *GatewaysInput) moving() func(resource.Gateway) bool {
	return func(g resource.Gateway) bool { return is(in.State, g.State) }
}

// LinksInput lists links by either end and by state.
type LinksInput struct {
	ListInput
	Cluster string `query:"cluster" maxLength:"63" doc:"Links to this cluster only."`
	From    string `query:"from" maxLength:"63" doc:"Links of this own gateway only."`
	State   string `query:"state" maxLength:"63" doc:"Links in this state only: up, connecting, draining or down."`
}

func (in *LinksInput) keep() (func(resource.Link) bool, error) {
	if in.Cluster != "" {
		if _, err := catalog.ParseClusterName(in.Cluster); err != nil {
			return nil, &catalog.FieldError{Field: "cluster", Value: in.Cluster, Rule: err.Error()}
		}
	}
	return func(l resource.Link) bool { return is(in.Cluster, l.Cluster) && is(in.From, l.From) }, nil
}

func (in *LinksInput) moving() func(resource.Link) bool {
	return func(l resource.Link) bool { return is(in.State, l.State) }
}

// SourcesInput lists sources by state and kind.
type SourcesInput struct {
	AllInput[resource.Source]
	Kind  string `query:"kind" maxLength:"63" doc:"Sources of this kind only, such as consul."`
	State string `query:"state" enum:"starting,ok,stale,failing,quarantined" doc:"Sources in this state only."`
}

func (in *SourcesInput) moving() func(resource.Source) bool {
	return func(s resource.Source) bool { return is(in.Kind, s.Kind) && is(in.State, s.State) }
}

// EventsInput lists events by kind and subject.
type EventsInput struct {
	AllInput[resource.Event]
	Kind    string `query:"kind" maxLength:"63" doc:"Events of this kind only, such as peer_state."`
	Subject string `query:"subject" maxLength:"512" doc:"Events that happened to this only."`
}

func (in *EventsInput) keep() (func(resource.Event) bool, error) { //nolint:unparam // lister asks for the error
	return func(e resource.Event) bool { return is(in.Kind, e.Kind) && is(in.Subject, e.Subject) }, nil
}

// RulesInput lists rules by where they are kept and what they are about.
type RulesInput[R any] struct {
	PastInput[R]
	Origin  string `query:"origin" enum:"config,api" doc:"Rules of the config file, or those written over the API, only."`
	Service string `query:"service" maxLength:"253" doc:"Rules with a pattern that covers this service only: name.namespace."`
	Peer    string `query:"peer" maxLength:"63" doc:"Exports to this peer, imports from it, traffic policies that name it, only."`

	service catalog.ServiceName // Service, once it is read
}

func (in *RulesInput[R]) keep() (func(R) bool, error) { //nolint:unparam // lister asks for a filter
	if in.Service == "" {
		return nil, nil
	}
	var err error
	in.service, err = serviceOf(in.Service)
	return nil, err
}

func (in *RulesInput[R]) moving() func(R) bool {
	return func(r R) bool {
		a := aboutOf(r)
		covers := func(p policy.ServicePattern) bool { return p.Match(in.service) }
		return is(in.Origin, a.origin) && (in.Service == "" || slices.ContainsFunc(a.services, covers)) &&
			(in.Peer == "" || slices.Contains(a.peers, in.Peer) || slices.Contains(a.peers, "*"))
	}
}

// about is what a rule can be found by.
type about struct {
	origin   resource.Origin
	services []policy.ServicePattern
	peers    []string
}

func aboutOf(rule any) about {
	switch r := rule.(type) {
	case resource.Export:
		return about{r.Origin, r.Services, r.To}
	case resource.Import:
		return about{r.Origin, r.Services, []string{string(r.From)}}
	case resource.Intention:
		return about{r.Origin, r.Services, nil}
	case resource.TrafficPolicy:
		a := about{r.Origin, r.Services, []string{string(r.Pin)}}
		for _, c := range r.Clusters {
			a.peers = append(a.peers, string(c))
		}
		for c := range r.Weights {
			a.peers = append(a.peers, string(c))
		}
		return a
	default:
		return about{}
	}
}
