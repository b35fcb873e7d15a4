package gcp

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// The defaults and bounds of a Config.
const (
	DefaultInterval = 30 * time.Second
	minInterval     = 100 * time.Millisecond
	maxInterval     = time.Hour
	// DefaultTimeout is what one request gets. The client library's own is ten
	// minutes.
	DefaultTimeout = 20 * time.Second
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 5 * time.Minute
	// DefaultRate leaves more than half of a project's quota of list requests
	// (1,500 a minute) to others.
	DefaultRate = 600
	maxRate     = 60_000
	// maxProjects, maxEntries and maxNames bound the lists of a configuration.
	maxProjects = 256
	maxEntries  = 1024
	maxNames    = 256
	// DefaultCloud is the cloud in localities.
	DefaultCloud = "gcp"
)

// Config of the source: the whole of its file.
type Config struct {
	// Projects are the ids of the projects that are read.
	Projects []string `yaml:"projects"`
	// CredentialsFile holds credentials as JSON; it is read again when it
	// changes. Empty means Application Default Credentials.
	CredentialsFile string `yaml:"credentials_file"`
	// Interval from the end of a round to the next, give or take a tenth.
	Interval time.Duration `yaml:"interval"`
	// Timeout of one request.
	Timeout time.Duration `yaml:"timeout"`
	// RequestsPerMinute bounds the requests of each project.
	RequestsPerMinute int `yaml:"requests_per_minute"`
	// Cloud is the first part of localities.
	Cloud string `yaml:"cloud"`
	// Labels are the keys of instance labels and annotations that become
	// endpoint labels; "*" is all.
	Labels []string `yaml:"labels"`
	// Address says which address of an instance is published.
	Address AddressKind `yaml:"address"`
	// ComputeEndpoint and ServiceDirectoryEndpoint replace Google's addresses
	// (Private Service Connect, another universe).
	ComputeEndpoint          string `yaml:"compute_endpoint"`
	ServiceDirectoryEndpoint string `yaml:"service_directory_endpoint"`

	// Instances reads instances that have a label.
	Instances *Instances `yaml:"instances"`
	// ManagedGroups are managed instance groups.
	ManagedGroups []Group `yaml:"managed_groups"`
	// EndpointGroups are zonal and regional network endpoint groups.
	EndpointGroups []Group `yaml:"endpoint_groups"`
	// ServiceDirectory are namespaces of Service Directory.
	ServiceDirectory []Directory `yaml:"service_directory"`
}

// AddressKind is an address of an instance's first network interface.
type AddressKind string

// The kinds of addresses.
const (
	Internal AddressKind = "internal"
	External AddressKind = "external"
	IPv6     AddressKind = "ipv6"
)

// Instances says how labels of instances become services.
type Instances struct {
	// ServiceLabel's value is the service's name; only instances that have it
	// are read.
	ServiceLabel string `yaml:"service_label"`
	// NamespaceLabel, PortLabel and ProtocolLabel say more, where an instance has
	// them.
	NamespaceLabel string `yaml:"namespace_label"`
	PortLabel      string `yaml:"port_label"`
	ProtocolLabel  string `yaml:"protocol_label"`
	// Namespace and Ports are for instances that do not say them.
	Namespace string `yaml:"namespace"`
	Ports     []Port `yaml:"ports"`
}

// Group is a managed instance group or a network endpoint group as a service.
type Group struct {
	// Name of the group. Groups of the same name in several projects, zones and
	// regions are one service.
	Name string `yaml:"name"`
	// Projects and Locations (zones or regions) narrow that; empty means all.
	Projects  []string `yaml:"projects"`
	Locations []string `yaml:"locations"`
	// Service is the catalog's name of it.
	Service catalog.ServiceName `yaml:"service"`
	// Ports of the members. A managed group's named port needs no number here;
	// network endpoints bring their own, so these have one port at most.
	Ports []Port `yaml:"ports"`
}

// Port of a service.
type Port struct {
	Name     string           `yaml:"name"`
	Port     uint16           `yaml:"port"`
	Protocol catalog.Protocol `yaml:"protocol"`
}

// Directory is what is read of Service Directory.
type Directory struct {
	// Projects narrows the projects; empty means all.
	Projects []string `yaml:"projects"`
	// Locations are regions.
	Locations []string `yaml:"locations"`
	// Namespace there; empty means all of them.
	Namespace string `yaml:"namespace"`
	// As is the catalog namespace; empty means the same name.
	As string `yaml:"as"`
	// Protocol of services that do not say it themselves.
	Protocol catalog.Protocol `yaml:"protocol"`
}

