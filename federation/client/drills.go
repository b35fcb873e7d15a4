package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// StartDrill orders a drill; a dry run says what is predicted and drills nothing.
func (c *Client) StartDrill(ctx context.Context, r resource.DrillRequest, dryRun bool) (*resource.Drill, error) {
	out := new(resource.Drill)
	q := url.Values{"dry_run": {strconv.FormatBool(dryRun)}}
	if err := c.call(ctx, http.MethodPost, "/v1/drills", q, nil, r, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Drill is one drill as it stands.
func (c *Client) Drill(ctx context.Context, id string) (*resource.Drill, error) {
	out := new(resource.Drill)
	if err := c.call(ctx, http.MethodGet, "/v1/drills/"+url.PathEscape(id), nil, nil, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// Drills are those that are remembered, the youngest first.
func (c *Client) Drills(ctx context.Context) ([]resource.Drill, error) {
	var out resource.Drills
	err := c.call(ctx, http.MethodGet, "/v1/drills", nil, nil, nil, &out)
	return out.Items, err
}

// StopDrill ends a drill at once.
func (c *Client) StopDrill(ctx context.Context, id string) (*resource.Drill, error) {
	out := new(resource.Drill)
	if err := c.call(ctx, http.MethodDelete, "/v1/drills/"+url.PathEscape(id), nil, nil, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}
