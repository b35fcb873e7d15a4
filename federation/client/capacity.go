package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Capacities say what clusters can take of a service; the zero service means all.
func (c *Client) Capacities(ctx context.Context, service catalog.ServiceName) (*resource.Capacities, error) {
	query := url.Values{}
	if !service.IsZero() {
		query.Set("service", service.String())
	}
	out := new(resource.Capacities)
	if err := c.call(ctx, http.MethodGet, "/v1/capacity", query, nil, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}
