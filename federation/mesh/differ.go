package mesh

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// null is how a traffic policy that is gone is said.
const null = "null"

// advance makes the patch from the state's table to the next, and the state that
// one's. Rows that both share cost the comparison of two pointers. On an error the
// state is spoilt.
func (s *state) advance(e *route.Edition) (*Patch, error) {
	next := e.Head()
	p := &Patch{Epoch: next.Epoch, Version: next.Version, Since: s.table.Version}
	if err := s.advanceHead(p, next); err != nil {
		return nil, err
	}
	s.advancePeers(p, next)
	sets := setsOf(p)
	var err error
	name := func(row **route.Service) catalog.ServiceName { return (*row).Name }
	same := func(was, is **route.Service) bool { return *was == *is || (*was).Shares(*is) }
	row := func(at **route.Service) *route.Service {
		if at == nil {
			return nil
		}
		return *at
	}
	walk(s.rows, e.Rows(), name, same, func(was, is **route.Service) {
		if err == nil {
			err = s.advanceService(p, sets, row(was), row(is))
		}
	})
	if err != nil {
		return nil, err
	}
	s.table, s.rows = next, e.Rows()
	p.Count, p.Digest = len(s.rows), s.sum.String()
	return p, nil
}

func (s *state) advanceHead(p *Patch, next *route.Table) error {
	head, err := encodeHead(next)
	if err != nil {
		return fmt.Errorf("head: %w", err)
	}
	if now := route.DigestText(head); now != s.head {
		s.sum.Toggle(s.head)
		s.sum.Toggle(now)
		s.head, p.Head = now, head
	}
	if sharesList(s.table.Intentions, next.Intentions) {
		return nil
	}
	raw, err := encodeIntentions(next)
	if err != nil {
		return fmt.Errorf("intentions: %w", err)
	}
	if now := route.DigestText(raw); now != s.intentions {
		s.sum.Toggle(s.intentions)
		s.sum.Toggle(now)
		s.intentions = now
		if p.Intentions = raw; raw == nil {
			p.Intentions = json.RawMessage("[]")
		}
	}
	return nil
}

func (s *state) advancePeers(p *Patch, next *route.Table) {
	if sharesList(s.table.Peers, next.Peers) {
		return
	}
	name := func(p *route.Peer) catalog.ClusterName { return p.Name }
	walk(s.table.Peers, next.Peers, name, samePeer, func(was, is *route.Peer) {
		if was != nil {
			s.sum.Toggle(s.digester.Peer(was))
		}
		if is == nil {
			p.RemovedPeers = append(p.RemovedPeers, was.Name)
			return
		}
		s.sum.Toggle(s.digester.Peer(is))
		p.Peers = append(p.Peers, *is)
	})
}

func samePeer(a, b *route.Peer) bool {
	return a.Name == b.Name && a.Locality == b.Locality && a.ID == b.ID && slices.EqualFunc(a.Gateways, b.Gateways, catalog.Gateway.Equal) &&
		bytes.Equal(a.Bundle, b.Bundle) && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Asserts, b.Asserts) && a.MaxPriority == b.MaxPriority && a.ControlLost == b.ControlLost && a.HeardAt.Equal(b.HeardAt)
}

func (s *state) advanceService(p *Patch, sets *sets, was, is *route.Service) error {
	if is == nil {
		s.sum.Toggle(s.parts[was.Name].digest)
		delete(s.parts, was.Name)
		delete(s.traffic, was.Name)
		p.RemovedServices = append(p.RemovedServices, was.Name)
		return nil
	}
	before, known := s.parts[is.Name]
	after := before
	switch {
	case was == nil || !sharesList(was.Endpoints, is.Endpoints):
		after.stem, after.distinct = nil, distinct(is.Endpoints)
	case !slices.Equal(was.Ports, is.Ports):
		after.stem = nil
	}
	patch, err := patchOf(sets, was, is, before.distinct, after.distinct)
	if err != nil {
		return fmt.Errorf("service %s: %w", is.Name, err)
	}
	switch {
	case patch.Traffic == nil && !patch.Whole:
	case patch.Traffic == nil || string(patch.Traffic) == null:
		delete(s.traffic, is.Name)
	default:
		s.traffic[is.Name] = route.DigestText(patch.Traffic)
	}
	after.digest, after.stem = s.digester.ServiceOn(after.stem, is, s.traffic[is.Name])
	s.parts[is.Name] = after
	if known && after.digest == before.digest {
		return nil // other lists that say the same
	}
	if known {
		s.sum.Toggle(before.digest)
	}
	s.sum.Toggle(after.digest)
	p.Services = append(p.Services, patch)
	return nil
}

