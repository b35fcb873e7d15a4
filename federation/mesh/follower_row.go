package mesh

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/isthmus-mesh/isthmus/discovery/catalog"
	"github.com/isthmus-mesh/isthmus/federation/policy"
	"github.com/isthmus-mesh/isthmus/federation/route"
)

// row applies the patch of one service; text is that of a traffic policy which
// it brings.
func (f *Follower) row(b *batch, was *route.Service, p *ServicePatch) (row route.Service, text []byte, err error) {
	if was != nil && !p.Whole {
		row = *was
	} else if !p.Whole {
		return row, nil, fmt.Errorf("%w: is not known", ErrDrift)
	}
	row.Name = p.Name
	if was != nil {
		row.Name = was.Name // of the memory that the table before holds
	}
	if p.Ports != nil {
		row.Ports = f.ports(p.Ports)
	}
	if p.Quarantined != nil {
		row.Quarantined = *p.Quarantined
	}
	if p.ExportedTo != nil {
		row.ExportedTo = f.set(b.sets[*p.ExportedTo])
	}
	if p.SubsetLabels != nil {
		if row.SubsetLabels = *p.SubsetLabels; len(row.SubsetLabels) == 0 {
			row.SubsetLabels = nil
		}
	}
	switch {
	case p.Traffic == nil:
	case bytes.Equal(p.Traffic, []byte(null)):
		row.Traffic = nil
	default:
		row.Traffic = new(policy.Traffic)
		if err := json.Unmarshal(p.Traffic, row.Traffic); err != nil {
			return row, nil, fmt.Errorf("traffic: %w", err)
		}
		text = p.Traffic
	}
	if row.Endpoints, err = f.endpoints(row.Endpoints, p); err != nil {
		return row, nil, err
	}
	if len(p.Remote) == 0 && len(p.RemoteGone) == 0 {
		return row, text, nil
	}
	cluster := func(r *route.Remote) catalog.ClusterName { return r.Cluster }
	row.Remote, err = edit(row.Remote, p.Remote, p.RemoteGone, cluster, func(_, is *route.Remote) *route.Remote {
		if is != nil {
			f.share(is, &row)
		}
		return is
	})
	return row, text, err
}

// endpoints applies what changes of a service's endpoints.
func (f *Follower) endpoints(have []catalog.Endpoint, p *ServicePatch) ([]catalog.Endpoint, error) {
	if len(p.Endpoints) == 0 && len(p.Gone) == 0 {
		return have, nil
	}
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		e.Port, e.Source, e.Health = f.text(e.Port), f.text(e.Source), catalog.Health(f.text(string(e.Health)))
		e.Transport, e.ServerID = catalog.Transport(f.text(string(e.Transport))), f.text(e.ServerID)
		l := &e.Locality
		l.Cloud, l.Region, l.Zone = f.text(l.Cloud), f.text(l.Region), f.text(l.Zone)
	}
	if p.Whole || len(have) == 0 {
		return p.Endpoints, nil
	}
	out := have
	if len(p.Gone) > 0 {
		gone := make(map[Instance]bool, len(p.Gone))
		for _, g := range p.Gone {
			gone[g] = true
		}
		out = make([]catalog.Endpoint, 0, len(have))
		for _, e := range have {
			if !gone[Instance{e.Port, e.ID}] {
				out = append(out, e)
			}
		}
		if len(have)-len(out) != len(p.Gone) {
			return nil, fmt.Errorf("%w: %d endpoints are gone, %d are known", ErrDrift, len(p.Gone), len(have)-len(out))
		}
	}
	merged := make([]catalog.Endpoint, 0, len(out)+len(p.Endpoints))
	puts := p.Endpoints
	for len(out) > 0 || len(puts) > 0 {
		switch {
		case len(puts) == 0 || len(out) > 0 && out[0].Compare(puts[0]) < 0:
			merged, out = append(merged, out[0]), out[1:]
		case len(out) == 0 || out[0].Compare(puts[0]) > 0:
			merged, puts = append(merged, puts[0]), puts[1:]
		default:
			merged, out, puts = append(merged, puts[0]), out[1:], puts[1:]
		}
	}
	return merged, nil
}

// share gives an offer the memory of what the service says already.
func (f *Follower) share(r *route.Remote, s *route.Service) {
	if r.Cluster = catalog.ClusterName(f.text(string(r.Cluster))); r.Name == s.Name {
		r.Name = s.Name
	}
	if r.Ports = f.ports(r.Ports); slices.Equal(r.Ports, s.Ports) {
		r.Ports = s.Ports
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		row.Port, row.Zone, row.Subset = f.text(row.Port), f.text(row.Zone), f.text(row.Subset)
	}
}

func (f *Follower) ports(list []catalog.Port) []catalog.Port {
	for i := range list {
		list[i].Name, list[i].Protocol = f.text(list[i].Name), catalog.Protocol(f.text(string(list[i].Protocol)))
	}
	return list
}

// maxTexts bounds the texts and sets that are shared; what comes beyond has
// memory of its own.
const maxTexts = 1 << 16

// text is s, in the memory of the first that was equal.
func (f *Follower) text(s string) string {
	if have, ok := f.texts[s]; ok {
		return have
	}
	if f.texts == nil {
		f.texts = make(map[string]string)
	}
	if len(f.texts) < maxTexts {
		f.texts[s] = s
	}
	return s
}

// set is list, in the memory of the first that was equal.
func (f *Follower) set(list []catalog.ClusterName) []catalog.ClusterName {
	if len(list) == 0 {
		return nil
	}
	var key []byte
	for _, c := range list {
		key = append(append(key, c...), ' ')
	}
	if have, ok := f.sets[string(key)]; ok {
		return have
	}
	if f.sets == nil {
		f.sets = make(map[string][]catalog.ClusterName)
	}
	if len(f.sets) < maxTexts {
		f.sets[string(key)] = list
	}
	return list
}
