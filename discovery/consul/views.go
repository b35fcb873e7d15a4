package consul

import (
	"cmp"
	"strings"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/consul/agent"
)

const (
	// maxViews bounds the sources of one configuration: 32 of them, with two
	// watches, two reads at once and one query more each, take 160 of the 200
	// connections that an agent allows a client.
	maxViews = 32
	// fetchers bounds the reads of services at once of one source, allFetchers
	// those of all sources of a configuration.
	fetchers    = 16
	allFetchers = 64
	// watches is the number of blocking queries of a source.
	watches = 2
)

// view is what one source reads.
type view struct {
	agent.View
	// suffix of the source's name, "" for a lone one.
	suffix string
	// namespace of the catalog, locality and labels of instances.
	namespace string
	locality  string
	labels    map[string]string
	// fetchers of it.
	fetchers int
}

// conns is how many connections the source holds at most: a re-read of the list
// and the mesh's trust domain go beside watches and fetchers.
func (v view) conns() int { return watches + v.fetchers + 1 }

// tenant: the view is of a partition or namespace without Consul's own service.
func (v view) tenant() bool {
	return cmp.Or(v.Partition, "default") != "default" || cmp.Or(v.View.Namespace, "default") != "default"
}

func (n Namespace) catalog() string { return cmp.Or(n.As, n.Name) }

// views are in the order of the configuration, datacenters first.
func (c Config) views() []view {
	datacenters, namespaces := c.Datacenters, c.Namespaces
	if len(datacenters) == 0 {
		datacenters = []Datacenter{{Name: c.Datacenter}}
	}
	if len(namespaces) == 0 {
		namespaces = []Namespace{{As: c.Namespace}}
	}
	var out []view
	for _, d := range datacenters {
		for _, n := range namespaces {
			v := view{
				View:      agent.View{Datacenter: d.Name, Partition: c.Partition, Namespace: n.Name},
				namespace: n.catalog(), locality: d.Locality, labels: d.Labels,
				fetchers: min(fetchers, max(2, allFetchers/(len(datacenters)*len(namespaces)))),
			}
			if len(c.Datacenters) > 0 {
				v.suffix += "-" + label(d.Name)
			}
			if len(c.Namespaces) > 0 {
				v.suffix += "-" + label(n.Name)
			}
			out = append(out, v)
		}
	}
	return out
}

// label is a name of Consul's as a part of a source's name, a DNS label.
func label(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// SourceNames are the names of the sources that the configuration makes of one
// entry called name: that alone, or NAME-DATACENTER, NAME-NAMESPACE or
// NAME-DATACENTER-NAMESPACE where datacenters or namespaces are listed.
func (c Config) SourceNames(name string) []string {
	var names []string
	for _, v := range c.views() {
		names = append(names, name+v.suffix)
	}
	return names
}

// home is the locality of an instance of which Consul says none.
func (v view) home(cluster catalog.Locality) catalog.Locality {
	if l, err := catalog.ParseLocality(v.locality); err == nil && v.locality != "" {
		return l
	}
	return cluster
}
