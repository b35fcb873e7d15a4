package simulate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/price"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// Change is what is supposed.
type Change struct {
	// Down are places that are dead: clusters, regions (CLOUD/REGION) or clouds.
	Down []Place
	// Capacity are places of which only a part is left.
	Capacity []Capacity
	// Traffic are traffic policies that take the place of those of their names, or
	// are added.
	Traffic []policy.Traffic
	// Prices are a price book that holds instead; nil changes none.
	Prices *price.Book
}

// Place is a cluster by its name, or all clusters of a locality.
type Place struct {
	Cluster catalog.ClusterName
	Cloud   string
	Region  string
}

// ParsePlace reads CLUSTER, CLOUD/REGION or CLOUD. A name without "/" is a cluster
// where one is called so, else a cloud: see Resolve.
func ParsePlace(s string) (Place, error) {
	cloud, region, deep := strings.Cut(s, "/")
	if !deep {
		name, err := catalog.ParseClusterName(s)
		if err != nil {
			return Place{}, fmt.Errorf("place %q: must be a cluster, CLOUD/REGION or CLOUD: %w", s, err)
		}
		return Place{Cluster: name, Cloud: s}, nil
	}
	if _, err := catalog.ParseLocality(s); err != nil || strings.Contains(region, "/") || region == "" {
		return Place{}, fmt.Errorf("place %q: must be a cluster, CLOUD/REGION or CLOUD", s)
	}
	return Place{Cloud: cloud, Region: region}, nil
}

// String is as ParsePlace reads it.
func (p Place) String() string {
	switch {
	case p.Region != "":
		return p.Cloud + "/" + p.Region
	case p.Cluster != "":
		return string(p.Cluster)
	default:
		return p.Cloud
	}
}

// matches reports whether a cluster is meant; named says that some cluster has the
// place's name, so that no cloud is meant.
func (p Place) matches(name catalog.ClusterName, l catalog.Locality, named bool) bool {
	switch {
	case p.Region != "":
		return l.Cloud == p.Cloud && l.Region == p.Region
	case named:
		return name == p.Cluster
	default:
		return l.Cloud == p.Cloud
	}
}

// Capacity is what is left of a place, from 0 to 1.
type Capacity struct {
	Place Place
	Left  float64
}

// ParseCapacity reads PLACE=SHARE, the share from 0 to 1 or in percent ("50%").
func ParseCapacity(s string) (Capacity, error) {
	where, share, ok := strings.Cut(s, "=")
	if !ok {
		return Capacity{}, fmt.Errorf("capacity %q: must be PLACE=SHARE, such as gcp-us-central1=0.5", s)
	}
	p, err := ParsePlace(where)
	if err != nil {
		return Capacity{}, err
	}
	number, percent := strings.CutSuffix(share, "%")
	left, err := strconv.ParseFloat(number, 64)
	if percent {
		left /= 100
	}
	if err != nil || !(left >= 0 && left <= 1) {
		return Capacity{}, fmt.Errorf("capacity %q: the share must be from 0 to 1, or from 0%% to 100%%", s)
	}
	return Capacity{Place: p, Left: left}, nil
}

// clusters are those of a table that places mean.
func clusters(t *route.Table, places []Place) (found map[catalog.ClusterName]bool, unknown []Place) {
	found = make(map[catalog.ClusterName]bool)
	for _, p := range places {
		named, met := false, false
		each(t, func(name catalog.ClusterName, _ catalog.Locality) { named = named || name == p.Cluster })
		each(t, func(name catalog.ClusterName, l catalog.Locality) {
			if p.matches(name, l, named) {
				found[name], met = true, true
			}
		})
		if !met {
			unknown = append(unknown, p)
		}
	}
	return found, unknown
}

func each(t *route.Table, f func(catalog.ClusterName, catalog.Locality)) {
	f(t.Cluster.Name, t.Cluster.Locality)
	for i := range t.Peers {
		f(t.Peers[i].Name, t.Peers[i].Locality)
	}
}

// long is longer than anything that is waited for: a peer that was not heard for
// that long is withdrawn.
const long = 10 * route.WithdrawAfter