// patchOf is what leads from one row to another; nil is no row. A row whose endpoints
// are known to be distinct is not looked through for that.
func patchOf(sets *sets, was, is *route.Service, wasDistinct, isDistinct bool) (ServicePatch, error) {
	p := ServicePatch{Name: is.Name}
	if was == nil || !patchable(was, is, wasDistinct, isDistinct) {
		return whole(sets, is)
	}
	if !slices.Equal(was.Ports, is.Ports) {
		p.Ports = is.Ports
	}
	if !slices.Equal(was.Quarantined, is.Quarantined) {
		p.Quarantined = &is.Quarantined
		if is.Quarantined == nil {
			p.Quarantined = &[]string{}
		}
	}
	if !sharesList(was.ExportedTo, is.ExportedTo) && !slices.Equal(was.ExportedTo, is.ExportedTo) {
		p.ExportedTo = sets.index(is.ExportedTo)
	}
	if !slices.Equal(was.SubsetLabels, is.SubsetLabels) {
		p.SubsetLabels = &is.SubsetLabels
		if is.SubsetLabels == nil {
			p.SubsetLabels = &[]string{}
		}
	}
	if was.Traffic != is.Traffic && !reflect.DeepEqual(was.Traffic, is.Traffic) {
		raw, err := encodeTraffic(is.Traffic)
		if err != nil {
			return p, err
		}
		p.Traffic = raw
	}
	if !sharesList(was.Endpoints, is.Endpoints) {
		p.endpoints(was.Endpoints, is.Endpoints)
	}
	if !sharesList(was.Remote, is.Remote) {
		cluster := func(r *route.Remote) catalog.ClusterName { return r.Cluster }
		walk(was.Remote, is.Remote, cluster, sameRemote, func(old, next *route.Remote) {
			if next == nil {
				p.RemoteGone = append(p.RemoteGone, old.Cluster)
				return
			}
			p.Remote = append(p.Remote, *next)
		})
	}
	return p, nil
}

// patchable reports whether endpoints and offers are in the orders that a patch
// is applied by, with a name of its own for each.
func patchable(was, is *route.Service, wasDistinct, isDistinct bool) bool {
	if !sharesList(was.Endpoints, is.Endpoints) && (!isDistinct || !wasDistinct && !distinct(was.Endpoints)) {
		return false
	}
	if sharesList(was.Remote, is.Remote) {
		return true
	}
	for _, s := range []*route.Service{was, is} {
		for i := 1; i < len(s.Remote); i++ {
			if s.Remote[i-1].Cluster >= s.Remote[i].Cluster {
				return false
			}
		}
	}
	return true
}

// distinct reports whether endpoints are in order, each instance once.
func distinct(list []catalog.Endpoint) bool {
	var seen map[Instance]bool // where the order is not that of IDs within a port
	for i := 1; i < len(list); i++ {
		a, b := &list[i-1], &list[i]
		if catalog.CompareEndpoints(a, b) >= 0 {
			return false
		}
		if seen == nil && (a.ID < b.ID || a.ID == b.ID && a.Port < b.Port) {
			continue
		}
		if seen == nil {
			seen = make(map[Instance]bool, len(list))
			for k := range list[:i] {
				seen[Instance{list[k].Port, list[k].ID}] = true
			}
		}
		at := Instance{b.Port, b.ID}
		if seen[at] {
			return false
		}
		seen[at] = true
	}
	return true
}

func (p *ServicePatch) endpoints(was, is []catalog.Endpoint) {
	for i, j := 0, 0; i < len(was) || j < len(is); {
		order := 0
		switch {
		case j == len(is):
			order = -1
		case i == len(was):
			order = 1
		default:
			order = catalog.CompareEndpoints(&was[i], &is[j])
		}
		switch {
		case order < 0:
			p.Gone = append(p.Gone, Instance{was[i].Port, was[i].ID})
			i++
		case order > 0:
			p.Endpoints = append(p.Endpoints, is[j])
			j++
		default:
			if !was[i].Equal(is[j]) {
				p.Endpoints = append(p.Endpoints, is[j])
			}
			i, j = i+1, j+1
		}
	}
}

