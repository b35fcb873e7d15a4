package file

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/discovery/strictyaml"
)

// maxProblems bounds the problems that are reported of one file.
const maxProblems = 100

// document is the file. A pointer tells an empty list from a missing one: a
// file that was cut to nothing must not empty the catalog.
type document struct {
	Services *[]serviceEntry `yaml:"services"`
}

type serviceEntry struct {
	Name      catalog.ServiceName `yaml:"name"`
	Ports     []portEntry         `yaml:"ports"`
	Endpoints []endpointEntry     `yaml:"endpoints"`
	Meta      map[string]string   `yaml:"meta"`
}

type portEntry struct {
	Name     string           `yaml:"name"`
	Protocol catalog.Protocol `yaml:"protocol"`
}

type endpointEntry struct {
	ID       string            `yaml:"id"`
	Address  netip.AddrPort    `yaml:"address"`
	Port     string            `yaml:"port"`
	Zone     string            `yaml:"zone"`
	Locality string            `yaml:"locality"`
	Weight   *uint32           `yaml:"weight"`
	Health   catalog.Health    `yaml:"health"`
	Labels   map[string]string `yaml:"labels"`
	// Transport and ServerID are for endpoints that speak mTLS.
	Transport catalog.Transport `yaml:"transport"`
	ServerID  string            `yaml:"server_id"`
}

// Parse reads a catalog file into a snapshot of the source name. home is the
// cluster's locality, which endpoints complete with their zone. path is for the
// error, which is a strictyaml.Problems with everything that is wrong.
func Parse(path string, data []byte, name string, home catalog.Locality) (*catalog.Snapshot, error) {
	var d document
	places, err := strictyaml.Decode(path, data, &d)
	var problems strictyaml.Problems
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	services, found := d.services(home)
	problems = merge(problems, places.Locate(found))
	if len(problems) > 0 {
		return nil, shorten(path, problems)
	}
	s, err := catalog.NewSnapshot(name, services)
	if err != nil {
		return nil, shorten(path, places.Locate(err))
	}
	return s, nil
}

// merge adds what validation found to what decoding found, but for the fields
// that could not be decoded: an empty value there is no second problem.
func merge(decoded, found strictyaml.Problems) strictyaml.Problems {
	broken := map[string]bool{}
	for _, p := range decoded {
		broken[p.Field] = true
	}
	for _, p := range found {
		if !broken[p.Field] && !broken[""] {
			decoded = append(decoded, p)
		}
	}
	return decoded
}

func shorten(path string, ps strictyaml.Problems) error {
	if len(ps) > maxProblems {
		more := len(ps) - maxProblems
		ps = append(ps[:maxProblems:maxProblems], strictyaml.Problem{File: path, Rule: fmt.Sprintf("and %d more problems", more)})
	}
	return ps
}

// services fills in the defaults and checks each service with its place in the
// file.
func (d *document) services(home catalog.Locality) ([]*catalog.Service, error) {
	if d.Services == nil {
		return nil, strictyaml.Fail("services", "", "is missing (write \"services: []\" for an empty catalog)")
	}
	var errs []error
	var out []*catalog.Service
	seen := map[catalog.ServiceName]int{}
	for i, e := range *d.Services {
		field := fmt.Sprintf("services[%d]", i)
		s, err := e.service(home)
		errs = append(errs, strictyaml.Within(field, errors.Join(err, s.Validate())))
		if first, twice := seen[s.Name]; twice && !s.Name.IsZero() {
			errs = append(errs, strictyaml.Fail(field+".name", s.Name.String(), fmt.Sprintf("is the name of services[%d], too", first)))
		}
		seen[s.Name] = i
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

func (e serviceEntry) service(home catalog.Locality) (*catalog.Service, error) {
	s := &catalog.Service{Name: e.Name, Meta: e.Meta}
	for _, p := range e.Ports {
		s.Ports = append(s.Ports, catalog.Port{Name: p.Name, Protocol: cmp.Or(p.Protocol, catalog.TCP)})
	}
	if len(s.Ports) == 0 {
		s.Ports = []catalog.Port{{Name: catalog.DefaultPort, Protocol: catalog.TCP}}
	}
	var errs []error
	for i, ep := range e.Endpoints {
		v, err := ep.endpoint(s.Ports, home)
		if v.ID == "" {
			v.ID = fmt.Sprintf("#%d", i) // its address is the problem, not its ID
		}
		errs = append(errs, strictyaml.Within(fmt.Sprintf("endpoints[%d]", i), err))
		s.Endpoints = append(s.Endpoints, v)
	}
	return s, errors.Join(errs...)
}

func (e endpointEntry) endpoint(ports []catalog.Port, home catalog.Locality) (catalog.Endpoint, error) {
	v := catalog.Endpoint{
		ID: e.ID, Address: e.Address, Port: e.Port, Locality: home,
		Weight: 1, Health: cmp.Or(e.Health, catalog.Unknown), Labels: e.Labels,
		Transport: e.Transport, ServerID: e.ServerID,
	}
	var errs []error
	if v.Port == "" {
		p, ok := catalog.FindPort(ports, "")
		if !ok {
			errs = append(errs, strictyaml.Fail("port", "", "is missing: the service has several ports and none named "+catalog.DefaultPort))
			p = ports[0]
		}
		v.Port = p.Name
	}
	if e.Weight != nil {
		v.Weight = *e.Weight
	}
	switch {
	case e.Zone != "" && e.Locality != "":
		errs = append(errs, strictyaml.Fail("zone", e.Zone, "is part of locality already; write one of them"))
	case e.Zone != "" && home.Region == "":
		errs = append(errs, strictyaml.Fail("zone", e.Zone, "needs the cluster's cloud and region; write locality: cloud/region/zone"))
	case e.Zone != "":
		v.Locality = home.WithZone(e.Zone)
		if err := v.Locality.Validate(); err != nil {
			errs = append(errs, strictyaml.Fail("zone", e.Zone, "must be a DNS label (a-z, 0-9, inner \"-\")"))
			v.Locality = home // one problem, one report
		}
	case e.Locality != "":
		l, err := catalog.ParseLocality(e.Locality)
		if err != nil {
			errs = append(errs, strictyaml.Fail("locality", e.Locality, err.Error()))
			l = home
		}
		v.Locality = l
	}
	if v.ID == "" && v.Address.IsValid() {
		v.ID = v.Port + "/" + v.Address.String()
	}
	return v, errors.Join(errs...)
}
