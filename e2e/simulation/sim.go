package simulation

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/route"
	"github.com/isthmus-mesh/isthmus/gateway/attempt"
)

// The phases of a run.
const (
	warmUp = 4 * time.Second
	// calm is how long nothing fails before all must agree: I4.
	calm = 10 * time.Second
	// after that it goes on for a while, in which nothing may go wrong any more.
	afterwards = time.Second
)

// Config is one run: it is decided by its fields alone.
type Config struct {
	Seed uint64
	// Trouble is how long faults are made; 0 draws it from the seed.
	Trouble time.Duration
	// Bug is planted; nil plants none.
	Bug *Bug
	// Trace receives a readable account; nil writes none.
	Trace io.Writer
}

// Result is what came of a run.
type Result struct {
	// Hash is of everything that happened: equal for equal configurations.
	Hash  uint64
	Steps uint64
	// Lasted is how much time was simulated.
	Lasted time.Duration
	// Violation is the first invariant that did not hold; nil where all did.
	Violation *Violation
	Stats     Stats
}

// Stats count what happened, so that a run in which nothing happens is noticed.
type Stats struct {
	Calls, Answered, Denied, Failed             uint64
	Attempts, Executions, Tables, Batches       uint64
	LinksLost, Ejections, Faults, Held, Refused uint64
	Drilled, Spared                             uint64
	Checks                                      uint64
}

// Add adds another run's.
func (s *Stats) Add(o Stats) {
	for _, f := range []struct {
		into *uint64
		more uint64
	}{
		{&s.Calls, o.Calls},
		{&s.Answered, o.Answered},
		{&s.Denied, o.Denied},
		{&s.Failed, o.Failed},
		{&s.Attempts, o.Attempts},
		{&s.Executions, o.Executions},
		{&s.Tables, o.Tables},
		{&s.Batches, o.Batches},
		{&s.LinksLost, o.LinksLost},
		{&s.Ejections, o.Ejections},
		{&s.Drilled, o.Drilled},
		{&s.Spared, o.Spared},
		{&s.Faults, o.Faults},
		{&s.Held, o.Held},
		{&s.Refused, o.Refused},
		{&s.Checks, o.Checks},
	} {
		*f.into += f.more
	}
}

// Sim is one run under way. Everything in it is for one goroutine.
type Sim struct {
	engine
	seams    seams
	net      *network
	oracle   *oracle
	clusters []*cluster
	gateways []*gateway
	names    []catalog.ServiceName
	order    []catalog.ClusterName
	ramp     route.RampOptions
	guard    discovery.GuardOptions

	gap      time.Duration // between the calls of a gateway
	loadEnds time.Duration
	calls    uint64
	faults   *faults
	stats    Stats
}

// Run runs a configuration to its end, or to the first violation.
func Run(c Config) Result {
	s := &Sim{engine: newEngine(c.Seed, c.Trace), seams: product()}
	if c.Bug != nil {
		c.Bug.plant(&s.seams)
	}
	s.oracle = newOracle(s)
	s.build()
	trouble := c.Trouble
	if trouble == 0 {
		trouble = s.between(8*time.Second, 20*time.Second)
	}
	heal := warmUp + trouble
	end := heal + calm + s.net.longest() + afterwards
	s.loadEnds = end
	s.faults = newFaults(s, warmUp, heal)
	s.at(heal, s.faults.heal)
	s.at(heal+calm+s.net.longest(), s.oracle.agree)
	for s.oracle.violation == nil && s.step(end) {
	}
	s.oracle.sum()
	return Result{Hash: s.hash, Steps: s.steps, Lasted: s.now, Violation: s.oracle.violation, Stats: s.stats}
}

// longest is two round trips of the longest way.
func (n *network) longest() time.Duration {
	most := time.Duration(0)
	for _, row := range n.delay {
		for _, d := range row {
			most = max(most, 4*d)
		}
	}
	return most
}

