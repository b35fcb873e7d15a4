package process

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/config"
	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/consul"
	"github.com/isthmus-mesh/isthmus/discovery/dns"
	"github.com/isthmus-mesh/isthmus/discovery/exec"
	"github.com/isthmus-mesh/isthmus/discovery/file"
	"github.com/isthmus-mesh/isthmus/federation"
)

// newSources builds what the configuration lists; a new kind of source is added
// here and in config.Source.
func newSources(c *config.Config, log *slog.Logger, registry prometheus.Registerer) ([]federation.NamedSource, error) {
	home := c.Cluster.Locality().WithZone("")
	var out []federation.NamedSource
	for _, s := range c.Federation.Sources {
		var source discovery.Source
		var err error
		add := func(name string, source discovery.Source) {
			out = append(out, federation.NamedSource{
				Name: name, Kind: s.Kind(), Source: source,
				Ranges: discovery.NewRanges(s.Allow...), Guard: s.Guard.Options(),
			})
		}
		switch {
		case s.Consul != nil:
			var all []*consul.Source
			all, err = consul.New(consul.Options{Name: s.Name, Config: *s.Consul, Locality: home, Log: log, Registerer: registry})
			for _, each := range all { // one for each datacenter
				add(each.Name(), each)
			}
		case s.DNS != nil:
			source, err = dns.New(dns.Options{Name: s.Name, Config: *s.DNS, Locality: home, Log: log, Registerer: registry})
		case s.File != nil:
			source, err = file.New(file.Options{Name: s.Name, Config: *s.File, Locality: home, Log: log})
		case s.Exec != nil:
			source, err = exec.New(exec.Options{Config: *s.Exec, Log: log})
		}
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		if source != nil {
			add(s.Name, source)
		}
	}
	return out, nil
}
