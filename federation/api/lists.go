package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/feed"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// ListInput are the query parameters of every list.
type ListInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Most items of a page."`
	Cursor string `query:"cursor" maxLength:"4096" doc:"next_cursor of the page before."`
	Watch  bool   `query:"watch" doc:"Stream changes as JSON lines instead of a page."`
	Since  uint64 `query:"since" doc:"With watch: the revision that is known; 0 sends the whole list first."`

	IfNoneMatch string `header:"If-None-Match" doc:"The etag of this page that is held; 304 where nothing has changed."`

	prefix string // of the keys of a page, where the filter implies one
}

func (l *ListInput) listing() *ListInput { return l }

// lister is the input of the list of T: parameters, and a filter (nil: all)
// over fields that never change under one key.
type lister[I, T any] interface {
	*I
	listing() *ListInput
	keep() (func(T) bool, error)
}

// AllInput lists without a filter.
type AllInput[T any] struct{ ListInput }

func (*AllInput[T]) keep() (func(T) bool, error) { return nil, nil }

type listOutput struct {
	Body func(huma.Context)
}

type itemInput struct {
	Name string `path:"name" maxLength:"512" doc:"Name of the resource."`
}

type itemOutput[T any] struct {
	Body T
}

func (s *Server) registerLists(api huma.API) {
	l := s.opts.Lists
	registerList[ClustersInput](s, api, "clusters", "Clusters: the own one and the peers'.", l.Clusters)
	registerItem(api, "clusters", "cluster", l.Clusters)
	registerList[PeersInput](s, api, "peers", "Peers, and how much of them is heard.", l.Peers, s.pastPeers)
	s.registerPeers(api)
	registerList[ServicesInput](s, api, "services", "Services: own endpoints, peers' offers, conflicts.", l.Services)
	registerItem(api, "services", "service", l.Services)
	registerList[EndpointsInput](s, api, "endpoints", "Endpoints of the own cluster, and what gateways' data paths say of them.", l.Endpoints)
	registerList[GatewaysInput](s, api, "gateways", "Gateways of the own cluster.", l.Gateways)
	registerItem(api, "gateways", "gateway", l.Gateways)
	registerList[LinksInput](s, api, "links", "Links as the own gateways see them: RTT, loss, bytes.", l.Links)
	registerList[SourcesInput](s, api, "sources", "Sources of the own catalog: age, state, guard.", l.Sources)
	registerItem(api, "sources", "source", l.Sources)
	registerList[AllInput[resource.Replica]](s, api, "replicas", "Federation processes of the own cluster, and which of them speaks to peers.", l.Replicas)
	registerList[EventsInput](s, api, "events", "The journal: the last changes and their causes.", l.Events)
}

// registerList serves a feed as pages and as a stream, and where past is given
// and asked for, the list as it was.
func registerList[I, T any, P lister[I, T]](s *Server, api huma.API, plural, summary string, f *feed.Feed[T], past ...pastFunc[T]) {
	schemas := api.OpenAPI().Components.Schemas
	page := schemas.Schema(reflect.TypeFor[resource.Page[T]](), true, "")
	event := schemas.Schema(reflect.TypeFor[resource.WatchEvent[T]](), true, "")
	huma.Register(api, huma.Operation{
		OperationID: "list-" + plural, Method: http.MethodGet, Path: "/v1/" + plural,
		Summary: summary, Tags: []string{plural},
		Errors: []int{http.StatusUnauthorized, http.StatusGone, http.StatusServiceUnavailable},
		Responses: map[string]*huma.Response{"200": {
			Description: "A page, or with watch=true a stream of events, one a line.",
			Content: map[string]*huma.MediaType{
				"application/json":  {Schema: page},
				"application/jsonl": {Schema: event},
			},
		}},
	}, func(ctx context.Context, in *I) (*listOutput, error) {
		p := P(in)
		filter, err := filterOf[I, T](p)
		if err != nil {
			return nil, answerTo(err, "query")
		}
		if then, ok := any(p).(interface{ asOf() string }); ok && then.asOf() != "" && len(past) > 0 {
			return pageOfPast(ctx, past[0], then.asOf(), p.listing(), filter)
		}
		if p.listing().Watch {
			return s.watch(watchOf(f, p.listing().Since, filter))
		}
		return pageOf(f, p.listing(), filter)
	})
}

// pageOf answers one page.
func pageOf[T any](f *feed.Feed[T], in *ListInput, keep filter[T]) (*listOutput, error) {
	after, err := decodeCursor(in.Cursor)
	if err != nil {
		return nil, answerTo(&catalog.FieldError{Field: "cursor", Value: in.Cursor, Rule: err.Error()}, "query")
	}
	entries, more, revision := f.PageIn(in.prefix, after, in.Limit, keep.takes)
	page := resource.Page[T]{Items: make([]T, len(entries)), Revision: revision}
	for i, e := range entries {
		page.Items[i] = e.Item
	}
	if more {
		page.NextCursor = encodeCursor(entries[len(entries)-1].Key)
	}
	// Weak: ages in some lists move without anything having happened. A page
	// depends on nothing else but its URL.
	etag := fmt.Sprintf(`W/"%d"`, revision)
	if in.IfNoneMatch == etag {
		return nil, notModified(etag)
	}
	return &listOutput{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/json")
		ctx.SetHeader("ETag", etag)
		ctx.SetHeader("Cache-Control", "no-store")
		_ = json.NewEncoder(ctx.BodyWriter()).Encode(page)
	}}, nil
}

// registerItem serves one item of a feed by its key.
func registerItem[T any](api huma.API, plural, singular string, f *feed.Feed[T]) {
	huma.Register(api, huma.Operation{
		OperationID: "get-" + singular, Method: http.MethodGet, Path: "/v1/" + plural + "/{name}",
		Summary: "One " + singular + ".", Tags: []string{plural},
		Errors: []int{http.StatusUnauthorized, http.StatusNotFound},
	}, func(_ context.Context, in *itemInput) (*itemOutput[T], error) {
		item, ok := f.Get(canonicalName(plural, in.Name))
		if !ok {
			return nil, problem(http.StatusNotFound, CodeNotFound, fmt.Sprintf("no %s %q", singular, in.Name))
		}
		return &itemOutput[T]{Body: item}, nil
	})
}

// canonicalName lets a service be asked for without its namespace.
func canonicalName(plural, name string) string {
	if plural == "services" {
		if n, err := catalog.ParseServiceName(name); err == nil {
			return n.String()
		}
	}
	return name
}
