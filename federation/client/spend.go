package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Spend says what the traffic of the cluster's callers costs; the zero service means
// all.
func (c *Client) Spend(ctx context.Context, service catalog.ServiceName) (*resource.Spend, error) {
	query := url.Values{}
	if !service.IsZero() {
		query.Set("service", service.String())
	}
	out := new(resource.Spend)
	if err := c.call(ctx, http.MethodGet, "/v1/spend", query, nil, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}
