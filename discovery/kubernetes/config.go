package kubernetes

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/kubernetes/kubeapi"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

const (
	// maxNamespaces bounds the namespaces that are read one by one: each costs two
	// watches.
	maxNamespaces = 64
	maxKeys       = catalog.MaxLabels
	maxZones      = 64

	regionLabel = "topology.kubernetes.io/region"
)

// Config of one Kubernetes cluster as a source.
type Config struct {
	kubeapi.Connection `yaml:",inline"`
	// Cloud and Region complete the zones that slices name.
	Cloud  string `yaml:"cloud,omitempty"`
	Region string `yaml:"region,omitempty"`
	// Namespaces are read one by one, by permissions in each of them; empty means
	// all of the cluster, by permissions on all of it.
	Namespaces []string `yaml:"namespaces,omitempty"`
	// NamespaceSelector chooses namespaces by their labels, from all of the cluster.
	NamespaceSelector string `yaml:"namespace_selector,omitempty"`
	// ExcludeNamespaces are left out, whatever chose them.
	ExcludeNamespaces []string `yaml:"exclude_namespaces,omitempty"`
	// ServiceSelector chooses services by their labels.
	ServiceSelector string `yaml:"service_selector,omitempty"`
	// Protocol of ports that say nothing themselves; they say it with appProtocol or
	// with their name ("http-admin").
	Protocol catalog.Protocol `yaml:"protocol,omitempty"`
	// Meta are labels and annotations of a service that become its meta.
	Meta []string `yaml:"meta,omitempty"`
	// Labels are labels of a slice, else of its service, that become labels of the
	// endpoints.
	Labels []string `yaml:"labels,omitempty"`
	// ZoneIDs are what zones are called in the catalog: AWS's zone names differ
	// between accounts, its zone ids do not.
	ZoneIDs map[string]string `yaml:"zone_ids,omitempty"`
	// Nodes, where it is set, reads region and zone from the labels of nodes.
	Nodes *Nodes `yaml:"nodes,omitempty"`
}

// Nodes says which labels of nodes tell where they are.
type Nodes struct {
	// RegionLabel defaults to topology.kubernetes.io/region. An empty ZoneLabel
	// leaves zones to the slices.
	RegionLabel string `yaml:"region_label,omitempty"`
	ZoneLabel   string `yaml:"zone_label,omitempty"`
}

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	if c.Protocol == "" {
		c.Protocol = catalog.TCP
	}
	if c.Nodes != nil && c.Nodes.RegionLabel == "" {
		c.Nodes = &Nodes{RegionLabel: regionLabel, ZoneLabel: c.Nodes.ZoneLabel}
	}
	return c
}

// Validate reports every problem; it touches neither network nor files.
func (c Config) Validate() error {
	c = c.WithDefaults()
	errs := []error{c.Connection.Validate()}
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if err := (catalog.Locality{Cloud: c.Cloud, Region: c.Region}).Validate(); err != nil {
		fail("region", c.Region, err.Error())
	}
	if c.Nodes != nil && c.Cloud == "" {
		fail("cloud", "", "is missing: a region that nodes tell needs the cloud that it is of")
	}
	errs = append(errs, c.validateSelection()...)
	if !slices.Contains([]catalog.Protocol{catalog.TCP, catalog.HTTP, catalog.GRPC, catalog.TLS}, c.Protocol) {
		fail("protocol", string(c.Protocol), "must be tcp, http, grpc or tls")
	}
	for field, keys := range map[string][]string{"meta": c.Meta, "labels": c.Labels} {
		if len(keys) > maxKeys {
			fail(field, len(keys), fmt.Sprintf("at most %d keys", maxKeys))
		}
		for i, key := range keys {
			if err := catalog.CheckLabel(key, ""); err != nil {
				fail(fmt.Sprintf("%s[%d]", field, i), key, err.Error())
			}
		}
	}
	if len(c.ZoneIDs) > maxZones {
		fail("zone_ids", len(c.ZoneIDs), fmt.Sprintf("at most %d zones", maxZones))
	}
	for zone, id := range c.ZoneIDs {
		if err := (catalog.Locality{Cloud: "c", Region: "r", Zone: id}).Validate(); err != nil || id == "" {
			fail("zone_ids."+zone, id, "must be a DNS label")
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateSelection() []error {
	var errs []error
	fail := func(field string, value any, rule string) {
		errs = append(errs, strictyaml.Fail(field, value, rule))
	}
	if len(c.Namespaces) > maxNamespaces {
		fail("namespaces", len(c.Namespaces), fmt.Sprintf("at most %d are read one by one; namespace_selector chooses more", maxNamespaces))
	}
	for field, names := range map[string][]string{"namespaces": c.Namespaces, "exclude_namespaces": c.ExcludeNamespaces} {
		for i, name := range names {
			if _, err := catalog.NewServiceName("x", name); err != nil || name == "" {
				fail(fmt.Sprintf("%s[%d]", field, i), name, "must be a DNS label")
			} else if slices.Contains(names[:i], name) {
				fail(fmt.Sprintf("%s[%d]", field, i), name, "is given twice")
			}
		}
	}
	if len(c.Namespaces) > 0 && c.NamespaceSelector != "" {
		fail("namespace_selector", c.NamespaceSelector, "goes with all namespaces: either it or namespaces")
	}
	for field, selector := range map[string]string{"namespace_selector": c.NamespaceSelector, "service_selector": c.ServiceSelector} {
		if _, err := labels.Parse(selector); err != nil {
			fail(field, selector, "must be a label selector as kubectl takes it: "+err.Error())
		}
	}
	return errs
}
