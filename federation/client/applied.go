package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// ReasonHeader says why a write is made; the history keeps it.
const ReasonHeader = "Isthmus-Reason"

// WithReason is the same client whose writes say why they are made; "" says
// nothing. Both share their connections.
func (c *Client) WithReason(reason string) *Client {
	if reason == "" {
		return c
	}
	with := *c
	with.reason = reason
	return &with
}

// Applied is what a set of declarative files applied last.
func (c *Client) Applied(ctx context.Context, set string) (resource.AppliedSet, error) {
	var s resource.AppliedSet
	err := c.call(ctx, http.MethodGet, "/v1/applied/"+url.PathEscape(set), nil, nil, nil, &s)
	return s, err
}

// RememberApplied keeps a rule as the files of a set have it, for the set's next
// comparison; the rule that holds is not touched.
func (c *Client) RememberApplied(ctx context.Context, set, kind, name string, rule any) error {
	return c.call(ctx, http.MethodPut, appliedPath(set, kind, name), nil, nil, rule, nil)
}

// ForgetApplied drops what a set applied of one rule; the rule is not touched.
func (c *Client) ForgetApplied(ctx context.Context, set, kind, name string) error {
	return c.call(ctx, http.MethodDelete, appliedPath(set, kind, name), nil, nil, nil, nil)
}

func appliedPath(set, kind, name string) string {
	return "/v1/applied/" + url.PathEscape(set) + "/" + url.PathEscape(kind) + "/" + url.PathEscape(name)
}

// Kind reads and writes rules of a kind that is known when the program runs only: the
// last part of its path, and T any JSON that fits it.
func Kind[T any](c *Client, kind string) Rules[T] { return rules[T](c, url.PathEscape(kind)) }
