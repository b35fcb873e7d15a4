package syncout

import (
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

// gatewayGrace is how long the entry of a gateway that nobody knows stays as it
// is: as long as a federation remembers a silent one.
const gatewayGrace = time.Minute

// there is what Consul has on our node.
type there struct {
	// exists; address and meta are the node's.
	exists bool
	meta   map[string]string
	// services by ID, checks by their service's ID.
	services map[string]*api.AgentService
	checks   map[string]*api.HealthCheck
}

// verdict is what is known of who else has a name.
type verdict int

const (
	unknown verdict = iota
	free
	taken
)

// inputs of a plan.
type inputs struct {
	config  Config
	cluster catalog.ClusterName
	offer   Offer
	there   there
	// others says who else has a name in Consul.
	others map[string]verdict
	// denied are names that Consul has refused a moment ago.
	denied map[string]time.Time
	// missing says since when the gateway of an entry is not known.
	missing map[string]time.Time
	now     time.Time
}

// plan is what is to be done.
type plan struct {
	// node is to be made.
	node bool
	// puts are entries to be written whole, marks those of which only the check is.
	puts, marks []*entry
	// removes are IDs of entries, with the names that they had.
	removes map[string]string
	// refused are told; entries and reachable are counts of what there will be.
	refused            []Refusal
	entries, reachable int
	// missing is inputs.missing of the next time.
	missing map[string]time.Time
	// names are those that are wanted or ours, in order.
	names []string
}

// makePlan compares. It is pure.
func makePlan(in inputs) plan {
	p := plan{removes: map[string]string{}, missing: map[string]time.Time{}}
	wanted, left := in.config.entries(in.cluster, in.offer.Ways)
	p.refused = left
	if in.there.exists && in.there.meta[agent.OwnerMeta] != string(in.cluster) {
		// Not one of ours may be written there, and none of ours can be there.
		for _, id := range slices.Sorted(maps.Keys(wanted)) {
			p.refused = append(p.refused, refusalOf(wanted[id], Node))
		}
		return p
	}
	p.node = !in.there.exists
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		e := wanted[id]
		have := in.there.services[id]
		p.names = append(p.names, e.name)
		if e.destination != "" {
			p.names = append(p.names, e.destination)
		}
		if _, denied := in.denied[e.name]; denied {
			p.refused = append(p.refused, refusalOf(e, Denied))
			continue
		}
		switch in.othersHave(e) {
		case unknown:
			if !in.owns(have) {
				continue // it is not written before that is known; what is there goes on
			}
		case taken:
			p.refused = append(p.refused, refusalOf(e, Taken))
			continue // and is removed below, if it is there
		case free:
		}
		if have != nil && !in.owns(have) {
			p.refused = append(p.refused, refusalOf(e, Taken)) // on our own node
			continue
		}
		p.entries++
		p.reachable += truth(e.reachable)
		check := in.there.checks[id]
		switch {
		case have == nil || !e.same(have):
			p.puts = append(p.puts, e)
		case check == nil || check.Status != e.status() || check.Output != e.reason:
			p.marks = append(p.marks, e)
		}
	}
	p.collect(in, wanted)
	slices.Sort(p.names)
	p.names = slices.Compact(p.names)
	return p
}

// collect finds what is ours and wanted no more.
func (p *plan) collect(in inputs, wanted map[string]*entry) {
	for id, s := range in.there.services {
		if !in.owns(s) {
			continue
		}
		if e := wanted[id]; e != nil && in.othersHave(e) != taken {
			continue
		}
		if _, denied := in.denied[s.Service]; denied {
			p.entries++
			continue
		}
		gateway := s.Meta[gatewayMeta]
		p.names = append(p.names, s.Service)
		if wanted[id] == nil && in.others[s.Service] != taken && !slices.Contains(in.offer.Gateways, gateway) {
			since, known := in.missing[id]
			if !known {
				since = in.now
			}
			if in.now.Sub(since) < gatewayGrace {
				p.missing[id] = since
				p.entries++
				continue
			}
		}
		p.removes[id] = s.Service
	}
}

// othersHave is what is known of who else has an entry's name, or that of the service
// that it is a proxy of: a service of this datacenter keeps its callers.
func (in *inputs) othersHave(e *entry) verdict {
	v := in.others[e.name]
	if e.destination == "" || v == taken {
		return v
	}
	if d := in.others[e.destination]; d != free {
		return d
	}
	return v
}

// owns: the entry is one that this cluster has made.
func (in *inputs) owns(s *api.AgentService) bool {
	return s != nil && s.Meta[agent.OwnerMeta] == string(in.cluster) && s.Meta[serviceMeta] != ""
}

func refusalOf(e *entry, reason string) Refusal {
	name, _ := catalog.ParseServiceName(e.meta[serviceMeta]) // as it was written
	return Refusal{Service: name, Name: e.name, Gateway: e.gateway, Reason: reason}
}

// empty reports whether there is nothing to write.
func (p *plan) empty() bool {
	return !p.node && len(p.puts)+len(p.marks)+len(p.removes) == 0
}

// maxOps bounds a transaction; Consul takes 128 operations.
const maxOps = 100

// transactions are what the plan does, each with the fence as its first operation.
// An entry and its check are never apart. What is written goes before what is
// removed, so that a name that moves to another ID has both for a moment, rather
// than none.
func (p *plan) transactions(node, writer string, cluster catalog.ClusterName, fence api.TxnOp) []api.TxnOps {
	var all []api.TxnOps
	current := api.TxnOps{&fence}
	flush := func() {
		if len(current) > 1 {
			all = append(all, current)
			current = api.TxnOps{&fence}
		}
	}
	add := func(ops ...*api.TxnOp) {
		if len(current)+len(ops) > maxOps {
			flush()
		}
		current = append(current, ops...)
	}
	if p.node {
		// Without an index: only where there still is none.
		add(&api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeCAS, Node: api.Node{
			Node: node, Address: nodeAddress, Meta: map[string]string{agent.OwnerMeta: string(cluster), writerMeta: writer},
		}}})
	}
	for _, e := range p.puts {
		add(
			&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: e.service(writer)}},
			&api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: e.check(node)}},
		)
	}
	for _, e := range p.marks {
		add(&api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: e.check(node)}})
	}
	for _, id := range slices.Sorted(maps.Keys(p.removes)) {
		// Its checks go with it.
		add(&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceDelete, Node: node, Service: api.AgentService{ID: id, Service: p.removes[id]}}})
	}
	flush()
	return all
}

// nodeAddress is what the node's own name answers, which stands for nothing: each
// entry has an address of its own.
const nodeAddress = "127.0.0.1"
