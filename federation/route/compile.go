package route

import (
	"cmp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

const (
	// ReportFresh is how long a far gateway's report of ready endpoints goes
	// before the federation's summary; gateways repeat them more often.
	ReportFresh = 30 * time.Second
	// WithdrawAfter is how long both witnesses, the peer's catalog lease (30 s)
	// and its links, must be silent before its endpoints no longer count as
	// anybody's capacity: a lease's length again after it ran out.
	WithdrawAfter = time.Minute
)

// Plan is a compiled table: immutable, safe for concurrent use, and cheap to
// ask. Keep it in an atomic pointer and replace it whole.
type Plan struct {
	table    *Table
	evidence *Evidence
	self     catalog.Locality
	// alone: not one link is up, so that the fault may be this gateway's.
	alone bool
	// timed are the services whose plans time alone can change.
	timed []int32
	// names are where services are in list. Plans that follow each other share the map
	// while the names stay the same, and all that did not change of the list.
	names      map[catalog.ServiceName]int32
	list       []*servicePlan
	peers      map[catalog.ClusterName]*Peer
	live       *Live
	authorizer *policy.Authorizer
	defaults   *policy.Traffic
	drill      *drilling // nil: none
}

// servicePlan is one service's part.
type servicePlan struct {
	service *Service
	traffic *policy.Traffic
	// priorities is nil where the policy has none.
	priorities *policy.Prioritizer
	// perDollar is the price weight in force: seconds of delay that a dollar is worth.
	// saving says that it is that of the budget.
	perDollar float64
	saving    bool
	ports     []portPlan
	// subsets are the policy's, subsetSum the sum of their weights.
	subsets   []subsetPlan
	subsetSum uint64
	// gated: what is asked of it counts, since a capacity is known. timed: an ejection or
	// a slow start is under way. tables are those that it draws keys by.
	gated, timed bool
	tables       []*hashTable
}

// portPlan is one port of it: near is what Pick draws from, far what PickLocal
// does.
type portPlan struct {
	port      catalog.Port
	near, far *layout
	// drilled is what near is in a drill; nil where that is the same.
	drilled *layout
	meter   *Meter
	// ruled are the clusters that rules leave out of near.
	ruled []exclusion
	// variants are what some calls see of it; nil where none can ask.
	variants *variants
}

// Compile makes a plan of a table and the evidence of one moment. live supplies
// the counters; nil means new ones, and a nil e no evidence. Neither t nor e is
// changed, and neither may be changed afterwards. The same input gives the same
// plan, whatever the order of the table's lists.
func Compile(t *Table, e *Evidence, live *Live) *Plan {
	if live == nil {
		live = NewLive()
	}
	c := newCompiler(t, e, live)
	c.plan.names, c.plan.list = namesOf(t), make([]*servicePlan, len(t.Services))
	c.plan.authorizer = policy.NewAuthorizer(t.Intentions)
	live.mu.Lock() // once, rather than per counter
	defer live.mu.Unlock()
	live.gen++
	for i := range t.Services {
		c.compile(i)
	}
	return c.plan
}

// compile makes service i of the table. Of two of one name, which a checked table has
// not, the last goes.
func (c *compiler) compile(i int) {
	c.tables = nil
	sp := c.service(&c.table.Services[i])
	sp.tables = c.tables
	c.plan.list[i] = sp
	if sp.timed {
		c.plan.timed = append(c.plan.timed, int32(i))
	}
}

func newCompiler(t *Table, e *Evidence, live *Live) *compiler {
	if e == nil {
		e = new(Evidence)
	}
	c := &compiler{table: t, evidence: e, live: live, plan: &Plan{
		table: t, evidence: e, self: e.Self, live: live,
		peers:    make(map[catalog.ClusterName]*Peer, len(t.Peers)),
		defaults: policy.DefaultTraffic(),
		drill:    drillOf(t, e),
	}}
	if c.plan.self == (catalog.Locality{}) {
		c.plan.self = t.Cluster.Locality
	}
	c.plan.alone = len(t.Peers) > 0
	for i := range t.Peers {
		p := &t.Peers[i]
		c.plan.peers[p.Name] = p
		if l := e.Links[p.Name]; l.Up || l.Draining {
			c.plan.alone = false
		}
	}
	return c
}

// of is the plan of a service; nil if there is none.
func (p *Plan) of(name catalog.ServiceName) *servicePlan {
	if i, ok := p.names[name]; ok {
		return p.list[i]
	}
	return nil
}

// namesOf says where each service of a table is.
func namesOf(t *Table) map[catalog.ServiceName]int32 {
	names := make(map[catalog.ServiceName]int32, len(t.Services))
	for i := range t.Services {
		names[t.Services[i].Name] = int32(i)
	}
	return names
}

// Traffic is the policy of a service, with every default; never nil, and not to be
// changed.
func (p *Plan) Traffic(service catalog.ServiceName) *policy.Traffic {
	if s := p.of(service); s != nil {
		return s.traffic
	}
	return p.defaults
}

// Table is what the plan was compiled from.
func (p *Plan) Table() *Table { return p.table }

type compiler struct {
	table    *Table
	evidence *Evidence
	live     *Live // locked
	plan     *Plan
	weights  []uint64 // scratch
	tables   []*hashTable
	// subset restricts what is compiled; nil of a plan.
	subset *selector
}

func (c *compiler) service(row *Service) *servicePlan {
	// A copy: what is kept of a plan must not hold the rows of a table that is gone.
	s := new(*row)
	sp := &servicePlan{service: s, traffic: c.plan.defaults, ports: make([]portPlan, 0, len(s.Ports))}
	if s.Traffic != nil {
		sp.traffic = new(s.Traffic.Filled())
		if len(s.Traffic.Priorities) > 0 {
			sp.priorities = policy.NewPrioritizer(s.Traffic.Priorities)
		}
	}
	sp.perDollar, sp.saving = sp.traffic.PriceWeightIn(c.table.Tariff.saves(s.Name))
	sp.fillSubsets()
	for _, port := range s.Ports {
		pp := c.port(sp, port)
		if sp.traffic.Subsets != nil || len(s.ExportedTo) > 0 {
			pp.variants = new(variants)
		}
		sp.ports = append(sp.ports, pp)
	}
	slices.SortFunc(sp.ports, func(a, b portPlan) int { return cmp.Compare(a.port.Name, b.port.Name) })
	sp.note()
	return sp
}

// port finds the plan of a port by the rule of catalog.FindPort.
func (s *servicePlan) port(name string) *portPlan {
	if name == "" {
		if len(s.ports) == 1 {
			return &s.ports[0]
		}
		name = catalog.DefaultPort
	}
	for i := range s.ports {
		if s.ports[i].port.Name == name {
			return &s.ports[i]
		}
	}
	return nil
}

func (c *compiler) port(sp *servicePlan, port catalog.Port) portPlan {
	s := sp.service
	local := c.local(s, port, sp.traffic)
	for i := range local {
		local[i].endpoints.finish(c, sp.traffic)
	}
	pp := portPlan{port: port, meter: obtain(c.live.meters, PortKey{s.Name, port.Name}), far: c.farLayout(sp, port, local)}
	if len(s.Remote) == 0 && !ruled(sp.traffic) && !c.ownWithheld(local) {
		pp.near = pp.far
		pp.drilled = c.drilled(sp, port, local)
		return pp
	}
	all := make([]candidate, 0, len(local)+len(s.Remote))
	for _, cand := range local {
		c.chargeOwn(&cand)
		all = append(all, cand)
	}
	for i := range s.Remote {
		r := &s.Remote[i]
		peer := c.plan.peers[r.Cluster]
		if peer == nil || r.Cluster == c.table.Cluster.Name {
			continue
		}
		theirs, ok := findExact(r.Ports, port.Name)
		if !ok {
			pp.ruled = append(pp.ruled, exclusion{cluster: r.Cluster, reason: PortMissing})
			continue
		}
		cand := c.remote(s, port, r, peer, theirs, sp.traffic.Algorithm.Hashes())
		if c.subset != nil && cand.total == 0 {
			pp.ruled = append(pp.ruled, exclusion{cluster: r.Cluster, reason: SubsetMissing})
			continue
		}
		all = append(all, cand)
	}
	all, out := c.applyRules(all, sp.traffic)
	all, out = c.applySwitches(all, out)
	pp.ruled = append(pp.ruled, out...)
	slices.SortFunc(pp.ruled, func(a, b exclusion) int {
		return cmp.Or(cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.zone, b.zone))
	})
	pp.drilled = c.drilled(sp, port, all)
	pp.near = c.layout(sp, port, "near", all)
	return pp
}

// findExact finds a port by its name alone: "" was resolved by then.
func findExact(ports []catalog.Port, name string) (catalog.Port, bool) {
	for _, p := range ports {
		if p.Name == name {
			return p, true
		}
	}
	return catalog.Port{}, false
}

// ruled reports whether the policy says more than how to draw.
func ruled(t *policy.Traffic) bool {
	return len(t.Clusters) > 0 || len(t.Weights) > 0 || t.Pin != "" || t.DisableFailover ||
		len(t.LabelPriorities) > 0 || len(t.Distribute) > 0 || t.Residency != nil
}

// farLayout is what peers' calls draw from: the own endpoints by health and
// distance. The calling cluster's policy chose this cluster, so that this
// cluster's rules on clusters do not count, nor does the evidence that this
// gateway holds against its own cluster as a whole.
func (c *compiler) farLayout(sp *servicePlan, port catalog.Port, local []candidate) *layout {
	return c.layout(sp, port, "far", slices.Clone(local))
}
