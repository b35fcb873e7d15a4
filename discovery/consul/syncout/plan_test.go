package syncout

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

func way(service, gateway, address string, change ...func(*Way)) Way {
	w := Way{
		Service: catalog.MustServiceName(service), Protocol: catalog.TCP, Gateway: gateway,
		Address: netip.MustParseAddrPort(address), Reachable: true, Reason: "reachable in west",
	}
	for _, c := range change {
		c(&w)
	}
	return w
}

func config() Config { return Config{Tags: []string{"isthmus"}}.WithDefaults("east") }

// after is what Consul has once a plan was carried out.
func after(in inputs, p plan) there {
	t := there{exists: in.there.exists || p.node, meta: in.there.meta, services: maps.Clone(in.there.services), checks: maps.Clone(in.there.checks)}
	if t.services == nil {
		t.services, t.checks = map[string]*api.AgentService{}, map[string]*api.HealthCheck{}
	}
	if p.node {
		t.meta = map[string]string{agent.OwnerMeta: string(in.cluster)}
	}
	for _, e := range p.puts {
		s, c := e.service("w1"), e.check(in.config.Node)
		t.services[e.id], t.checks[e.id] = &s, &c
	}
	for _, e := range p.marks {
		c := e.check(in.config.Node)
		t.checks[e.id] = &c
	}
	for id := range p.removes {
		delete(t.services, id)
		delete(t.checks, id)
	}
	return t
}

// freeFor says that nobody else has the names.
func freeFor(names ...string) map[string]verdict {
	m := map[string]verdict{}
	for _, n := range names {
		m[n] = free
	}
	return m
}

