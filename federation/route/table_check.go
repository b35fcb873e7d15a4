package route

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
)

// The bounds of a table. A gateway reads it from its disk and from its own
// federation; a broken or hostile one must not exhaust it.
const (
	// MaxTableBytes bounds the JSON form: 50,000 services with ten endpoints
	// each take about 100 MB.
	MaxTableBytes = 256 << 20
	// MaxPeers bounds the peers: every gateway holds links to each of them.
	MaxPeers = 1000
	// MaxGateways bounds one peer's roster.
	MaxGateways = 64
	// MaxBundleBytes bounds a trust bundle; one with a hundred keys has 100 kB.
	MaxBundleBytes = 1 << 20
	// MaxTableEndpoints bounds the own endpoints of all services together.
	MaxTableEndpoints = catalog.MaxEndpoints
	// MaxSubsetKeys bounds the labels that the exports of one service publish together.
	MaxSubsetKeys = 64
	// maxTableProblems bounds what one refusal says.
	maxTableProblems = 20
)

// ErrTableFormat is wrapped by Validate and DecodeTable for a table of a format
// that this build does not read.
var ErrTableFormat = errors.New("table format is not known")

// DecodeTable reads one table in JSON and validates it. Unknown fields pass, but
// those of intentions, which fail closed (policy.Intentions): a change that an older
// gateway must not ignore raises the format.
func DecodeTable(data []byte) (*Table, error) {
	if len(data) > MaxTableBytes {
		return nil, fmt.Errorf("table: has %d bytes, at most %d", len(data), MaxTableBytes)
	}
	// The format goes first: a newer one may not even decode.
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	if !knownFormat(head.Format) {
		return nil, formatError(head.Format)
	}
	t := new(Table)
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(t); err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("table: has bytes behind its end")
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

func knownFormat(format int) bool { return format >= MinTableFormat && format <= TableFormat }

func formatError(format int) error {
	return fmt.Errorf("table: %w: %d, this build reads %d to %d", ErrTableFormat, format, MinTableFormat, TableFormat)
}

// Validate reports what is wrong with a table, joined, up to a bound: its
// format, bounds, order and references.
func (t *Table) Validate() error { return t.ValidateAfter(nil) }

// ValidateAfter is Validate of a table that shares services with one that is
// valid: those are not looked at again, so that a change costs what it changes.
func (t *Table) ValidateAfter(good *Table) error {
	if !knownFormat(t.Format) {
		return formatError(t.Format)
	}
	c := new(tableCheck)
	c.cluster(t)
	c.peers(t)
	c.tariff(t.Tariff)
	c.services(t, good.valid(t))
	if err := (policy.Set{Intentions: t.Intentions}).Validate(); err != nil {
		c.fail("intentions", err)
	}
	if t.Drill != nil {
		c.fail("drill", t.Drill.Validate())
	}
	c.format(t)
	if c.dropped > 0 {
		c.errs = append(c.errs, fmt.Errorf("and %d more problems", c.dropped))
	}
	return errors.Join(c.errs...)
}

// format refuses a table that says more than its format can.
func (c *tableCheck) format(t *Table) {
	least, what := FormatOf(t.Intentions, nil), "intentions with http conditions"
	for i := range t.Services {
		if n := trafficFormat(t.Services[i].Traffic); n > least {
			least, what = n, "traffic policies with residency, subsets or consistent hashes"
			break
		}
	}
	if t.Format < least {
		c.add("format", "%d: %s need %d", t.Format, what, least)
	}
}

type tableCheck struct {
	errs    []error
	dropped int
	known   map[catalog.ClusterName]bool
}

func (c *tableCheck) fail(place string, err error) {
	if err == nil {
		return
	}
	if len(c.errs) >= maxTableProblems {
		c.dropped++
		return
	}
	c.errs = append(c.errs, fmt.Errorf("table %s: %w", place, err))
}

func (c *tableCheck) add(place, rule string, args ...any) { c.fail(place, fmt.Errorf(rule, args...)) }

func (c *tableCheck) cluster(t *Table) {
	if _, err := catalog.ParseClusterName(string(t.Cluster.Name)); err != nil {
		c.fail("cluster.name", err)
	}
	c.fail("cluster.locality", t.Cluster.Locality.Validate())
	c.fail("cluster.labels", policy.CheckClusterLabels(t.Cluster.Labels))
	c.fail("cluster.id", checkClusterID(t.Cluster.ID))
	if t.Federation != "" {
		c.fail("federation", catalog.CheckHostPort(t.Federation))
	}
}

func checkClusterID(s string) error {
	if len(s) > catalog.MaxSPIFFEIDLen {
		return fmt.Errorf("has %d bytes, at most %d", len(s), catalog.MaxSPIFFEIDLen)
	}
	id, err := spiffeid.FromString(s)
	if err != nil {
		return fmt.Errorf("%q must be a SPIFFE ID: %w", s, err)
	}
	if id.Path() == "" {
		return fmt.Errorf("%q must have a path: a trust domain is no cluster", s)
	}
	return nil
}

func (c *tableCheck) peers(t *Table) {
	c.known = make(map[catalog.ClusterName]bool, min(len(t.Peers), MaxPeers))
	if len(t.Peers) > MaxPeers {
		c.add("peers", "has %d, at most %d", len(t.Peers), MaxPeers)
		return
	}
	ids := map[string]bool{t.Cluster.ID: true}
	asserts := make(map[catalog.ClusterName][]policy.IDPattern, len(t.Peers))
	for i := range t.Peers {
		p, place := &t.Peers[i], fmt.Sprintf("peers[%d]", i)
		if _, err := catalog.ParseClusterName(string(p.Name)); err != nil {
			c.fail(place+".name", err)
		}
		if p.Name == t.Cluster.Name {
			c.add(place+".name", "%q is the own cluster", p.Name)
		}
		if i > 0 && t.Peers[i-1].Name >= p.Name {
			c.add(place+".name", "%q: peers must be sorted by name, each once", p.Name)
		}
		c.fail(place+".locality", p.Locality.Validate())
		c.fail(place+".labels", policy.CheckClusterLabels(p.Labels))
		if _, ok := priorityOf(p.MaxPriority); !ok && p.MaxPriority != "" {
			c.add(place+".max_priority", "%q is no priority", p.MaxPriority)
		}
		c.fail(place+".id", checkClusterID(p.ID))
		if ids[p.ID] {
			c.add(place+".id", "%q speaks for two clusters", p.ID)
		}
		if len(p.Bundle) > MaxBundleBytes {
			c.add(place+".bundle", "has %d bytes, at most %d", len(p.Bundle), MaxBundleBytes)
		}
		c.known[p.Name], ids[p.ID] = true, true
		asserts[p.Name] = p.Asserts
		c.roster(place, p)
	}
	c.fail("peers", policy.CheckAsserts(asserts))
}

// roster checks a peer's gateways: their IDs must lie below the peer's, or the
// table would let one cluster's gateway speak for another.
func (c *tableCheck) roster(place string, p *Peer) {
	if len(p.Gateways) > MaxGateways {
		c.add(place+".gateways", "has %d, at most %d", len(p.Gateways), MaxGateways)
		return
	}
	for i, g := range p.Gateways {
		at := fmt.Sprintf("%s.gateways[%d]", place, i)
		if g.Name == "" && g.ID == "" { // a bootstrap address
			if n := len(g.Addresses); n == 0 || n > catalog.MaxGatewayAddresses {
				c.add(at+".addresses", "has %d, must be 1 to %d without a name", n, catalog.MaxGatewayAddresses)
				continue
			}
			for _, a := range g.Addresses {
				c.fail(at+".addresses", catalog.CheckHostPort(a))
			}
			continue
		}
		c.fail(at, g.Validate())
		if want := p.ID + "/gateway/" + g.Name; g.ID != want {
			c.add(at+".id", "%q must be %q", g.ID, want)
		}
	}
}

// valid returns the services of t, a valid table, by which those of another with
// the same peers may be judged.
func (t *Table) valid(next *Table) []Service {
	samePeers := t != nil && slices.EqualFunc(t.Peers, next.Peers, func(a, b Peer) bool { return a.Name == b.Name })
	if !samePeers {
		return nil // what a service refers to may be gone
	}
	return t.Services
}

// Shares reports whether both are one service, list by list: no look at what the
// lists hold.
func (s *Service) Shares(o *Service) bool {
	return sharesList(s.Ports, o.Ports) && sharesList(s.Endpoints, o.Endpoints) && sharesList(s.Remote, o.Remote) &&
		sharesList(s.Quarantined, o.Quarantined) && sharesList(s.ExportedTo, o.ExportedTo) &&
		sharesList(s.SubsetLabels, o.SubsetLabels) && s.Traffic == o.Traffic && s.Name == o.Name
}

func sharesList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func (c *tableCheck) services(t *Table, good []Service) {
	if len(t.Services) > catalog.MaxServices {
		c.add("services", "has %d, at most %d", len(t.Services), catalog.MaxServices)
		return
	}
	endpoints := 0
	for i := range t.Services {
		s := &t.Services[i]
		if i > 0 && t.Services[i-1].Name.Compare(s.Name) >= 0 {
			c.add(fmt.Sprintf("services[%d].name", i), "%q: services must be sorted by namespace and name, each once", s.Name)
		}
		for len(good) > 0 && good[0].Name.Compare(s.Name) < 0 {
			good = good[1:]
		}
		known := len(good) > 0 && good[0].Shares(s)
		if endpoints += len(s.Endpoints); endpoints > MaxTableEndpoints {
			c.add(fmt.Sprintf("services[%d].endpoints", i), "a table has at most %d", MaxTableEndpoints)
			return
		}
		if known {
			continue
		}
		place := fmt.Sprintf("services[%d]", i)
		own := catalog.Service{Name: s.Name, Ports: s.Ports, Endpoints: s.Endpoints}
		c.fail(place, own.Validate())
		c.service(place, s)
	}
}

func (c *tableCheck) service(place string, s *Service) {
	if !slices.IsSorted(s.Quarantined) || len(s.Quarantined) > len(s.Endpoints) {
		c.add(place+".quarantined", "must be IDs of endpoints, sorted")
	}
	if !slices.IsSorted(s.SubsetLabels) || len(s.SubsetLabels) > MaxSubsetKeys {
		c.add(place+".subset_labels", "must be at most %d keys of labels, sorted", MaxSubsetKeys)
	}
	if len(s.ExportedTo) > MaxPeers {
		c.add(place+".exported_to", "has %d, at most %d", len(s.ExportedTo), MaxPeers)
	} else {
		for _, name := range s.ExportedTo {
			if !c.known[name] {
				c.add(place+".exported_to", "%q is no peer", name)
			}
		}
	}
	if len(s.Remote) > MaxPeers {
		c.add(place+".remote", "has %d, at most %d", len(s.Remote), MaxPeers)
		return
	}
	for i := range s.Remote {
		r, at := &s.Remote[i], fmt.Sprintf("%s.remote[%d]", place, i)
		if !c.known[r.Cluster] {
			c.add(at+".cluster", "%q is no peer", r.Cluster)
		}
		if i > 0 && cmp.Compare(s.Remote[i-1].Cluster, r.Cluster) >= 0 {
			c.add(at+".cluster", "%q: offers must be sorted by cluster, each once", r.Cluster)
		}
		c.fail(at, catalog.Summary{Service: r.Name, Ports: r.Ports, Rows: r.Rows}.Validate())
	}
	if s.Traffic != nil {
		c.fail(place+".traffic", checkTraffic(*s.Traffic))
	}
}

// checkTraffic accepts the default policy, too, which has no name and covers
// what no other does.
func checkTraffic(t policy.Traffic) error {
	if t.Name == "" && len(t.Services) == 0 {
		t.Name, t.Services = "default", []policy.ServicePattern{"*"}
	}
	return t.Validate()
}