var places = []catalog.Locality{
	{Cloud: "aws", Region: "us-east-1"},
	{Cloud: "gcp", Region: "us-central1"},
	{Cloud: "aws", Region: "eu-west-1"},
	{Cloud: "lab", Region: "rack"},
	{Cloud: "gcp", Region: "asia-east1"},
	{Cloud: "aws", Region: "us-east-1"},
}

// build draws a world and starts it.
func (s *Sim) build() {
	count := 3
	switch {
	case s.chance(0.05):
		count = s.number(5, 6)
	case s.chance(0.25):
		count = 4
	}
	s.net = newNetwork(s, count)
	s.gap = s.between(100*time.Millisecond, 300*time.Millisecond)
	s.ramp = route.RampOptions{Hold: 2 * time.Second, Step: 0.25, Interval: 500 * time.Millisecond}
	s.guard = discovery.GuardOptions{Window: 2 * time.Second}
	for _, n := range []string{"web", "cart", "pay", "search"} {
		s.names = append(s.names, catalog.MustServiceName(n+".shop"))
	}
	for i := range count {
		c := &cluster{s: s, index: i, name: catalog.ClusterName(fmt.Sprintf("c%d", i)), locality: places[i], parted: make(map[*gateway]bool)}
		c.id = "spiffe://" + string(c.name) + ".test/isthmus/cluster/" + string(c.name)
		s.clusters = append(s.clusters, c)
		s.order = append(s.order, c.name)
	}
	for _, c := range s.clusters {
		s.furnish(c)
	}
	for _, c := range s.clusters {
		c.fed = &federation{process: process{engine: &s.engine, name: "fed." + string(c.name)}, s: s, home: c, disk: newDisk(c.rules)}
		gateways := 1
		if s.chance(0.4) {
			gateways = 2
		}
		for i := range gateways {
			short := fmt.Sprintf("g%d", i)
			g := &gateway{
				process: process{engine: &s.engine, name: short + "." + string(c.name)},
				s:       s, net: s.net, home: c, short: short, id: c.id + "/gateway/" + short, oracle: s.oracle,
			}
			c.gateways = append(c.gateways, g)
			s.gateways = append(s.gateways, g)
		}
	}
	for _, c := range s.clusters {
		c.fed.skew = s.between(-time.Minute, time.Minute)
		c.fed.boot()
		for _, g := range c.gateways {
			g.skew = s.between(-time.Minute, time.Minute)
			g.boot()
			g.load()
		}
	}
}

// furnish draws a cluster's services and rules.
func (s *Sim) furnish(c *cluster) {
	c.rules = rules{
		exported: map[catalog.ServiceName][]catalog.ClusterName{}, imported: map[catalog.ClusterName][]catalog.ServiceName{},
		denied: map[catalog.ServiceName][]catalog.ClusterName{},
	}
	for k, name := range s.names {
		// Every service has a home at least; others by chance.
		if k%len(s.clusters) != c.index && !s.chance(0.4) {
			continue
		}
		v := &service{home: c, name: name}
		c.services = append(c.services, v)
		for range s.number(1, 4) {
			v.addInstance()
		}
		for _, to := range s.clusters {
			if to != c && s.chance(0.85) {
				c.rules.exported[name] = append(c.rules.exported[name], to.name)
			}
		}
	}
	for _, from := range s.clusters {
		for _, name := range s.names {
			if from != c && s.chance(0.85) {
				c.rules.imported[from.name] = append(c.rules.imported[from.name], name)
			}
		}
	}
}

// leads says which of two gateways dials the other.
func (s *Sim) leads(a, b *gateway) bool {
	for _, g := range s.gateways {
		if g == a || g == b {
			return g == a
		}
	}
	return false
}

// count counts how a client's call ended.
func (s *Sim) count(err error) {
	s.stats.Calls++
	var failed *attempt.Error
	switch {
	case err == nil:
		s.stats.Answered++
	case errors.As(err, &failed) && failed.Denied:
		s.stats.Denied++
	default:
		s.stats.Failed++
	}
}
