package syncout

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

// deniedFor is how long a name that Consul refused is left alone.
const deniedFor = time.Minute

// pass compares once, and writes what differs.
func (w *Writer) pass(ctx context.Context, l *lock, s *writing) error {
	offer, ok := w.offers()
	if !ok {
		return nil // nothing may be concluded
	}
	have, err := w.read(ctx)
	if err != nil {
		return err
	}
	in := inputs{
		config: w.config, cluster: w.cluster, offer: offer, there: have, missing: s.missing, now: time.Now(),
		others: w.others.known(), denied: s.denied,
	}
	p := makePlan(in)
	if names := w.others.due(p.names, w.moved.Load()); len(names) > 0 {
		if err := w.askOthers(ctx, names); err != nil {
			return err
		}
		in.others = w.others.known()
		p = makePlan(in)
	}
	s.missing = p.missing
	for name, until := range s.denied {
		if in.now.After(until) {
			delete(s.denied, name)
		}
	}
	if err := w.apply(ctx, l, &p, s); err != nil {
		return err
	}
	w.tell(&p)
	return nil
}

// read is what Consul has on our node, from the leader.
func (w *Writer) read(ctx context.Context) (there, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	q := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
	out := there{services: map[string]*api.AgentService{}, checks: map[string]*api.HealthCheck{}}
	node, meta, err := w.client.Catalog().Node(w.config.Node, q)
	if err == nil {
		err = agent.Trust(meta)
	}
	if err != nil {
		return out, fmt.Errorf("consul node %s: %w", w.config.Node, err)
	}
	if node == nil || node.Node == nil {
		return out, nil
	}
	out.exists, out.meta = true, node.Node.Meta
	for _, s := range node.Services {
		if s != nil {
			out.services[s.ID] = s
		}
	}
	checks, meta, err := w.client.Health().Node(w.config.Node, q)
	if err == nil {
		err = agent.Trust(meta)
	}
	if err != nil {
		return out, fmt.Errorf("consul checks of node %s: %w", w.config.Node, err)
	}
	for _, c := range checks {
		if c != nil && c.CheckID == checkPrefix+c.ServiceID {
			out.checks[c.ServiceID] = c
		}
	}
	return out, nil
}

// apply writes the plan, transaction by transaction. A name that Consul refuses (an
// ACL without it) is left alone for a while, and holds nothing else up.
func (w *Writer) apply(ctx context.Context, l *lock, p *plan, s *writing) error {
	for _, ops := range p.transactions(w.config.Node, w.name, w.cluster, l.fence()) {
		for len(ops) > 1 {
			bad, err := w.transact(ctx, ops)
			if err != nil {
				return err
			}
			if len(bad) == 0 {
				break
			}
			names := map[string]bool{}
			for i, why := range bad {
				name := nameOf(ops[i])
				if name == "" {
					return fmt.Errorf("consul transaction: %s", why)
				}
				if !names[name] {
					w.log.Warn("consul takes no entry of this name", "service", name, "reason", why)
				}
				names[name], s.denied[name] = true, time.Now().Add(deniedFor)
				p.refused = append(p.refused, Refusal{Name: name, Reason: Denied})
			}
			ops = slices.DeleteFunc(ops, func(o *api.TxnOp) bool { return names[nameOf(o)] })
		}
	}
	return nil
}

// nameOf is the service's name that an operation is for, "" for others.
func nameOf(o *api.TxnOp) string {
	switch {
	case o.Service != nil:
		return o.Service.Service.Service
	case o.Check != nil:
		return o.Check.Check.ServiceName
	}
	return ""
}

// transact makes operations together, or none of them; bad are those that Consul
// refuses, by their place.
func (w *Writer) transact(ctx context.Context, ops api.TxnOps) (bad map[int]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	done, answer, _, err := w.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("consul transaction: %w", err)
	}
	if done {
		w.metrics.writes.Add(float64(len(ops) - 1))
		return nil, nil
	}
	bad = map[int]string{}
	for _, e := range answer.Errors {
		if e.OpIndex == 0 { // the fence
			return nil, fmt.Errorf("%w: %s", errLost, e.What)
		}
		bad[e.OpIndex] = strings.TrimSpace(e.What)
	}
	if len(bad) == 0 {
		return nil, errors.New("consul transaction: refused without a reason")
	}
	return bad, nil
}

// tell brings metrics and log in line with a plan that was carried out.
func (w *Writer) tell(p *plan) {
	w.metrics.set(p)
	now := map[Refusal]bool{}
	for _, r := range p.refused {
		now[r] = true
		if !w.told[r] {
			w.log.Warn("an imported service is not registered in consul",
				"service", r.Service.String(), "endpoint", r.Name, "gateway", r.Gateway, "reason", r.Reason)
		}
	}
	for _, r := range slices.SortedFunc(maps.Keys(w.told), Refusal.compare) {
		if !now[r] {
			w.log.Info("what kept an imported service from consul is over", "service", r.Service.String(), "endpoint", r.Name, "gateway", r.Gateway, "reason", r.Reason)
		}
	}
	w.told = now
}