func reasonsOf(p plan) (out []string) {
	for _, r := range p.refused {
		out = append(out, r.Name+" "+r.Reason)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func ids(entries []*entry) (out []string) {
	for _, e := range entries {
		out = append(out, e.id)
	}
	return out
}

func TestPlan(t *testing.T) {
	base := inputs{
		config: config(), cluster: "east", now: time.Unix(1000, 0), others: freeFor("billing", "orders-shop"),
		offer: Offer{Ways: []Way{way("billing", "gw1", "10.0.0.5:9000"), way("orders.shop", "gw1", "10.0.0.5:9001")}, Gateways: []string{"gw1"}},
	}
	full := base
	full.there = after(base, makePlan(base))
	with := func(in inputs, change func(*inputs)) inputs {
		in.others = maps.Clone(in.others)
		in.there.services, in.there.checks = maps.Clone(in.there.services), maps.Clone(in.there.checks)
		change(&in)
		return in
	}
	only := func(ways ...Way) func(*inputs) { return func(in *inputs) { in.offer.Ways = ways } }
	for name, c := range map[string]struct {
		in                   inputs
		puts, marks, removes []string
		refused              []string
	}{
		"nothing is there":     {in: base, puts: []string{"billing@gw1", "orders-shop@gw1"}},
		"all is there":         {in: full},
		"nobody knows who has": {in: with(base, func(in *inputs) { delete(in.others, "billing") }), puts: []string{"orders-shop@gw1"}},
		"what is ours goes on while nobody knows": {in: with(full, func(in *inputs) {
			clear(in.others)
			in.offer.Ways[0].Reachable = true
		})},
		"another has the name": {
			in:   with(base, func(in *inputs) { in.others["billing"] = taken }),
			puts: []string{"orders-shop@gw1"}, refused: []string{"billing taken"},
		},
		"another came later": {
			in:      with(full, func(in *inputs) { in.others["billing"] = taken }),
			removes: []string{"billing@gw1"}, refused: []string{"billing taken"},
		},
		"import is gone": {in: with(full, only(way("billing", "gw1", "10.0.0.5:9000"))), removes: []string{"orders-shop@gw1"}},
		"nowhere to be reached": {
			in: with(full, only(way("billing", "gw1", "10.0.0.5:9000", func(w *Way) { w.Reachable = false }), way("orders.shop", "gw1", "10.0.0.5:9001"))), marks: []string{"billing@gw1"},
		},
		"listener has moved": {
			in: with(full, only(way("billing", "gw1", "10.0.0.6:9000"), way("orders.shop", "gw1", "10.0.0.5:9001"))), puts: []string{"billing@gw1"},
		},
		"gateway is not known": {in: with(full, func(in *inputs) { in.offer = Offer{Gateways: []string{"gw2"}} })},
		"gateway has long been unknown": {
			in: with(full, func(in *inputs) {
				in.offer = Offer{Gateways: []string{"gw2"}}
				in.missing = map[string]time.Time{"billing@gw1": in.now.Add(-2 * gatewayGrace)}
			}),
			removes: []string{"billing@gw1"},
		},
		"an entry of another on our node": {
			in: with(full, func(in *inputs) {
				in.there.services["billing@gw1"] = &api.AgentService{ID: "billing@gw1", Service: "billing"}
				in.there.services["theirs"] = &api.AgentService{ID: "theirs", Service: "theirs", Meta: map[string]string{agent.OwnerMeta: "west", serviceMeta: "theirs.default"}}
			}),
			refused: []string{"billing taken"},
		},
		"the node is another's": {
			in:      with(full, func(in *inputs) { in.there.meta = nil }),
			refused: []string{"billing node", "orders-shop node"},
		},
		"somebody removed a check": {in: with(full, func(in *inputs) { delete(in.there.checks, "billing@gw1") }), marks: []string{"billing@gw1"}},
		"refused by an ACL": {
			in:   with(base, func(in *inputs) { in.denied = map[string]time.Time{"billing": in.now} }),
			puts: []string{"orders-shop@gw1"}, refused: []string{"billing denied"},
		},
		"names": {
			in: with(base, func(in *inputs) {
				in.others = freeFor("billing", "billing-admin", "billing-shop")
				only(
					way("billing", "gw1", "10.0.0.5:9000"), way("billing", "gw1", "10.0.0.5:9002", func(w *Way) { w.Port = "admin" }),
					way("billing", "gw1", "10.0.0.5:7080", func(w *Way) { w.HTTP = true }),                   // beside a listener of its own
					way("billing.shop", "gw1", "10.0.0.5:9003"), way("billing-shop", "gw2", "10.0.0.6:9003"), // one name
					way("x", "gw1", "127.0.0.1:9004"), way("web", "gw1", "10.0.0.5:7080", func(w *Way) { w.HTTP = true }),
					way(strings.Repeat("a", 60)+".shop", "gw1", "10.0.0.5:9005"),
				)(in)
			}),
			puts:    []string{"billing-admin@gw1", "billing-shop@gw2", "billing@gw1"},
			refused: []string{strings.Repeat("a", 60) + "-shop too_long", "billing-shop twice", "x loopback"},
		},
		"a listener for sidecars": {
			in: with(base, func(in *inputs) {
				in.others = freeFor("billing", "bills", "bills-isthmus-proxy")
				only(way("billing", "gw1", "10.0.0.5:9000"), way("billing", "gw1", "10.0.0.5:15001", func(w *Way) { w.Mesh = "bills" }))(in)
			}),
			puts: []string{"billing@gw1", "bills-isthmus-proxy@gw1"},
		},
		"a listener for sidecars of a service that somebody has here": {
			in: with(base, func(in *inputs) {
				in.others = freeFor("billing-isthmus-proxy")
				in.others["billing"] = taken
				only(way("billing", "gw1", "10.0.0.5:15001", func(w *Way) { w.Mesh = "billing" }))(in)
			}),
			refused: []string{"billing-isthmus-proxy taken"},
		},
		"nobody knows whether somebody has it": {
			in: with(base, func(in *inputs) {
				in.others = freeFor("billing-isthmus-proxy")
				only(way("billing", "gw1", "10.0.0.5:15001", func(w *Way) { w.Mesh = "billing" }))(in)
			}),
		},
		"the http way in": {
			in: with(base, func(in *inputs) {
				in.config.HTTP, in.others = true, freeFor("web")
				only(way("web", "gw1", "10.0.0.5:7080", func(w *Way) { w.HTTP = true }), way("web.shop", "gw1", "10.0.0.5:7080", func(w *Way) { w.HTTP = true }))(in)
			}),
			puts: []string{"web@gw1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := makePlan(c.in)
			if !slices.Equal(ids(p.puts), c.puts) || !slices.Equal(ids(p.marks), c.marks) ||
				!slices.Equal(slices.Sorted(maps.Keys(p.removes)), c.removes) || !slices.Equal(reasonsOf(p), c.refused) {
				t.Errorf("puts %v, marks %v, removes %v, refused %v", ids(p.puts), ids(p.marks), p.removes, reasonsOf(p))
			}
		})
	}
}

// Whatever is wanted and there: once a plan is carried out there is nothing left to
// do, what others own is as it was, and each transaction is fenced and bounded.
func TestAPlanIsDoneOnceAndTouchesNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		services := []string{"a", "b", "a.shop", "a-shop"}
		in := inputs{config: config(), cluster: "east", now: time.Unix(1000, 0), others: map[string]verdict{}}
		in.config.HTTP, in.config.Loopback = rapid.Bool().Draw(t, "http"), rapid.Bool().Draw(t, "loopback")
		for range rapid.IntRange(0, 12).Draw(t, "ways") {
			in.offer.Ways = append(in.offer.Ways, way(
				rapid.SampledFrom(services).Draw(t, "service"), rapid.SampledFrom([]string{"gw1", "gw2"}).Draw(t, "gateway"),
				rapid.SampledFrom([]string{"10.0.0.5:1", "10.0.0.6:1", "127.0.0.1:1"}).Draw(t, "address"), func(w *Way) {
					w.Port, w.HTTP = rapid.SampledFrom([]string{"", "p"}).Draw(t, "port"), rapid.Bool().Draw(t, "way")
					w.Reachable = rapid.Bool().Draw(t, "reachable")
					if w.Mesh = rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(t, "mesh"); w.Mesh != "" {
						w.HTTP = false
					}
				}))
		}
		in.offer.Gateways = []string{"gw1"}
		for _, n := range []string{"a", "b", "a-shop", "a-p", "b-p", "a-shop-p", "a-isthmus-proxy", "b-isthmus-proxy"} {
			in.others[n] = rapid.SampledFrom([]verdict{unknown, free, taken}).Draw(t, "others")
		}
		if rapid.Bool().Draw(t, "node is there") {
			in.there = there{exists: true, meta: map[string]string{agent.OwnerMeta: "east"}, services: map[string]*api.AgentService{}, checks: map[string]*api.HealthCheck{}}
			for range rapid.IntRange(0, 6).Draw(t, "entries") {
				name := rapid.SampledFrom([]string{"a", "b", "a-shop", "old"}).Draw(t, "name")
				gateway := rapid.SampledFrom([]string{"gw1", "gw2"}).Draw(t, "its gateway")
				s := &api.AgentService{ID: name + "@" + gateway, Service: name, Meta: map[string]string{gatewayMeta: gateway, serviceMeta: "x.default"}}
				if owner := rapid.SampledFrom([]string{"", "east", "west"}).Draw(t, "owner"); owner != "" {
					s.Meta[agent.OwnerMeta] = owner
				}
				in.there.services[s.ID] = s
			}
		}
		p := makePlan(in)
		result := after(in, p)
		for id, s := range in.there.services {
			if !in.owns(s) && result.services[id] != s {
				t.Fatalf("%s is not ours and was touched", id)
			}
		}
		for id, s := range result.services {
			if in.owns(s) && (in.others[s.Service] == taken || s.Proxy != nil && in.others[s.Proxy.DestinationServiceName] == taken) {
				t.Fatalf("%s stands beside another's", id)
			}
		}
		fence := api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVCheckSession}}
		for _, ops := range p.transactions("n", "w", "east", fence) {
			if ops[0].KV == nil || len(ops) > maxOps {
				t.Fatalf("%d operations, fenced: %v", len(ops), ops[0].KV != nil)
			}
		}
		in.there, in.missing = result, p.missing
		if again := makePlan(in); !again.empty() {
			t.Fatalf("not done: puts %v, marks %v, removes %v", ids(again.puts), ids(again.marks), again.removes)
		}
	})
}

func TestConfigReportsAllProblems(t *testing.T) {
	err := Config{
		Config: agent.Config{Address: "x", Scheme: "ftp"}, Node: "a b", Lock: "/x", Namespace: "A", Tags: []string{"A b"}, SessionTTL: time.Millisecond,
	}.Validate()
	for _, field := range []string{"address", "scheme", "node", "lock", "namespace", "tags", "session_ttl"} {
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("%s is missing in %v", field, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}
