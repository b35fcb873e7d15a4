package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Audit yields the entries of the audit log, the newest first, until the caller
// stops; it ends after the first error.
func (c *Client) Audit(ctx context.Context) iter.Seq2[resource.AuditEntry, error] {
	return func(yield func(resource.AuditEntry, error) bool) {
		for cursor := ""; ; {
			q := url.Values{"limit": {strconv.Itoa(pageSize)}}
			if cursor != "" {
				q.Set("cursor", cursor)
			}
			var page resource.AuditPage
			if err := c.call(ctx, http.MethodGet, "/v1/audit", q, nil, nil, &page); err != nil {
				yield(resource.AuditEntry{}, err)
				return
			}
			for _, entry := range page.Items {
				if !yield(entry, nil) {
					return
				}
			}
			if cursor = page.NextCursor; cursor == "" {
				return
			}
		}
	}
}

// VerifyAudit has the federation read the whole audit log anew.
func (c *Client) VerifyAudit(ctx context.Context) (resource.AuditReport, error) {
	var r resource.AuditReport
	err := c.call(ctx, http.MethodGet, "/v1/audit/verify", nil, nil, nil, &r)
	return r, err
}
