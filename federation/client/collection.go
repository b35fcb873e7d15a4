package client

import (
	"context"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// pageSize is what All asks for at a time: the most that the API gives.
const pageSize = 1000

// Collection reads one kind of resource.
type Collection[T any] struct {
	client *Client
	path   string
	filter url.Values
}

// Clusters are the own cluster and the peers'.
func (c *Client) Clusters() Collection[resource.Cluster] {
	return Collection[resource.Cluster]{client: c, path: "/v1/clusters"}
}

// Peers are the other clusters.
func (c *Client) Peers() Collection[resource.Peer] {
	return Collection[resource.Peer]{client: c, path: "/v1/peers"}
}

// Services are own and imported services.
func (c *Client) Services() Collection[resource.Service] {
	return Collection[resource.Service]{client: c, path: "/v1/services"}
}

// Endpoints are the own cluster's, of one service or ("") all. They have no
// names and cannot be got one by one.
func (c *Client) Endpoints(service string) Collection[resource.Endpoint] {
	l := Collection[resource.Endpoint]{client: c, path: "/v1/endpoints"}
	if service != "" {
		l.filter = url.Values{"service": {service}}
	}
	return l
}

// Gateways are the own cluster's.
func (c *Client) Gateways() Collection[resource.Gateway] {
	return Collection[resource.Gateway]{client: c, path: "/v1/gateways"}
}

// Links are those that the own gateways hold.
func (c *Client) Links() Collection[resource.Link] {
	return Collection[resource.Link]{client: c, path: "/v1/links"}
}

// Sources are what the own catalog is read from.
func (c *Client) Sources() Collection[resource.Source] {
	return Collection[resource.Source]{client: c, path: "/v1/sources"}
}

// Replicas are the federation processes of the own cluster.
func (c *Client) Replicas() Collection[resource.Replica] {
	return Collection[resource.Replica]{client: c, path: "/v1/replicas"}
}

// Events are the journal.
func (c *Client) Events() Collection[resource.Event] {
	return Collection[resource.Event]{client: c, path: "/v1/events"}
}

// Get returns one resource; a *StatusError of status 404 where there is none.
func (l Collection[T]) Get(ctx context.Context, name string) (T, error) {
	var item T
	err := l.client.call(ctx, http.MethodGet, l.path+"/"+url.PathEscape(name), nil, nil, nil, &item)
	return item, err
}

// Page returns one page; limit 0 is the API's default, cursor "" the first page.
func (l Collection[T]) Page(ctx context.Context, limit int, cursor string) (resource.Page[T], error) {
	q := l.query()
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	var page resource.Page[T]
	err := l.client.call(ctx, http.MethodGet, l.path, q, nil, nil, &page)
	return page, err
}

func (l Collection[T]) query() url.Values {
	q := url.Values{}
	maps.Copy(q, l.filter)
	return q
}

// All goes through every page; it ends after the first error.
func (l Collection[T]) All(ctx context.Context) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			page, err := l.Page(ctx, pageSize, cursor)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if cursor = page.NextCursor; cursor == "" {
				return
			}
		}
	}
}

// List is All in one slice.
func (l Collection[T]) List(ctx context.Context) ([]T, error) {
	items := []T{}
	for item, err := range l.All(ctx) {
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}
