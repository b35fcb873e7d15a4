package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Readiness asks whether the federation is ready, and what keeps it from being so.
// Unlike Ready, one that is not ready is an answer and no error.
func (c *Client) Readiness(ctx context.Context) (resource.Readiness, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var r resource.Readiness
	resp, err := c.once(ctx, http.MethodGet, c.base+"/readyz", nil, nil)
	if err != nil {
		return r, fmt.Errorf("GET /readyz: %w", err)
	}
	defer func() {
		drain(resp.Body)
		_ = resp.Body.Close()
	}()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return r, fmt.Errorf("GET /readyz: %w", statusError(resp))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&r); err != nil {
		return r, fmt.Errorf("GET /readyz: %w", err)
	}
	if !r.Ready && len(r.Reasons) == 0 {
		return r, errors.New("GET /readyz: not ready, and no reason is given")
	}
	return r, nil
}
