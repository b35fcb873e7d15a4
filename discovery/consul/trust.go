package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

// What makes an answer of status 200 a false one, besides what agent.Trust says.
var (
	errNotWhole  = errors.New("the list of services lacks Consul's own, so it is not the whole catalog (without an ACL token Consul answers like this)")
	errNoneThere = errors.New("the answer has no instance of a service that the catalog lists")
)

// trust returns why Consul does not vouch for an answer, or nil.
func (c Config) trust(meta *api.QueryMeta) error {
	err := agent.Trust(meta)
	if c.AcceptFiltered && errors.Is(err, agent.ErrFiltered) {
		return nil
	}
	return err
}

// listServices asks for the names of all services and their tags.
func (s *Source) listServices(q *api.QueryOptions) (map[string][]string, *api.QueryMeta, error) {
	names, meta, err := s.client.Catalog().Services(q)
	if err != nil {
		return nil, nil, err
	}
	// The servers themselves are a service. A list without it comes from a leader
	// that has not read its state yet, from something that is not Consul, or was
	// filtered without saying so: to a request without a token Consul answers 200,
	// an empty list, and no header.
	// In another partition or namespace than the default one they are not: there
	// an empty list is believed of those who say who they are.
	_, whole := names[machinery]
	if s.view.tenant() && s.opts.Config.TokenFile != "" {
		whole = true
	}
	if !whole && (!s.opts.Config.AcceptFiltered || len(names) == 0) {
		if err := s.opts.Config.trust(meta); err != nil {
			return nil, nil, err
		}
		return nil, nil, errNotWhole
	}
	return names, meta, nil
}

func (s *Source) listChecks(q *api.QueryOptions) (api.HealthChecks, *api.QueryMeta, error) {
	checks, meta, err := s.client.Health().State(api.HealthAny, q)
	return slices.DeleteFunc(checks, isNil), meta, err
}

func isNil(c *api.HealthCheck) bool { return c == nil }

// clean drops what is null in an answer: neither what follows nor consul/api
// expects it.
func clean(entries []*api.ServiceEntry) []*api.ServiceEntry {
	entries = slices.DeleteFunc(entries, func(e *api.ServiceEntry) bool { return e == nil || e.Node == nil || e.Service == nil })
	for _, e := range entries {
		e.Checks = slices.DeleteFunc(e.Checks, isNil)
	}
	return entries
}

// answer is one service as it was read.
type answer struct {
	entries []*api.ServiceEntry
	index   uint64
}

// readService asks for the instances of a service that is listed.
func (s *Source) readService(ctx context.Context, name string, stale bool) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Config.RequestTimeout)
	defer cancel()
	q := (&api.QueryOptions{AllowStale: stale}).WithContext(ctx)
	entries, meta, err := s.client.Health().Service(name, "", false, q)
	if err == nil {
		err = s.opts.Config.trust(meta)
		entries = clean(entries)
	}
	if err == nil && len(entries) == 0 && !meta.ResultsFilteredByACLs {
		err = errNoneThere
	}
	if err != nil {
		return answer{}, fmt.Errorf("consul service %s: %w", name, err)
	}
	s.metrics.fetches.Inc()
	return answer{entries, meta.LastIndex}, nil
}
