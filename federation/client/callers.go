package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Callers lists who was seen to call what in the last d; the zero service means all,
// and a d of 0 as far back as callers are remembered.
func (c *Client) Callers(ctx context.Context, service catalog.ServiceName, d time.Duration) (*resource.Callers, error) {
	query := url.Values{}
	if !service.IsZero() {
		query.Set("service", service.String())
	}
	if d > 0 {
		query.Set("since", d.String())
	}
	out := new(resource.Callers)
	if err := c.call(ctx, http.MethodGet, "/v1/callers", query, nil, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}
