package federation

import (
	"errors"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery"
	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
	"github.com/isthmus-mesh/isthmus/federation/merge"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/identity"
	"github.com/prometheus/client_golang/prometheus"
)

// maxSources bounds the sources of one federation.
const maxSources = 64

// Options configure a Federation.
type Options struct {
	Config Config
	// Cluster names the own cluster, Locality places it (cloud and region; a zone
	// is the gateways' matter).
	Cluster  catalog.ClusterName
	Locality catalog.Locality
	// Labels are the operator's, by which traffic policies may rank the cluster here and
	// in peers.
	Labels map[string]string
	// Identity holds the federation's SVID; its SPIFFE ID is the cluster's, and
	// the gateways' are ID/gateway/NAME. The caller runs it. Where it was not asked
	// for by its ID it must have an SVID within identityWait of Run.
	Identity *identity.Source
	// Sources are what the own catalog is read from.
	Sources []NamedSource
	// Log receives the federation's log; nil discards it.
	Log *slog.Logger
	// Registry receives the metrics and is served at /metrics; nil means one of
	// the federation's own.
	Registry *prometheus.Registry
	// Build is the version that GET /v1/version answers.
	Build string
	// Now is the clock of every decision; nil is time.Now.
	Now func() time.Time
}

// NamedSource is one source of the own catalog.
type NamedSource struct {
	// Name is unique among the sources (DNS label); Kind says what it is
	// ("consul", "file", "exec").
	Name string
	Kind string
	// Source reads it.
	Source discovery.Source
	// Ranges are the addresses that it may publish, Guard when its withdrawals
	// are held back.
	Ranges discovery.Ranges
	Guard  discovery.GuardOptions
	// Mapping filters and renames its services; the zero value takes all as they
	// are.
	Mapping merge.Mapping
}

// validate reports every problem of what the caller wires.
func (o *Options) validate() error {
	v := problems{}
	if _, err := catalog.ParseClusterName(string(o.Cluster)); err != nil {
		v.fail("cluster.name", string(o.Cluster), err.Error())
	}
	if err := o.Locality.Validate(); err != nil {
		v.fail("cluster", o.Locality.String(), err.Error())
	}
	if err := policy.CheckClusterLabels(o.Labels); err != nil {
		v = append(v, strictyaml.Within("cluster", err))
	}
	if o.Identity == nil {
		v.fail("identity", nil, "is required")
	}
	if len(o.Sources) > maxSources {
		v.fail("sources", len(o.Sources), "has too many entries")
	}
	seen := map[string]bool{}
	for _, s := range o.Sources {
		switch {
		case s.Name == "" || s.Source == nil:
			v.fail("sources", s.Name, "each must have a name and a source")
		case seen[s.Name]:
			v.fail("sources", s.Name, "is given twice")
		}
		seen[s.Name] = true
	}
	for _, p := range o.Config.Peers {
		if p.Name == o.Cluster {
			v.fail("peers", string(p.Name), "is the own cluster's name")
		}
	}
	return errors.Join(append(v, strictyaml.Within("federation", o.Config.Validate()))...)
}
