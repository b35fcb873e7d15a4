package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// HistoryFilter picks records; empty fields pick all.
type HistoryFilter struct {
	Kind, Name, Principal string
	// From and To bound the time: at or after From, before To.
	From, To time.Time
}

// History are the changes of policy and peers, the oldest first.
func (c *Client) History(f HistoryFilter) Collection[resource.Change] {
	q := url.Values{}
	for name, value := range map[string]string{"kind": f.Kind, "name": f.Name, "principal": f.Principal} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	return Collection[resource.Change]{client: c, path: "/v1/history", filter: q}
}

// Change is one record of the history, with what differs.
func (c *Client) Change(ctx context.Context, sequence uint64) (resource.ChangeDetail, error) {
	var d resource.ChangeDetail
	err := c.call(ctx, http.MethodGet, "/v1/history/"+number(sequence), nil, nil, nil, &d)
	return d, err
}

// VerifyHistory judges the chain of records.
func (c *Client) VerifyHistory(ctx context.Context) (resource.Verification, error) {
	var v resource.Verification
	err := c.call(ctx, http.MethodGet, "/v1/history/verify", nil, nil, nil, &v)
	return v, err
}

// Revert takes one change back, with force also where the rule was changed since.
func (c *Client) Revert(ctx context.Context, sequence uint64, force, dryRun bool) (resource.Revert, error) {
	var r resource.Revert
	q := url.Values{"force": {strconv.FormatBool(force)}, "dry_run": {strconv.FormatBool(dryRun)}}
	err := c.call(ctx, http.MethodPost, "/v1/history/"+number(sequence)+"/revert", q, nil, nil, &r)
	return r, err
}

// RevertTo brings a past state back: asOf is a sequence or a time in RFC 3339.
func (c *Client) RevertTo(ctx context.Context, asOf string, dryRun bool) (resource.Revert, error) {
	var r resource.Revert
	q := url.Values{"as_of": {asOf}, "dry_run": {strconv.FormatBool(dryRun)}}
	err := c.call(ctx, http.MethodPost, "/v1/history/revert", q, nil, nil, &r)
	return r, err
}

// AsOf are the rules as they were after a record of the history: its sequence, or
// a time in RFC 3339.
func (l Collection[T]) AsOf(asOf string) Collection[T] {
	l.filter = l.query()
	l.filter.Set("as_of", asOf)
	return l
}