// whole says all of a service.
func whole(sets *sets, s *route.Service) (ServicePatch, error) {
	p := ServicePatch{Name: s.Name, Whole: true, Ports: s.Ports, Endpoints: s.Endpoints, Remote: s.Remote}
	if len(s.Quarantined) > 0 {
		p.Quarantined = &s.Quarantined
	}
	if len(s.SubsetLabels) > 0 {
		p.SubsetLabels = &s.SubsetLabels
	}
	if len(s.ExportedTo) > 0 {
		p.ExportedTo = sets.index(s.ExportedTo)
	}
	if s.Traffic != nil {
		raw, err := encodeTraffic(s.Traffic)
		if err != nil {
			return p, err
		}
		p.Traffic = raw
	}
	return p, nil
}

func encodeTraffic(t *policy.Traffic) (json.RawMessage, error) {
	if t == nil {
		return json.RawMessage(null), nil
	}
	return json.Marshal(t)
}

func sameRemote(a, b *route.Remote) bool {
	return a.Cluster == b.Cluster && a.Name == b.Name && (sharesList(a.Ports, b.Ports) || slices.Equal(a.Ports, b.Ports)) &&
		(sharesList(a.Rows, b.Rows) || slices.Equal(a.Rows, b.Rows))
}

func sharesList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// sets gathers the lists of clusters of a patch.
type sets struct {
	patch *Patch
	at    map[string]int
}

func setsOf(p *Patch) *sets { return &sets{patch: p, at: make(map[string]int)} }

func (s *sets) index(list []catalog.ClusterName) *int {
	var key []byte
	for _, c := range list {
		key = append(append(key, c...), ' ')
	}
	i, ok := s.at[string(key)]
	if !ok {
		i = len(s.patch.Sets)
		s.at[string(key)] = i
		if list == nil {
			list = []catalog.ClusterName{}
		}
		s.patch.Sets = append(s.patch.Sets, list)
	}
	return &i
}

// lines cuts a patch into lines of about maxPatchLine, as they are sent.
func (p *Patch) lines() ([][]byte, error) {
	var out [][]byte
	write := func(line *Patch) error {
		raw, err := json.Marshal(TableLine{Patch: line})
		if err != nil {
			return fmt.Errorf("patch: %w", err)
		}
		out = append(out, append(raw, '\n'))
		return nil
	}
	head := *p
	head.Services, head.Sets, head.Count, head.Digest, head.More = nil, nil, 0, "", true
	line := head
	within, weight := setsOf(&line), 0
	for i := range p.Services {
		s := p.Services[i]
		if s.ExportedTo != nil {
			s.ExportedTo = within.index(p.Sets[*s.ExportedTo])
		}
		line.Services = append(line.Services, s)
		const perEndpoint, perRemote, perService = 180, 160, 200
		if weight += perService + len(s.Endpoints)*perEndpoint + len(s.Remote)*perRemote; weight < maxPatchLine || i == len(p.Services)-1 {
			continue
		}
		if err := write(&line); err != nil {
			return nil, err
		}
		line = Patch{Epoch: p.Epoch, Version: p.Version, Since: p.Since, Full: p.Full, More: true}
		within, weight = setsOf(&line), 0
	}
	line.More, line.Count, line.Digest = false, p.Count, p.Digest
	return out, write(&line)
}

// fullPatch is the patch from nothing to the state's table.
func (s *state) fullPatch() (*Patch, error) {
	t := s.table
	p := &Patch{
		Epoch: t.Epoch, Version: t.Version, Full: true, Peers: t.Peers,
		Count: len(s.rows), Digest: s.sum.String(), Services: make([]ServicePatch, 0, len(s.rows)),
	}
	var err error
	if p.Head, err = encodeHead(t); err != nil {
		return nil, err
	}
	if p.Intentions, err = encodeIntentions(t); err != nil {
		return nil, err
	}
	within := setsOf(p)
	for _, r := range s.rows {
		row, err := whole(within, r)
		if err != nil {
			return nil, err
		}
		p.Services = append(p.Services, row)
	}
	return p, nil
}
