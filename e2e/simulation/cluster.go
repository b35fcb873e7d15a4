package simulation

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// cluster is one autonomous unit: what is true of its services, a federation, and
// gateways.
type cluster struct {
	s        *Sim
	index    int
	name     catalog.ClusterName
	id       string
	locality catalog.Locality
	fed      *federation
	gateways []*gateway
	services []*service
	source   source
	// rules are what its operators have written; those of the federation's store may
	// be older after a restore.
	rules rules
	// parted gateways do not reach the federation.
	parted map[*gateway]bool
	serial int // of instances
}

// service is one that the cluster hosts.
type service struct {
	home      *cluster
	name      catalog.ServiceName
	instances []*instance
}

// behaviour of an instance.
type behaviour int

const (
	answers behaviour = iota
	slow
	hangs
	refuses // nothing listens
	breaks  // takes the call and resets
	fails   // answers that it failed
)

// instance is one endpoint, as it is in truth.
type instance struct {
	of         *service
	endpoint   catalog.Endpoint
	registered bool
	does       behaviour
	// well is since when it is registered and answers; changed is when any of it did.
	well time.Duration
}

const port = "http"

// addInstance registers one more.
func (v *service) addInstance() *instance {
	c := v.home
	c.serial++
	n := c.serial
	i := &instance{
		of: v, registered: true, well: c.s.now,
		endpoint: catalog.Endpoint{
			ID: fmt.Sprintf("%s-%d", v.name.Name(), n), Port: port, Weight: 1, Health: catalog.Passing, Locality: c.locality,
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(c.index), byte(n >> 8), byte(n)}), 8080),
		},
	}
	v.instances = append(v.instances, i)
	return i
}

// healthy reports whether it serves and is registered, since then.
func (i *instance) healthy(since time.Duration) bool {
	return i.registered && (i.does == answers || i.does == slow) && i.well <= since
}

func (i *instance) set(b behaviour) {
	if i.does == b {
		return
	}
	i.of.home.s.note(i.endpoint.ID, "behaves otherwise", uint64(b))
	i.does = b
	i.well = i.of.home.s.now
}

func (v *service) instance(id string) *instance {
	for _, i := range v.instances {
		if i.endpoint.ID == id {
			return i
		}
	}
	return nil
}

func (c *cluster) service(n catalog.ServiceName) *service {
	for _, v := range c.services {
		if v.name == n {
			return v
		}
	}
	return nil
}

// truth is what an honest registry says now.
func (c *cluster) truth() *catalog.Snapshot {
	var list []*catalog.Service
	for _, v := range c.services {
		s := &catalog.Service{Name: v.name, Ports: []catalog.Port{{Name: port, Protocol: catalog.HTTP}}}
		for _, i := range v.instances {
			if i.registered {
				s.Endpoints = append(s.Endpoints, i.endpoint)
			}
		}
		if len(s.Endpoints) > 0 {
			slices.SortFunc(s.Endpoints, catalog.Endpoint.Compare)
			list = append(list, s)
		}
	}
	return snapshotOf(list)
}

const sourceName = "registry"

func snapshotOf(list []*catalog.Service) *catalog.Snapshot {
	s, err := catalog.NewSnapshot(sourceName, list)
	if err != nil {
		panic(err)
	}
	return s
}

// lie is how a source is wrong.
type lie int

const (
	honest  lie = iota
	empty       // complete, and nothing in it
	partial     // complete, and half of it missing
	stale       // what was true when it began
	flaps       // empty every other time
	mute        // no answer
)

// source is a registry as it is read.
type source struct {
	tells lie
	old   *catalog.Snapshot
	reads int
}

// read is one complete read; nil is none.
func (c *cluster) read() *catalog.Snapshot {
	c.source.reads++
	switch now := c.truth(); c.source.tells {
	case empty:
		return snapshotOf(nil)
	case partial:
		var list []*catalog.Service
		for v := range now.All() {
			if c.s.chance(0.5) {
				list = append(list, v)
			}
		}
		return snapshotOf(list)
	case stale:
		return c.source.old
	case flaps:
		if c.source.reads%2 == 0 {
			return snapshotOf(nil)
		}
		return now
	case mute:
		return nil
	case honest:
		return now
	default:
		return now
	}
}

// rules are the policy of a cluster as the simulation changes it: simple enough
// for an oracle to judge by itself.
type rules struct {
	// exported are the own services that are offered to each peer.
	exported map[catalog.ServiceName][]catalog.ClusterName
	// imported are those that are taken of each peer.
	imported map[catalog.ClusterName][]catalog.ServiceName
	// denied are the callers' clusters that an intention denies a service.
	denied map[catalog.ServiceName][]catalog.ClusterName
	// removed peers are no longer configured.
	removed []catalog.ClusterName
}

func (r rules) clone() rules {
	return rules{exported: cloneLists(r.exported), imported: cloneLists(r.imported), denied: cloneLists(r.denied), removed: slices.Clone(r.removed)}
}

func cloneLists[K comparable, V any](m map[K][]V) map[K][]V {
	out := make(map[K][]V, len(m))
	for k, v := range m {
		out[k] = slices.Clone(v)
	}
	return out
}

// allows is the oracle's reading: may a caller of cluster from call the service?
func (r rules) allows(own, from catalog.ClusterName, service catalog.ServiceName) bool {
	if slices.Contains(r.denied[service], from) {
		return false
	}
	return from == own || slices.Contains(r.exported[service], from) && !slices.Contains(r.removed, from)
}

func callerOf(c catalog.ClusterName) string { return "spiffe://" + string(c) + ".test/app" }

// set is what the federation compiles.
func (r rules) set(s *Sim) policy.Set {
	var set policy.Set
	for _, name := range s.names {
		text := name.Name()
		pattern := []policy.ServicePattern{policy.ServicePattern(name.String())}
		if to := r.exported[name]; len(to) > 0 {
			e := policy.Export{Name: text, Services: pattern}
			for _, c := range to {
				e.To = append(e.To, string(c))
			}
			set.Exports = append(set.Exports, e)
		}
		set.Intentions = append(set.Intentions, policy.Intention{Name: "allow-" + text, Services: pattern, Callers: allCallers(s), Action: policy.Allow})
		if from := r.denied[name]; len(from) > 0 {
			d := policy.Intention{Name: "deny-" + text, Services: pattern, Action: policy.Deny}
			for _, c := range from {
				d.Callers = append(d.Callers, policy.IDPattern(callerOf(c)))
			}
			set.Intentions = append(set.Intentions, d)
		}
	}
	for _, c := range s.clusters {
		if list := r.imported[c.name]; len(list) > 0 {
			m := policy.Import{Name: "from-" + string(c.name), From: c.name}
			for _, n := range list {
				m.Services = append(m.Services, policy.ServicePattern(n.String()))
			}
			set.Imports = append(set.Imports, m)
		}
	}
	return set.Canonical()
}

func allCallers(s *Sim) (list []policy.IDPattern) {
	for _, c := range s.clusters {
		list = append(list, policy.IDPattern(callerOf(c.name)))
	}
	return list
}

// nudgeSoon tells the federation of a changed link with the next report.
func (c *cluster) nudgeSoon(g *gateway) {
	f := c.fed
	if f == nil || !f.up || c.parted[g] || !g.up {
		return
	}
	r := g.report()
	f.after(localDelay+100*time.Millisecond, func() { f.takeReport(g, r) })
}