// Parse reads a configuration file. The error is strictyaml.Problems: all of
// them at once. It makes no call.
func Parse(path string, data []byte) (Config, error) {
	var c Config
	err := strictyaml.DecodeValid(path, data, &c, func() error { return c.Validate() })
	return c.WithDefaults(), err
}

// WithDefaults fills the empty fields.
func (c Config) WithDefaults() Config {
	c.Interval = cmp.Or(c.Interval, DefaultInterval)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.RequestsPerMinute = cmp.Or(c.RequestsPerMinute, DefaultRate)
	c.Cloud = cmp.Or(c.Cloud, DefaultCloud)
	c.Address = cmp.Or(c.Address, Internal)
	if c.Instances != nil {
		i := *c.Instances
		i.ServiceLabel = cmp.Or(i.ServiceLabel, "isthmus-service")
		i.NamespaceLabel = cmp.Or(i.NamespaceLabel, "isthmus-namespace")
		i.PortLabel = cmp.Or(i.PortLabel, "isthmus-port")
		i.ProtocolLabel = cmp.Or(i.ProtocolLabel, "isthmus-protocol")
		i.Namespace = cmp.Or(i.Namespace, catalog.DefaultNamespace)
		i.Ports = namedPorts(i.Ports)
		c.Instances = &i
	}
	for _, groups := range []*[]Group{&c.ManagedGroups, &c.EndpointGroups} {
		*groups = slices.Clone(*groups)
		for i := range *groups {
			(*groups)[i].Ports = namedPorts((*groups)[i].Ports)
		}
	}
	c.ServiceDirectory = slices.Clone(c.ServiceDirectory)
	for i := range c.ServiceDirectory {
		c.ServiceDirectory[i].Protocol = cmp.Or(c.ServiceDirectory[i].Protocol, catalog.TCP)
	}
	return c
}

func namedPorts(ports []Port) []Port {
	out := slices.Clone(ports)
	for i := range out {
		out[i].Name = cmp.Or(out[i].Name, catalog.DefaultPort)
		out[i].Protocol = cmp.Or(out[i].Protocol, catalog.TCP)
	}
	return out
}

// Google's rules for the names that end up in the path of a request.
var (
	projectID    = regexp.MustCompile(`^(?:[a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	resourceName = regexp.MustCompile(`^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$`)
	labelKey     = regexp.MustCompile(`^[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}$`)
)

// Validate reports every problem; it touches neither network nor files.
func (c Config) Validate() error {
	c = c.WithDefaults()
	v := &validation{projects: map[string]bool{}, protocols: map[string]catalog.Protocol{}}
	v.list("projects", len(c.Projects), 1, maxProjects)
	for i, p := range c.Projects {
		field := fmt.Sprintf("projects[%d]", i)
		if !projectID.MatchString(p) {
			v.fail(field, p, "must be a project's id: 6 to 30 of a-z, 0-9 and \"-\"")
		}
		if v.projects[p] {
			v.fail(field, p, "is listed twice")
		}
		v.projects[p] = true
	}
	within(v, "interval", c.Interval, minInterval, maxInterval)
	within(v, "timeout", c.Timeout, minTimeout, maxTimeout)
	within(v, "requests_per_minute", c.RequestsPerMinute, 1, maxRate)
	if (catalog.Locality{Cloud: c.Cloud}).Validate() != nil {
		v.fail("cloud", c.Cloud, "must be a DNS label")
	}
	if !slices.Contains([]AddressKind{Internal, External, IPv6}, c.Address) {
		v.fail("address", string(c.Address), "must be internal, external or ipv6")
	}
	v.endpoint("compute_endpoint", c.ComputeEndpoint)
	v.endpoint("service_directory_endpoint", c.ServiceDirectoryEndpoint)
	if c.Instances == nil && len(c.ManagedGroups)+len(c.EndpointGroups)+len(c.ServiceDirectory) == 0 {
		v.fail("", nil, "must have at least one of instances, managed_groups, endpoint_groups, service_directory")
	}
	if c.Instances != nil {
		v.instances(*c.Instances)
	}
	v.groups("managed_groups", c.ManagedGroups, 1, catalog.MaxPorts)
	v.groups("endpoint_groups", c.EndpointGroups, 0, 1)
	v.directories(c.ServiceDirectory)
	return errors.Join(v.errs...)
}

func (v *validation) endpoint(field, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		v.fail(field, value, "must be a URL such as https://compute-name.p.googleapis.com")
	}
}
