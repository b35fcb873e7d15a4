package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/isthmus-mesh/isthmus/federation/api/resource"
)

// Rules reads and writes one kind of policy.
type Rules[T any] struct {
	Collection[T]
	Writes[T]
}

// Writes writes one kind of rule.
type Writes[T any] struct {
	client *Client
	path   string
}

// Exports are what this cluster offers.
func (c *Client) Exports() Rules[resource.Export] { return rules[resource.Export](c, "exports") }

// Imports are what this cluster takes.
func (c *Client) Imports() Rules[resource.Import] { return rules[resource.Import](c, "imports") }

// Intentions are who may call what.
func (c *Client) Intentions() Rules[resource.Intention] {
	return rules[resource.Intention](c, "intentions")
}

// TrafficPolicies are how calls are balanced.
func (c *Client) TrafficPolicies() Rules[resource.TrafficPolicy] {
	return rules[resource.TrafficPolicy](c, "traffic-policies")
}

// PeerRules are the other clusters as they are written; Peers reads their state.
func (c *Client) PeerRules() Writes[resource.PeerRule] {
	return Writes[resource.PeerRule]{client: c, path: "/v1/peers"}
}

func rules[T any](c *Client, kind string) Rules[T] {
	path := "/v1/" + kind
	return Rules[T]{Collection[T]{client: c, path: path}, Writes[T]{client: c, path: path}}
}

// Create adds a rule and returns it as it is stored. With dryRun everything is
// checked and nothing is written; TryCreate says what would change.
func (r Writes[T]) Create(ctx context.Context, rule T, dryRun bool) (T, error) {
	if dryRun {
		return itemOf(r.TryCreate(ctx, rule))
	}
	var made T
	err := r.client.call(ctx, http.MethodPost, r.path, nil, nil, rule, &made)
	return made, err
}

// Replace puts rule in the place of the one of that name that has etag ("*": any).
func (r Writes[T]) Replace(ctx context.Context, name string, rule T, etag string, dryRun bool) (T, error) {
	if dryRun {
		return itemOf(r.TryReplace(ctx, name, rule, etag))
	}
	var put T
	err := r.client.call(ctx, http.MethodPut, r.one(name), nil, ifMatch(etag), rule, &put)
	return put, err
}

// Delete removes the rule of that name, where etag is set that version only.
func (r Writes[T]) Delete(ctx context.Context, name, etag string, dryRun bool) error {
	err := r.client.call(ctx, http.MethodDelete, r.one(name), dry(dryRun), ifMatch(etag), nil, nil)
	return err
}

// TryCreate says what Create would store, and what would change for whom.
func (r Writes[T]) TryCreate(ctx context.Context, rule T) (resource.DryRun[T], error) {
	var would resource.DryRun[T]
	err := r.client.call(ctx, http.MethodPost, r.path, dry(true), nil, rule, &would)
	return would, err
}

// TryReplace says what Replace would store, and what would change for whom.
func (r Writes[T]) TryReplace(ctx context.Context, name string, rule T, etag string) (resource.DryRun[T], error) {
	var would resource.DryRun[T]
	err := r.client.call(ctx, http.MethodPut, r.one(name), dry(true), ifMatch(etag), rule, &would)
	return would, err
}

// TryDelete says what would change for whom.
func (r Writes[T]) TryDelete(ctx context.Context, name, etag string) (resource.Impact, error) {
	var would resource.DryRun[T]
	err := r.client.call(ctx, http.MethodDelete, r.one(name), dry(true), ifMatch(etag), nil, &would)
	return would.Would, err
}

func itemOf[T any](would resource.DryRun[T], err error) (item T, _ error) {
	if would.Item != nil {
		item = *would.Item
	}
	return item, err
}

func (r Writes[T]) one(name string) string { return r.path + "/" + url.PathEscape(name) }

func dry(run bool) url.Values {
	if !run {
		return nil
	}
	return url.Values{"dry_run": {"true"}}
}

func ifMatch(etag string) http.Header {
	if etag == "" {
		return nil
	}
	return http.Header{"If-Match": {etag}}
}