// apply returns the table and the report as they would be; what is shared with the
// old ones is not changed.
func (c *Change) apply(t *route.Table, r *route.Report, down map[catalog.ClusterName]bool, settled bool) (*route.Table, *route.Report) {
	table, report := *t, *r
	since := r.At
	if settled {
		since = r.At.Add(-long)
	}
	table.Peers = slices.Clone(t.Peers)
	for i := range table.Peers {
		if p := &table.Peers[i]; down[p.Name] {
			p.ControlLost, p.HeardAt = true, since
		}
	}
	report.Clusters, report.Links = slices.Clone(r.Clusters), slices.Clone(r.Links)
	for i := range report.Clusters {
		if l := &report.Clusters[i]; down[l.Cluster] {
			l.Up, l.Draining, l.Since = false, false, since
		}
	}
	for i := range report.Links {
		if l := &report.Links[i]; down[l.Cluster] {
			l.State, l.Since = "down", since
		}
	}
	if len(c.Traffic) > 0 {
		c.police(&table)
	}
	if c.Prices != nil {
		tariff := c.Prices.Tariff(t.Cluster.Locality, price.Sites(t.Peers), r.At)
		if t.Tariff != nil {
			tariff.Saving = t.Tariff.Saving
		}
		table.Tariff = tariff
	}
	for _, k := range c.Capacity {
		only, _ := clusters(t, []Place{k.Place})
		cut(&table, &report, only, k.Left)
	}
	if settled {
		settle(&report)
	}
	return &table, &report
}

// settle ends what passes by itself: ramps, ejections and old reports.
func settle(r *route.Report) {
	r.Targets = slices.Clone(r.Targets)
	for i := range r.Targets {
		r.Targets[i].Withheld = 0
	}
	for i := range r.Clusters {
		r.Clusters[i].Withheld = 0
	}
}

// police puts the supposed traffic policies in force.
func (c *Change) police(t *route.Table) {
	var set policy.Set
	add := func(p policy.Traffic) {
		i := slices.IndexFunc(set.Traffic, func(q policy.Traffic) bool { return q.Name == p.Name })
		if i < 0 {
			set.Traffic = append(set.Traffic, p)
			return
		}
		set.Traffic[i] = p
	}
	t.Services = slices.Clone(t.Services)
	for i := range t.Services {
		if p := t.Services[i].Traffic; p != nil {
			add(*p) // those that no service has would not count anyway
		}
	}
	for _, p := range c.Traffic {
		add(p)
	}
	ix := policy.NewIndex(set)
	for i := range t.Services {
		s := &t.Services[i]
		s.Traffic = nil
		if p := ix.TrafficFor(s.Name); p.Name != "" {
			s.Traffic = p
		}
	}
}

// cut leaves a part of what clusters have.
func cut(t *route.Table, r *route.Report, only map[catalog.ClusterName]bool, left float64) {
	part := func(n uint32) uint32 { return uint32(float64(n)*left + 0.5) }
	t.Services = slices.Clone(t.Services)
	for i := range t.Services {
		s := &t.Services[i]
		s.Remote = slices.Clone(s.Remote)
		for k := range s.Remote {
			if !only[s.Remote[k].Cluster] {
				continue
			}
			s.Remote[k].Rows = slices.Clone(s.Remote[k].Rows)
			for n := range s.Remote[k].Rows {
				row := &s.Remote[k].Rows[n]
				row.Ready, row.Capacity = part(row.Ready), uint64(float64(row.Capacity)*left)
			}
		}
		if !only[t.Cluster.Name] {
			continue
		}
		s.Endpoints = slices.Clone(s.Endpoints)
		kept := int(float64(len(s.Endpoints))*left + 0.5)
		for k := kept; k < len(s.Endpoints); k++ {
			s.Endpoints[k].Health = catalog.Critical
		}
	}
	r.Targets = slices.Clone(r.Targets)
	for i := range r.Targets {
		x := &r.Targets[i]
		if !only[x.Target.Cluster] {
			continue
		}
		if x.Reported {
			x.Ready = part(x.Ready)
		}
		if x.Room != nil && x.Target.Cluster != t.Cluster.Name { // the own is counted by endpoints
			room := *x.Room
			room.Capacity = uint64(float64(room.Capacity) * left)
			room.SetSpare(room.GradedSpare().Times(left))
			room.SetGrant(room.GradedGrant().Times(left))
			x.Room = &room
		}
	}
}
